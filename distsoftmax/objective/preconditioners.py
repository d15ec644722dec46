"""Cheap models of the hessian, from a sample of the rows, whose inverses precondition the solvers.

    hessian = mean_i (diag(p_i) - p_i p_i^T) (x) (x_i, 1)(x_i, 1)^T + l2

- Where n_classes * n_features is small, the mean is taken over the sampled rows as it stands, and factorised.
- Where n_features is moderate, it is replaced by a Kronecker product, (mean_i diag(p_i) - p_i p_i^T) (x)
  (mean_i x_i x_i^T), which two small eigendecompositions invert together with l2 (J. Martens and R. Grosse, "Optimizing
  neural networks with Kronecker-factored approximate curvature", ICML 2015, for one layer).
- Else there is none: solvers scale by the curvature they meet.

Features that occur in few rows may be missing from a sample, and a model without their curvature would send steps far
too long; what the sample lacks of each feature's mean square is added on the diagonal.

Every rank holds the same sampled rows and does the same arithmetic, so nothing here depends on who holds which shard.
"""

from __future__ import annotations

import contextlib
import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from distsoftmax.arithmetic.randomness import Purpose, uniform
from distsoftmax.cluster.communicator import Cluster
from distsoftmax.cluster.exact_sum import ShardSum, bounded_sum
from distsoftmax.config import ObjectiveConfig
from distsoftmax.data.column_sums import columns_of, row_norms, sum_squares
from distsoftmax.data.features import SparseFeatures
from distsoftmax.data.partition import Partition
from distsoftmax.objective.feature_bounds import ROOM, FeatureBounds
from distsoftmax.solvers.protocol import Preconditioner

Floats = NDArray[np.float64]
CurvatureModel: TypeAlias = "NoModel | SampleHessian | KroneckerHessian"

LARGEST_HESSIAN = 1000  # n_classes * (n_features + 1) up to which it is factorised: 0.3 GFLOP
MOST_FEATURES = 2000  # for the Kronecker product: an eigendecomposition of 1 s
MOST_CLASSES = 1000
MOST_ROWS, FEWEST_ROWS = 10, 4  # sampled for each column of the matrix that is fitted
MOST_NUMBERS = 4_000_000  # in these rows: every rank holds them
WORTHWHILE = 10  # an eigendecomposition of n_features^3 takes less time than the some hundred passes it saves
PASSES = 8  # the more samples there are, the more rows make a fit of about the time of a few passes
COVERED = 1.5  # a sampled mean square below the true one by no more than this factor is taken as it is
DAMPINGS = (1e-9, 1e-6, 1e-3, 1.0)  # of the diagonal: the first is above the rounding of float64, mostly
CANCELLED = 1e-13  # of the mean of p x^2
UNPENALISED = 1e-3  # of the mean diagonal, in place of l2: without one, Newton's step may be far too long
LEAST_CURVATURE = 1e-12  # of the largest
ROUNDING = 1e-6  # of the largest eigenvalue: above that of float32


class NoModel:
    """No model of the hessian."""

    def __call__(self, parameters: Floats, l2: float) -> None:
        """Return no preconditioner."""
        return


class SampleHessian:
    """The hessian of the sampled rows.

    Parameters
    ----------
    rows : ndarray, (n_rows, n_features + 1)
        The last column holds ones.
    weights : ndarray of float64, (n_rows,)
        Their sum is 1.
    missing : ndarray of float64, (n_features + 1,)
        What the rows lack of each feature's mean square.
    """

    def __init__(self, rows: Floats, weights: Floats, missing: Floats) -> None:
        self._rows = rows.astype(np.float64)
        self._weights = weights
        self._missing = missing

    def __call__(self, parameters: Floats, l2: float) -> Preconditioner:
        """Return the inverse at a point, of the hessian with an L2 term of this weight."""
        from scipy.linalg import cho_factor, cho_solve

        n_classes, width = parameters.shape
        probabilities = _probabilities(self._rows, 1.0, parameters)
        weights = self._weights[:, None]
        stacked = ((probabilities * np.sqrt(weights))[:, :, None] * self._rows[:, None, :]).reshape(len(weights), -1)
        hessian = -(stacked.T @ stacked)  # (n_classes * width, n_classes * width)
        spread = self._weights @ (probabilities * (1 - probabilities))
        for k in range(n_classes):
            own = slice(k * width, (k + 1) * width)
            weighted = self._rows * (weights * probabilities[:, k : k + 1])
            hessian[own, own] += weighted.T @ self._rows + np.diag(spread[k] * self._missing)
        diagonal = np.diag_indices(len(hessian))
        # near certainty p - p^2 cancels, and rounding is that of the sums of p
        hessian[diagonal] += CANCELLED * ((weights * probabilities).T @ np.square(self._rows)).ravel()
        least = l2 or UNPENALISED * float(hessian[diagonal].mean())
        hessian[diagonal] += least + LEAST_CURVATURE * _largest(hessian[diagonal])
        for damping in DAMPINGS:
            hessian[diagonal] += damping * np.abs(hessian[diagonal])
            with contextlib.suppress(np.linalg.LinAlgError):
                factor = cho_factor(hessian, check_finite=False)
                if np.isfinite(np.diagonal(factor[0])).all():
                    break
        else:
            return np.copy  # a hessian that is not finite tells nothing

        def apply(gradient: Floats) -> Floats:
            result: Floats = cho_solve(factor, gradient.ravel(), check_finite=False).reshape(gradient.shape)
            return result

        return apply


