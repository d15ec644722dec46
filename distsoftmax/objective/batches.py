"""The objective's mini-batches: unbiased estimates of its gradient from a few rows of every shard of all ranks.

A batch takes its share from every shard (`shares.py`), so its rows do not depend on who holds which shard. Each shard's
part of the sum is computed by products of the same shape (`stacked.py`) and rounded once to integers, which one
Allreduce adds: the same bits on any number of ranks. With n samples of weights w, W the sum of these, the estimate from
a batch B is

    n / |B| * sum over B of w_i grad_i / W  +  l2 * coef,

unbiased for any size, that of the short last batch too. Where no weight is above h, |B| h |feature| bounds the batch's
sums, as do those over all samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from distsoftmax.cluster.communicator import Cluster
from distsoftmax.config import ObjectiveConfig
from distsoftmax.data.features import SparseFeatures
from distsoftmax.data.partition import Partition, Samples
from distsoftmax.errors import InputError
from distsoftmax.objective.centring import centre_gradient, for_stored
from distsoftmax.objective.curvature import SoftmaxCurvature
from distsoftmax.objective.evaluation_sum import EvaluationSum
from distsoftmax.objective.feature_bounds import ROOM, FeatureBounds, bound_loss
from distsoftmax.objective.gradient_sum import GradientSum
from distsoftmax.objective.linear import FEATURES_BYTES
from distsoftmax.objective.row_runs import finish_gradient, squared_norm
from distsoftmax.objective.shard_sums import ShardSums
from distsoftmax.objective.shares import Shares, generator
from distsoftmax.objective.smoothness import expected_smoothness
from distsoftmax.objective.stacked import Stack, StackedKernel, tile_rows
from distsoftmax.solvers.protocol import BatchGradient

Floats = NDArray[np.float64]


class SoftmaxBatches:
    """See `solvers.protocol.MiniBatches`.

    Parameters
    ----------
    partition : Partition
    config : ObjectiveConfig
    bounds : FeatureBounds
    sums : ShardSums
    batch_size : int
        At most the number of samples.
    seed : int
    cluster : Cluster

    Raises
    ------
    InputError
        On every rank: not all features stay in memory, so that each batch would read them.

    Notes
    -----
    Collective, as is every call of it.
    """

    def __init__(
        self,
        partition: Partition,
        config: ObjectiveConfig,
        bounds: FeatureBounds,
        sums: ShardSums,
        batch_size: int,
        seed: int,
        cluster: Cluster,
    ) -> None:
        streamed = sum(cluster.allgather(partition.bytes_streamed))
        if streamed:
            raise InputError(
                f"--solver sgd would read {streamed / 2**20:.3g} MiB of features again for every batch, where --memory "
                "has no room for them; allow more, start more ranks, or take lbfgs, trust-region or gradient-descent"
            ).on_all_ranks()
        self.n_batches = -(-partition.n_training // batch_size)
        self._partition = partition
        self._config = config
        self._bounds = bounds
        self._sums = sums
        self._batch_size = batch_size
        self._cluster = cluster
        self._offset = partition.standardization.offset
        own = [some for some in partition.training if len(some.features)]
        sizes = np.zeros(partition.n_shards, dtype=np.int64)
        sizes[[some.shard for some in own]] = [len(some.features) for some in own]
        cluster.sum_integers(sizes)
        heaviest = np.array([max((_heaviest(some) for some in own), default=0.0)])
        cluster.maximum(heaviest)
        self._shares = Shares(sizes, batch_size, seed)
        self._rows = ShuffledRows(own, seed)
        self._weight = min(batch_size * float(heaviest[0]), partition.total_weight)  # a bound on a batch's
        magnitudes = np.minimum(ROOM * self._weight * bounds.largest, bounds.magnitudes)
        self._gradient_sum = GradientSum(magnitudes, len(partition.classes), by_column=partition.sparse)

    def smoothness(self) -> float:
        """Return the expected smoothness of the estimates. Collective: a few passes over all samples."""
        partition, shape = self._partition, (len(self._partition.classes), self._bounds.largest.size)
        at_zero = SoftmaxCurvature(partition, self._config, self._bounds, self._sums, np.zeros(shape))
        return expected_smoothness(at_zero, self._config.l2, shape, self._batch_size, partition, self._cluster)

    def gradient(self, parameters: Floats, epoch: int, batch: int) -> BatchGradient:
        """Return the estimate from a mini-batch. Collective: one Allreduce."""
        config = self._config
        first, counts = self._shares.of(epoch, batch)
        n_samples = int(counts.sum())
        self._rows.shuffle(epoch)
        stored = for_stored(parameters, self._offset)
        bound = bound_loss(stored, self._weight, self._bounds.largest)
        if not math.isfinite(bound):
            return _not_finite(parameters, n_samples)
        evaluation = EvaluationSum(self._gradient_sum, bound)
        total = self._sum_sparse if self._partition.sparse else self._sum_dense
        sums = evaluation.value(total(stored, evaluation, first, counts))
        if sums is None:
            return _not_finite(parameters, n_samples)
        value, gradient = sums
        scale = self._partition.n_training / n_samples / self._partition.total_weight
        value *= scale
        gradient *= scale
        centre_gradient(gradient, self._offset)
        if config.l2 > 0:
            value += config.l2 / 2 * squared_norm(parameters[:, :-1])
        finish_gradient(gradient, parameters, config.l2, config.intercept)
        return BatchGradient(value, gradient, n_samples)

    def _sum_dense(
        self, stored: Floats, evaluation: EvaluationSum, first: NDArray[np.int64], counts: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return the message summed over all ranks, of arrays and `Compact`. Collective: one Allreduce."""
        n_classes, n_features = stored.shape[0], stored.shape[1] - 1
        dtype = self._partition.dtype
        largest = int(counts.max())  # the same on every rank, so the shapes below are, too
        tile = tile_rows(largest, n_features, n_classes, dtype.itemsize)
        stack = self._rows.stack(first, counts, -(-largest // tile) * tile)
        of_shard = max(tile, n_classes) * max(n_features, 1) * dtype.itemsize
        together = max(FEATURES_BYTES // of_shard, 1)

        def work(runs: Iterable[slice]) -> NDArray[np.int64]:
            message = evaluation.empty()
            with np.errstate(all="ignore"):
                kernel = StackedKernel(stored, dtype, tile, min(together, len(stack)))
                for run in runs:
                    evaluation.add_stack(*kernel.loss_and_gradient(stack[run]), message)
            return message

        return self._sums.sum(work, [slice(start, start + together) for start in range(0, len(stack), together)])

    def _sum_sparse(
        self, stored: Floats, evaluation: EvaluationSum, first: NDArray[np.int64], counts: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return the message summed over all ranks, of `SparseFeatures`. Collective: one Allreduce."""

        def work(taken: Iterable[Samples]) -> NDArray[np.int64]:
            return evaluation.of_samples(taken, stored, self._partition.dtype, sparse=True)

        return self._sums.sum(work, self._rows.taken(first, counts))


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
        self._features = [some.features for some in samples if not isinstance(some.features, SparseFeatures)]
        self._seed = seed
        self._epoch = -1
        self._shards = np.array([some.shard for some in samples], dtype=np.intp)
        self._sizes = np.array([len(some.features) for some in samples], dtype=np.intp)
        self._starts = np.cumsum(self._sizes) - self._sizes
        # each shard's rows, their classes and their weights, one shard after the other
        self._order = np.empty(int(self._sizes.sum()), dtype=np.intp)
        self._classes = np.empty_like(self._order)
        weighted = any(some.weights is not None for some in samples)
        self._weights = np.empty(self._order.size) if weighted else None

    def shuffle(self, epoch: int) -> None:
        """Draw the order of an epoch, unless it is the last one drawn."""
        if epoch == self._epoch:
            return
        self._epoch = epoch
        for some, start, size in zip(self._samples, self._starts, self._sizes, strict=True):
            order = generator(self._seed, some.shard, epoch).permutation(size)
            run = slice(start, start + size)
            self._order[run] = order
            self._classes[run] = some.classes[order]
            if self._weights is not None:
                self._weights[run] = 1.0 if some.weights is None else some.weights[order]

    def stack(self, first: NDArray[np.int64], counts: NDArray[np.int64], share: int) -> Stack:
        """Return so many rows of each shard as a batch takes, made up to `share`; see `Shares.of`."""
        place = np.arange(share)
        within = np.minimum(first[self._shards, None] + place, self._sizes[:, None] - 1)
        taken = self._starts[:, None] + within  # (own shards, share)
        weights: Floats | None = None
        real = place < counts[self._shards, None]
        if self._weights is not None:
            weights = self._weights[taken] * real
        elif not real.all():
            weights = real.astype(np.float64)
        return Stack(self._features, self._order[taken], self._classes[taken], weights)

    def taken(self, first: NDArray[np.int64], counts: NDArray[np.int64]) -> Iterator[Samples]:
        """Yield the samples that a batch takes of each shard of sparse features; see `Shares.of`."""
        for some, start in zip(self._samples, self._starts, strict=True):
            begin = int(start + first[some.shard])
            run = slice(begin, begin + int(counts[some.shard]))
            assert isinstance(some.features, SparseFeatures)
            if run.stop > run.start:
                weights = None if self._weights is None else self._weights[run]
                yield Samples(some.shard, some.features.take(self._order[run]), self._classes[run], weights)


def _heaviest(samples: Samples) -> float:
    return 1.0 if samples.weights is None else float(samples.weights.max())


def _not_finite(parameters: Floats, n_samples: int) -> BatchGradient:
    return BatchGradient(math.inf, np.full(parameters.shape, math.nan), n_samples)
