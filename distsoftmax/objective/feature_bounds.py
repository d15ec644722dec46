"""What is measured of the features before the first step: the bounds of all later sums, and the classes' means."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from distsoftmax.arithmetic.arrays import Doubles
from distsoftmax.arithmetic.columns import sum_by_class, sum_magnitudes, sum_weights
from distsoftmax.arithmetic.elementary import log
from distsoftmax.arithmetic.parameters import matrix_vector, row_blocks
from distsoftmax.cluster.communicator import Communicator
from distsoftmax.cluster.exact_sum import ShardSum, bounded_sum
from distsoftmax.data.dataset import Dataset
from distsoftmax.data.features import columns_of, core_columns, extremes
from distsoftmax.data.preparation import Samples

ROOM = 1.01  # for the rounding of a bound in float32
COPIED = 1 << 17  # parameters that are copied at once: all of them may take as much memory as the data


@dataclass(frozen=True)
class FeatureBounds:
    """Numbers that all ranks know of the features, in training's units, the intercept's 1 last.

    Attributes
    ----------
    largest, largest_held_out : ndarray of float64, (n_features + 1,)
        The largest magnitude of each feature.
    magnitudes : ndarray of float64, (n_features + 1,)
        The sum over all samples of weight * magnitude of each feature.
    class_means : ndarray of float64, (n_classes, n_features + 1), or of size 0
        The weighted mean over all samples of e_y (x, 1)^T, where it was asked for.
    """

    largest: Doubles
    largest_held_out: Doubles
    magnitudes: Doubles
    class_means: Doubles


def measure_features(dataset: Dataset, by_class: bool, cluster: Communicator) -> FeatureBounds:
    """Measure the samples of all ranks; the classes' means, of the centred features, where asked to. Collective."""
    shape, offset = dataset.shape, dataset.standardization.offset
    width = shape[1]
    largest = _agree_on_largest(dataset.training, width, cluster)
    largest_held_out = _agree_on_largest(dataset.held_out, width, cluster)
    partials = (
        ShardSum(
            samples.shard, sum_magnitudes(core_columns(samples.features), samples.weights), columns_of(samples.features)
        )
        for samples in dataset.training
    )
    magnitudes = np.empty(width)
    magnitudes[:-1] = bounded_sum(partials, dataset.total_weight * largest[:-1], cluster)
    magnitudes[-1] = dataset.total_weight
    class_means = np.empty((0, 0))
    if by_class:
        class_means = _sum_by_class(dataset, shape, magnitudes, cluster)
        class_means /= dataset.total_weight
        if offset is not None:
            class_means[:, :-1] -= np.outer(class_means[:, -1], offset)
    return FeatureBounds(largest, largest_held_out, magnitudes, class_means)


def largest_score(parameters: Doubles, magnitudes: Doubles) -> float:
    """Return the largest of |parameters| @ magnitudes: no score is larger at features of these magnitudes."""
    with np.errstate(over="ignore", invalid="ignore"):
        blocks = (np.abs(parameters[block]) for block in row_blocks(parameters, COPIED))
        return max(float(matrix_vector(block, magnitudes).max()) for block in blocks)


def bound_loss(parameters: Doubles, weight: float, largest: Doubles) -> float:
    """Bound the sum of the losses of samples of a total weight, whose features are of these magnitudes at most."""
    return ROOM * weight * (log(float(len(parameters))) + 2 * largest_score(parameters, largest))


def _agree_on_largest(shards: Iterable[Samples], width: int, cluster: Communicator) -> Doubles:
    """Return the largest magnitude of each feature on all ranks, and a 1 for the intercept. Collective."""
    largest = np.zeros(width)
    largest[-1] = 1.0
    with cluster.agreement():
        for samples in shards:
            if len(samples.features):
                columns = columns_of(samples.features)
                position = slice(0, width - 1) if columns is None else columns
                largest[position] = np.maximum(largest[position], extremes(samples.features).max(axis=0))
    cluster.maximum(largest)
    return largest


def _sum_by_class(dataset: Dataset, shape: tuple[int, int], magnitudes: Doubles, cluster: Communicator) -> Doubles:
    """Return the sum over samples of weight * e_y (x, 1)^T, shape (n_classes, n_features + 1). Collective."""

    def of_shard(samples: Samples) -> ShardSum:
        n_classes, columns = shape[0], columns_of(samples.features)
        sums = sum_by_class(core_columns(samples.features), samples.classes, n_classes, samples.weights)
        weights = np.bincount(samples.classes, minlength=n_classes).astype(np.float64)
        if samples.weights is not None:
            weights = sum_weights(samples.classes, n_classes, samples.weights)
        columns = None if columns is None else np.append(columns, shape[1] - 1)
        return ShardSum(samples.shard, np.column_stack([sums, weights]), columns)

    return bounded_sum(map(of_shard, dataset.training), magnitudes, cluster, shape)