class KroneckerHessian:
    """The Kronecker product of two means over the sampled rows; parameters as of `SampleHessian`."""

    def __init__(self, rows: NDArray, weights: Floats, missing: Floats) -> None:
        self._rows, self._unit = _in_float32(rows)
        self._weights = weights
        weighted = self._rows * np.sqrt(weights).astype(np.float32)[:, None]
        gram = weighted.T @ weighted
        gram[np.diag_indices(len(gram))] += (missing / self._unit).astype(np.float32)
        values, self._vectors = np.linalg.eigh(gram)
        self._values = np.maximum(values.astype(np.float64), 0.0)

    def __call__(self, parameters: Floats, l2: float) -> Preconditioner:
        """Return the inverse at a point, of the hessian with an L2 term of this weight."""
        probabilities = _probabilities(self._rows, self._unit, parameters)
        between = -(probabilities * self._weights[:, None]).T @ probabilities
        between[np.diag_indices(len(between))] += self._weights @ probabilities
        values, vectors = np.linalg.eigh(between)
        curvature = np.maximum(values, 0.0)[:, None] * self._values
        curvature += (l2 / self._unit or UNPENALISED * float(curvature.mean())) + ROUNDING * _largest(curvature)
        largest = _largest(curvature)
        inverse = (largest / curvature).astype(np.float32)  # 1 to 1e6
        of_classes, of_features = vectors.astype(np.float32), self._vectors

        def apply(gradient: Floats) -> Floats:
            scale = float(np.abs(gradient).max()) or 1.0  # float32 has no room for the small gradients of the end
            rotated = of_classes.T @ (gradient / scale).astype(np.float32) @ of_features
            rotated *= inverse
            result: Floats = (of_classes @ (rotated @ of_features.T)).astype(np.float64)
            result *= scale / largest / self._unit
            return result

        return apply


def curvature_model(shape: tuple[int, int], n_samples: int) -> type[Any]:
    """Return the class of the model that suits parameters of a shape, (n_classes, n_features + 1)."""
    n_classes, width = shape
    if n_classes * width <= LARGEST_HESSIAN:
        return SampleHessian
    pays = width * width <= WORTHWHILE * n_samples * n_classes
    return KroneckerHessian if pays and width <= MOST_FEATURES and n_classes <= MOST_CLASSES else NoModel


