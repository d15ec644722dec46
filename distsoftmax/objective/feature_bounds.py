"""What is measured of the features before the first step: the bounds of all later sums, and the classes' means."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distsoftmax.arithmetic.columns import sum_weights
from distsoftmax.arithmetic.elementary import log
from distsoftmax.arithmetic.fixed_point import FixedPoint
from distsoftmax.arithmetic.parameters import matrix_vector
from distsoftmax.cluster.communicator import Communicator
from distsoftmax.cluster.exact_sum import ShardSum, bounded_sum
from distsoftmax.data.column_sums import columns_of, extremes, sum_by_class, sum_magnitudes
from distsoftmax.data.dataset import Dataset
from distsoftmax.data.preparation import Samples
from distsoftmax.objective.row_runs import row_runs

ROOM = 1.01  # for the rounding of a bound in float32


@dataclass(frozen=True, kw_only=True)
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

    largest: NDArray[np.float64]
    largest_held_out: NDArray[np.float64]
    magnitudes: NDArray[np.float64]
    class_means: NDArray[np.float64]


def measure_features(
    dataset: Dataset,
    shape: tuple[int, int],
    by_class: bool,
    offset: NDArray[np.float64] | None,
    cluster: Communicator,
) -> FeatureBounds:
    """Measure the samples of all ranks. Collective.

    Parameters
    ----------
    shape : tuple of int
        The parameters'.
    by_class : bool
        Whether the classes' means are measured.
    offset : ndarray or None
        See `Standardization.offset`; the means are those of the centred features.
    """
    width = shape[1]
    largest = _agree_on_largest(dataset.training, width, cluster)
    largest_held_out = _agree_on_largest(dataset.held_out, width, cluster)
    partials = (
        ShardSum(some.shard, sum_magnitudes(some.features, some.weights), columns_of(some.features))
        for some in dataset.training
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
    return FeatureBounds(
        largest=largest,
        largest_held_out=largest_held_out,
        magnitudes=magnitudes,
        class_means=class_means,
    )


def largest_score(parameters: NDArray[np.float64], magnitudes: NDArray[np.float64]) -> float:
    """Return the largest of |parameters| @ magnitudes: no score is larger at features of these magnitudes."""
    with np.errstate(over="ignore", invalid="ignore"):
        return max(float(np.max(matrix_vector(np.abs(parameters[run]), magnitudes))) for run in row_runs(parameters))


def bound_loss(parameters: NDArray[np.float64], weight: float, largest: NDArray[np.float64]) -> float:
    """Bound the sum of the losses of samples of a total weight, whose features are of these magnitudes at most."""
    return ROOM * weight * (log(float(len(parameters))) + 2 * largest_score(parameters, largest))


def _agree_on_largest(samples: Iterable[Samples], width: int, cluster: Communicator) -> NDArray[np.float64]:
    """Return the largest magnitude of each feature on all ranks, and a 1 for the intercept. Collective."""
    largest = np.zeros(width)
    largest[-1] = 1.0
    with cluster.agreement():
        for some in samples:
            if len(some.features):
                columns = columns_of(some.features)
                place = slice(0, width - 1) if columns is None else columns
                largest[place] = np.maximum(largest[place], extremes(some.features).max(axis=0))
    cluster.maximum(largest)
    return largest


def _sum_by_class(
    dataset: Dataset, shape: tuple[int, int], magnitudes: NDArray[np.float64], cluster: Communicator
) -> NDArray[np.float64]:
    """Return the sum over samples of weight * e_y (x, 1)^T, shape (n_classes, n_features + 1). Collective."""
    fixed = FixedPoint(magnitudes)
    limbs = np.zeros((2, *shape), dtype=np.int64)
    with cluster.agreement():
        for some in dataset.training:
            sums = sum_by_class(some.features, some.classes, some.weights, shape[0])
            columns = columns_of(some.features)
            place = np.arange(shape[1] - 1) if columns is None else columns
            limbs[:, :, place] += fixed.limbs(sums, place)
            limbs[:, :, -1] += fixed.limbs(_weights_by_class(some, shape[0]), -1)
    cluster.sum_integers(limbs)
    return fixed.value(limbs[0], limbs[1])


def _weights_by_class(samples: Samples, n_classes: int) -> NDArray[np.float64]:
    if samples.weights is None:
        return np.bincount(samples.classes, minlength=n_classes).astype(np.float64)
    return sum_weights(samples.classes, n_classes, samples.weights)
