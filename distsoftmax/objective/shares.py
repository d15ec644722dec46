"""Which of a shard's rows each mini-batch takes: pure index arithmetic, the same on every rank.

In each epoch every shard's rows are permuted, and each batch takes the next few of every shard, in proportion to what
it has left, rounded up or down at random such that

- a batch holds as many samples as asked for, the last one what is left,
- an epoch holds every sample once,
- every sample left is as likely as any other to be in the next batch, so that the batch's mean is unbiased.

It is systematic sampling (W. G. Madow and L. H. Madow, "On the theory of systematic sampling, I", Ann. Math. Statist.
15, 1944): with the rows left laid end to end, shard after shard, M in all, and c drawn from 0 ... M - 1, the place x is
cut at floor((B x + c) / M). Of a run of r rows floor(B r / M) or one more are taken, B r / M in the mean; of all M, B.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from distsoftmax.arithmetic.randomness import Purpose, below


class Shares:
    """The rows that each shard gives to each batch, as places in its permutation.

    Parameters
    ----------
    sizes : ndarray of int64, (n_shards,)
        The rows of each shard.
    batch_size : int
        At most their sum.
    seed : int
    """

    def __init__(self, sizes: NDArray[np.int64], batch_size: int, seed: int) -> None:
        self._sizes = sizes
        self._batch_size = batch_size
        self._seed = seed
        self._epoch, self._batch = -1, 0
        self._given = sizes
        self._left = sizes

    def of(self, epoch: int, batch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the first place of each shard's rows in a batch, and how many they are; both (n_shards,).

        The batches of an epoch follow from each other, so going on is quick, and going back starts the epoch again.
        """
        if epoch != self._epoch or batch < self._batch:
            self._epoch, self._batch = epoch, 0
            self._given, self._left = np.zeros_like(self._sizes), self._sizes
        while True:
            first, counts = self._given, self._draw()
            self._given, self._left = first + counts, self._left - counts
            self._batch += 1
            if self._batch > batch:
                return first, counts

    def _draw(self) -> NDArray[np.int64]:
        """Return how many rows each shard gives to the next batch."""
        ends = np.cumsum(self._left, dtype=np.int64)
        n_left = int(ends[-1])
        size = min(self._batch_size, n_left)
        if size * n_left >= 2**62:
            ends = ends.astype(object)  # integers of any size
        cuts = (size * ends + below(Purpose.CUTS, self._seed, self._batch, self._epoch, n_left)) // n_left
        return np.diff(cuts, prepend=0).astype(np.int64)