def fit_curvature_model(
    partition: Partition,
    config: ObjectiveConfig,
    shape: tuple[int, int],
    bounds: FeatureBounds,
    seed: int,
    cluster: Cluster,
) -> CurvatureModel:
    """Fit what of the model that suits the parameters' shape does not depend on the parameters. Collective."""
    model = curvature_model(shape, partition.n_training)
    if model is NoModel:
        return NoModel()
    size, n_rows = math.prod(shape), min(MOST_ROWS * shape[1], MOST_NUMBERS // shape[1])
    if model is SampleHessian:
        n_rows = min(MOST_ROWS * size, max(FEWEST_ROWS * size, PASSES * partition.n_training // size))
    mean_squares = _mean_squares(partition, bounds, cluster)
    rows, weights = _draw(partition, mean_squares, n_rows, seed, cluster)
    if not 0 < weights.sum() < np.inf:
        return NoModel()
    weights /= weights.sum()
    lacking = np.maximum(mean_squares - COVERED * (weights.astype(rows.dtype) @ np.square(rows)), 0.0)
    if not config.intercept:
        rows[:, -1] = 0.0
    fitted: CurvatureModel = model(rows, weights, lacking)
    return fitted


def _draw(
    partition: Partition, mean_squares: Floats, n_rows: int, seed: int, cluster: Cluster
) -> tuple[Floats, Floats]:
    """Draw about `n_rows` training rows and give them to every rank. Collective.

    Half of a row's chance is the same for all, half follows its norm in units of the features' mean squares, so that
    what occurs in few rows is drawn often enough (P. Drineas, R. Kannan and M. W. Mahoney, "Fast Monte Carlo algorithms
    for matrices I", SIAM J. Comput. 36(1), 2006, section 4). A row's weight is divided by its chance.

    Returns
    -------
    rows : (rows, n_features + 1), in training's units and type, the last column 1
    weights : (rows,)
    """
    own = []
    share, offset = n_rows / partition.n_training, partition.standardization.offset
    inverse = np.divide(1.0, mean_squares[:-1], out=np.zeros(mean_squares.size - 1), where=mean_squares[:-1] > 0)
    with cluster.agreement():
        for some in partition.training:
            norms = row_norms(some.features, inverse) / max(inverse.size, 1)
            chances = np.minimum(share * (1 + norms) / 2, 1.0) if share < 1 else np.ones(len(norms))
            if some.weights is not None:
                chances[some.weights == 0] = 0.0
            chosen = uniform(Purpose.SAMPLE, seed, some.shard, 0, len(chances)) < chances
            weights = 1 / chances[chosen] if some.weights is None else some.weights[chosen] / chances[chosen]
            rows = _dense_rows(some.features[chosen], offset, inverse.size, partition.dtype)
            own.append((some.shard, rows, weights))
    everywhere = sorted((item for part in cluster.allgather(own) for item in part), key=lambda item: item[0])
    rows = np.concatenate([rows for _, rows, _ in everywhere])
    weights = np.concatenate([weights for _, _, weights in everywhere])
    return rows, weights


def _dense_rows(features: NDArray | SparseFeatures, offset: Floats | None, n_features: int, dtype: np.dtype) -> NDArray:
    """Return chosen rows as an array, (rows, n_features + 1), the last column 1."""
    rows = np.ones((len(features), n_features + 1), dtype=dtype)
    if isinstance(features, SparseFeatures):
        rows[:, :-1] = 0.0 if offset is None else -offset
        rows[:, features.columns] += features.matrix.toarray()
    else:
        rows[:, :-1] = features
    return rows


def _mean_squares(partition: Partition, bounds: FeatureBounds, cluster: Cluster) -> Floats:
    """Return the weighted mean square of every feature in training's units, (n_features + 1,). Collective."""
    n_features = bounds.largest.size - 1
    squares = (
        ShardSum(some.shard, sum_squares(some.features, None, some.weights), columns_of(some.features))
        for some in partition.training
    )
    bound = ROOM * partition.total_weight * bounds.largest[:-1] ** 2
    result = np.ones(n_features + 1)
    result[:-1] = bounded_sum(squares, bound, cluster) / partition.total_weight
    offset = partition.standardization.offset
    if offset is not None:
        result[:-1] = np.maximum(result[:-1] - offset**2, 0.0)
    return result


def _in_float32(rows: NDArray) -> tuple[NDArray[np.float32], float]:
    """Return rows of numbers near 1, and the square of what they were divided by: squares stay within float32."""
    largest = max(float(rows.max()), -float(rows.min()))
    return (rows / rows.dtype.type(largest)).astype(np.float32, copy=False), largest**2


def _largest(curvatures: Floats) -> float:
    return max(float(curvatures.max()), float(np.finfo(np.float64).tiny))


def _probabilities(rows: NDArray[Any], unit: float, parameters: Floats) -> NDArray[Any]:
    """Return softmax(rows @ parameters.T * sqrt(unit)), (n_rows, n_classes), in the rows' type."""
    scores: NDArray[Any] = rows @ (parameters.T * np.sqrt(unit)).astype(rows.dtype)
    scores -= scores.max(axis=1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=1, keepdims=True)
    return scores
