"""The hessian of the smooth part of the objective at one point, over all shards of all ranks.

A product costs one pass over the samples and one Allreduce. Along u = direction (x, 1) a sample's gradient changes by
p_k (u_k - sum_l p_l u_l), of magnitude at most max |u| / 2, so |feature| max |u| / 2 bounds the sums.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from distsoftmax.config import ObjectiveConfig
from distsoftmax.data.partition import Partition, Samples
from distsoftmax.objective.centring import centre_gradient, for_stored
from distsoftmax.objective.feature_bounds import ROOM, FeatureBounds, largest_score
from distsoftmax.objective.gradient_sum import GradientSum
from distsoftmax.objective.linear import Floats
from distsoftmax.objective.row_runs import finish_gradient
from distsoftmax.objective.shard_sums import ShardSums
from distsoftmax.objective.softmax import HessianKernel, SoftmaxKernel


class SoftmaxCurvature:
    """See `solvers.protocol.Curvature`.

    The probabilities are computed once and kept, where all features are in memory and the probabilities take no more
    of it.
    """

    def __init__(
        self,
        partition: Partition,
        config: ObjectiveConfig,
        bounds: FeatureBounds,
        sums: ShardSums,
        parameters: NDArray[np.float64],
    ) -> None:
        self._partition = partition
        self._config = config
        self._bounds = bounds
        self._sums = sums
        self._offset = partition.standardization.offset
        self._stored = for_stored(parameters, self._offset)
        self._keeps = False
        if partition.bytes_streamed == 0:
            n_probabilities = len(parameters) * sum(some.classes.size for some in partition.training)
            self._keeps = n_probabilities * partition.dtype.itemsize <= partition.bytes_held
        self._kept: dict[int, list[tuple[slice, Floats]]] = {}

    def product(self, direction: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the hessian's product with a direction. Collective: one Allreduce."""
        partition, config, bounds = self._partition, self._config, self._bounds
        if not config.intercept:
            direction = direction.copy()
            direction[:, -1] = 0.0
        along = for_stored(direction, self._offset)
        largest = ROOM * largest_score(along, bounds.largest)
        if largest == 0.0:
            return np.zeros_like(direction)
        if not np.isfinite(largest * bounds.magnitudes).all():
            return np.full_like(direction, np.nan)
        gradient_sum = GradientSum(largest / 2 * bounds.magnitudes, len(direction), by_column=partition.sparse)

        def work(samples: Iterable[Samples]) -> NDArray[np.int64]:
            message = np.zeros(gradient_sum.size + 1, dtype=np.int64)
            with np.errstate(all="ignore"):
                at_point = SoftmaxKernel(self._stored, partition.dtype, sparse=partition.sparse)
                kernel = HessianKernel(along, partition.dtype, sparse=partition.sparse)
                for some in samples:
                    product = kernel.product(some.features, self._probabilities(some, at_point), some.weights)
                    if not gradient_sum.add(product, message[:-1]):
                        message[-1] += 1
            return message

        message = self._sums.sum(work, partition.training)
        if message[-1]:
            return np.full_like(direction, np.nan)
        result = gradient_sum.value(message)
        result /= partition.total_weight
        centre_gradient(result, self._offset)
        finish_gradient(result, direction, config.l2, config.intercept)
        return result

    def _probabilities(self, samples: Samples, kernel: SoftmaxKernel) -> Iterable[tuple[slice, Floats]]:
        if not self._keeps:
            return kernel.probability_blocks(samples.features)
        if samples.shard not in self._kept:
            self._kept[samples.shard] = [
                (run, block.copy()) for run, block in kernel.probability_blocks(samples.features)
            ]
        return self._kept[samples.shard]
