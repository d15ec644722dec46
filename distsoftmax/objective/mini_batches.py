"""The objective's mini-batches: unbiased estimates of the data fit from a few rows of every shard of all ranks.

A batch takes rows from every shard (`shares.py`), so its rows do not depend on who holds which shard. Each shard's part
of the sum is rounded once to integers, which one Allreduce adds: the same bits on any number of ranks. With n samples
of weights w, W the sum of these, the estimate from a batch B is

    n / |B| * sum over B of w_i loss_i / W,

unbiased for any size, that of the short last batch too. Where no weight is above h, |B| h |feature| bounds the batch's
sums, as do those over all samples.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from distsoftmax.arithmetic.fixed_point import FixedPoint
from distsoftmax.arithmetic.randomness import Purpose, permutation
from distsoftmax.arithmetic.sums import Sums
from distsoftmax.data.dataset import Dataset
from distsoftmax.data.preparation import Samples
from distsoftmax.objective.centring import for_stored
from distsoftmax.objective.cross_entropy import CrossEntropy, Fit
from distsoftmax.objective.feature_bounds import ROOM, bound_loss
from distsoftmax.objective.shares import Shares


class FitBatches:
    """The mini-batches of a data fit: those of an epoch hold every sample once.

    Parameters
    ----------
    fit : CrossEntropy
    batch_size : int
        At most the number of samples.
    seed : int

    Attributes
    ----------
    n_batches : int
        Of an epoch; the last takes the rows that remain.

    Notes
    -----
    Collective, as is every call of it.
    """

    def __init__(self, fit: CrossEntropy, batch_size: int, seed: int) -> None:
        dataset, cluster = fit.dataset, fit.cluster
        self.n_batches = -(-dataset.n_training // batch_size)
        self._fit = fit
        self._seed = seed
        own = _with_rows(dataset)
        sizes = np.zeros(dataset.n_shards, dtype=np.int64)
        sizes[[samples.shard for samples in own]] = [len(samples) for samples in own]
        cluster.sum_integers(sizes)
        heaviest = np.array([max((_heaviest(samples) for samples in own), default=0.0)])
        cluster.maximum(heaviest)
        self._shares = Shares(sizes, batch_size, seed)
        self._rows = ShuffledRows(own, seed)
        self._weight = min(batch_size * float(heaviest[0]), dataset.total_weight)  # a bound on a batch's
        magnitudes = np.minimum(ROOM * self._weight * fit.bounds.largest, fit.bounds.magnitudes)
        self._gradient_scale = FixedPoint(magnitudes)

    def over(self, fit: CrossEntropy) -> FitBatches:
        """Return the same mini-batches, of a fit whose ranks hold other shards. Not collective."""
        batches = copy.copy(self)
        batches._fit, batches._rows = fit, ShuffledRows(_with_rows(fit.dataset), self._seed)
        return batches

    def estimate(self, parameters: NDArray[np.float64], epoch: int, batch: int) -> tuple[Fit, int]:
        """Return the estimate of the fit, and the samples it is made from. Collective: one Allreduce."""
        fit, dataset = self._fit, self._fit.dataset
        first, counts = self._shares.of(epoch, batch)
        n_samples = int(counts.sum(dtype=np.int64))
        self._rows.shuffle(epoch)
        stored = for_stored(parameters, fit.offset)
        bound = bound_loss(stored, self._weight, fit.bounds.largest)
        if not math.isfinite(bound):
            return Fit.not_finite(fit.shape), n_samples
        sums = Sums(self._gradient_scale, FixedPoint(bound), fit.shape[0], dataset.sparse)
        scorer = fit.scorer(stored, dataset.dtype)

        def work(shards: Iterable[tuple[Samples, NDArray[np.int64]]]) -> NDArray[np.int64]:
            totals = sums.empty()
            for samples, rows in shards:
                scorer.add_loss_and_gradient(samples.rows(dataset.dtype).taking(rows), totals)
            return totals.array

        array = fit.sums.sum(work, self._rows.taken(first, counts))
        dataset.training.release()
        weight = dataset.total_weight * (n_samples / dataset.n_training)
        return fit.finished(sums, array, bound, weight), n_samples


class ShuffledRows:
    """The training rows of this rank, in the order in which the batches of an epoch take them.

    Parameters
    ----------
    samples : sequence of Samples
        Those of the shards that have any.
    seed : int
    """

    def __init__(self, samples: Sequence[Samples], seed: int) -> None:
        self._samples = samples
        self._seed = seed
        self._epoch = -1
        self._order: list[NDArray[np.int64]] = []

    def shuffle(self, epoch: int) -> None:
        """Draw the order of an epoch, unless it is the last one drawn."""
        if epoch == self._epoch:
            return
        self._epoch = epoch
        self._order = [
            permutation(Purpose.PERMUTATION, self._seed, samples.shard, epoch, len(samples)).astype(np.int64)
            for samples in self._samples
        ]

    def taken(self, first: NDArray[np.int64], counts: NDArray[np.int64]) -> list[tuple[Samples, NDArray[np.int64]]]:
        """Return each shard's samples with the numbers of the rows that a batch takes; see `Shares.of`."""
        shards = []
        for samples, order in zip(self._samples, self._order, strict=True):
            start, count = int(first[samples.shard]), int(counts[samples.shard])
            if count:
                shards.append((samples, order[start : start + count]))
        return shards


def _with_rows(dataset: Dataset) -> list[Samples]:
    return [samples for samples in dataset.training if len(samples)]


def _heaviest(samples: Samples) -> float:
    return 1.0 if samples.weights is None else float(samples.weights.max())
