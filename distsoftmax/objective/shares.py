"""Which of a shard's rows each mini-batch takes: pure index arithmetic, the same on every rank.

In each epoch every shard's rows are permuted, and each batch takes the next few of every shard, in proportion to what
remains of it, rounded up or down at random such that

- a batch holds as many samples as asked for, the last one what remains,
- an epoch holds every sample once,
- each remaining sample is as likely as any other to be in the next batch, so that the batch's mean is unbiased.

It is systematic sampling (W. G. Madow and L. H. Madow, "On the theory of systematic sampling, I", Ann. Math. Statist.
15, 1944): lay the M remaining rows end to end, shard after shard, and draw c from 0 ... M - 1. The batch has taken
floor((B x + c) / M) of the first x rows. Of r rows of a shard it takes floor(B r / M) or one more, B r / M in the mean;
of all M, B.
"""

from __future__ import annotations

import numpy as np

from distsoftmax.arithmetic.arrays import Integers
from distsoftmax.arithmetic.randomness import Purpose, below


class Shares:
    """The rows that each shard gives to each batch, as positions in its permutation.

    Parameters
    ----------
    sizes : ndarray of int64, (n_shards,)
        The rows of each shard.
    batch_size : int
        At most their sum.
    seed : int
    """

    def __init__(self, sizes: Integers, batch_size: int, seed: int) -> None:
        self._sizes = sizes
        self._batch_size = batch_size
        self._seed = seed
        self._epoch, self._batch = -1, 0
        self._given, self._remaining = sizes, sizes  # rows of each shard in the batches before, and in later ones

    def of(self, epoch: int, batch: int) -> tuple[Integers, Integers]:
        """Return the first position of each shard's rows in a batch, and how many they are; both (n_shards,).

        The batches of an epoch follow from each other, so going on is quick, and going back starts the epoch again.
        """
        if epoch != self._epoch or batch < self._batch:
            self._epoch, self._batch = epoch, 0
            self._given, self._remaining = np.zeros_like(self._sizes), self._sizes
        while True:
            first, counts = self._given, self._draw()
            self._given, self._remaining = first + counts, self._remaining - counts
            self._batch += 1
            if self._batch > batch:
                return first, counts

    def _draw(self) -> Integers:
        """Return how many rows each shard gives to the next batch."""
        ends = np.cumsum(self._remaining, dtype=np.int64)
        n_remaining = int(ends[-1])
        size = min(self._batch_size, n_remaining)
        if size * n_remaining >= 2**62:
            ends = ends.astype(object)  # integers of any size
        cuts = (size * ends + below(Purpose.CUTS, self._seed, self._batch, self._epoch, n_remaining)) // n_remaining
        counts: Integers = cuts.astype(np.int64)
        counts[1:] -= counts[:-1].copy()
        return counts
