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

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from distsoftmax.cluster.communicator import Cluster
from distsoftmax.cluster.exact_sum import ShardSum, bounded_sum
from distsoftmax.config import ObjectiveConfig
from distsoftmax.data.column_sums import columns_of, sum_squares
from distsoftmax.data.features import SparseFeatures
from distsoftmax.data.partition import Partition, Samples
from distsoftmax.objective.feature_bounds import FeatureBounds
from distsoftmax.solvers.protocol import Preconditioner

Floats = NDArray[np.float64]
CurvatureModel: TypeAlias = "NoModel | SampleHessian | KroneckerHessian"

LARGEST_HESSIAN = 1000  # n_classes * (n_features + 1) up to which it is factorised: 0.3 GFLOP
MOST_FEATURES = 2000  # for the Kronecker product: an eigendecomposition of 1 s
MOST_CLASSES = 100  # for the Kronecker product
ROWS_A_COLUMN = 10  # sampled for each column of the matrix that is fitted; 4 need up to half as many steps again
LEAST_ROWS = 2000
COVERED = 1.5  # a sampled mean square below the true one by no more than this factor is taken as it is
DAMPING = 1e-7  # of the mean diagonal: well above the rounding of float32 sums


class NoModel:
    """No model of the hessian."""

    def __call__(self, parameters: Floats) -> None:
        """Return no preconditioner."""
        return


class SampleHessian:
    """The hessian of the sampled rows.

    Parameters
    ----------
    rows : ndarray of float64, (n_rows, n_features + 1)
        The last column holds ones.
    weights : ndarray of float64, (n_rows,)
        Their sum is 1.
    missing : ndarray of float64, (n_features + 1,)
        What the rows lack of each feature's mean square.
    l2 : float
    """

    def __init__(self, rows: Floats, weights: Floats, missing: Floats, l2: float) -> None:
        self._rows = rows
        self._weights = weights
        self._missing = missing
        self._l2 = l2

    def __call__(self, parameters: Floats) -> Preconditioner:
        """Return the inverse at a point."""
        from scipy.linalg import cho_factor, cho_solve

        n_classes, width = parameters.shape
        probabilities = _probabilities(self._rows, parameters)
        roots = np.sqrt(self._weights)[:, None]
        stacked = ((probabilities * roots)[:, :, None] * self._rows[:, None, :]).reshape(len(self._rows), -1)
        hessian = -(stacked.T @ stacked)  # (n_classes * width, n_classes * width)
        spread = self._weights @ (probabilities * (1 - probabilities))
        for k in range(n_classes):
            own = slice(k * width, (k + 1) * width)
            weighted = self._rows * (self._weights * probabilities[:, k])[:, None]
            hessian[own, own] += weighted.T @ self._rows + np.diag(spread[k] * self._missing)
        diagonal = np.diag_indices(len(hessian))
        hessian[diagonal] += self._l2 + DAMPING * hessian[diagonal].mean() + np.finfo(np.float64).tiny
        factor = cho_factor(hessian, overwrite_a=True, check_finite=False)
        return lambda gradient: cho_solve(factor, gradient.ravel(), check_finite=False).reshape(gradient.shape)


class KroneckerHessian:
    """The Kronecker product of two means over the sampled rows; parameters as of `SampleHessian`."""

    def __init__(self, rows: NDArray, weights: Floats, missing: Floats, l2: float) -> None:
        from scipy.linalg import eigh

        self._rows = rows
        self._weights = weights
        self._l2 = l2
        scaled = rows * np.sqrt(weights).astype(rows.dtype)[:, None]
        gram = scaled.T @ scaled
        gram[np.diag_indices(len(gram))] += missing.astype(rows.dtype)
        values, vectors = eigh(gram, driver="evd", overwrite_a=True, check_finite=False)
        self._values = np.maximum(values.astype(np.float64), 0.0)
        self._vectors = vectors

    def __call__(self, parameters: Floats) -> Preconditioner:
        """Return the inverse at a point."""
        probabilities = _probabilities(self._rows, parameters)
        between = -(probabilities * self._weights[:, None]).T @ probabilities
        between[np.diag_indices(len(between))] += self._weights @ probabilities
        values, vectors = np.linalg.eigh(between)
        curvature = np.maximum(values, 0.0)[:, None] * self._values
        curvature += self._l2 + DAMPING * curvature.mean() + np.finfo(np.float64).tiny
        of_features, dtype = self._vectors, self._vectors.dtype

        def apply(gradient: Floats) -> Floats:
            rotated = (vectors.T @ gradient).astype(dtype) @ of_features
            rotated = (rotated / curvature).astype(dtype)
            result: Floats = vectors @ (rotated @ of_features.T).astype(np.float64)
            return result

        return apply


def fit_curvature_model(
    partition: Partition,
    config: ObjectiveConfig,
    shape: tuple[int, int],
    bounds: FeatureBounds,
    seed: int,
    cluster: Cluster,
) -> CurvatureModel:
    """Choose the model that suits the parameters' shape, and fit what of it does not depend on them. Collective."""
    n_classes, width = shape
    if n_classes * width <= LARGEST_HESSIAN:
        n_rows, dtype = max(ROWS_A_COLUMN * n_classes * width, LEAST_ROWS), "float64"
    elif width <= MOST_FEATURES and n_classes <= MOST_CLASSES:
        n_rows, dtype = max(ROWS_A_COLUMN * width, LEAST_ROWS), "float32"
    else:
        return NoModel()
    rows, weights = _draw(partition, width, n_rows, seed, cluster)
    weights /= weights.sum()
    mean_squares = _mean_squares(partition, bounds, cluster)
    lacking = np.maximum(mean_squares - COVERED * (weights @ np.square(rows)), 0.0)
    if not config.intercept:
        rows[:, -1] = 0.0
    # numbers near 1, so that squares neither overflow nor vanish in float32, are for `--standardize`
    model = SampleHessian if n_classes * width <= LARGEST_HESSIAN else KroneckerHessian
    return model(rows.astype(dtype), weights, lacking, config.l2)


def _draw(partition: Partition, width: int, n_rows: int, seed: int, cluster: Cluster) -> tuple[Floats, Floats]:
    """Draw about `n_rows` training rows, each shard's share from it, and give them to every rank. Collective.

    Returns
    -------
    rows : (rows, n_features + 1), in training's units, the last column 1
    weights : (rows,)
    """
    own = []
    with cluster.agreement():
        for some in partition.training:
            size = len(some.features)
            share = min(-(-n_rows * size // partition.n_training), size)
            generator = np.random.Generator(np.random.Philox(key=[seed, some.shard]))
            chosen = np.zeros(size, dtype=bool)
            chosen[generator.permutation(size)[:share]] = True
            own.append((some.shard, *_dense_rows(some, chosen, width, partition.standardization.offset)))
    everywhere = sorted((item for part in cluster.allgather(own) for item in part), key=lambda item: item[0])
    rows = np.concatenate([rows for _, rows, _ in everywhere])
    weights = np.concatenate([weights for _, _, weights in everywhere])
    return rows.astype(np.float64), weights


def _dense_rows(
    samples: Samples, chosen: NDArray[np.bool_], width: int, offset: Floats | None
) -> tuple[NDArray, Floats]:
    features = samples.features[chosen]
    rows = np.ones((int(chosen.sum()), width), dtype=np.float64)
    if isinstance(features, SparseFeatures):
        rows[:, :-1] = 0.0
        rows[:, features.columns] = features.matrix.toarray()
        if offset is not None:
            rows[:, :-1] -= offset
    else:
        rows[:, :-1] = features
    return rows, np.ones(len(rows)) if samples.weights is None else samples.weights[chosen]


def _mean_squares(partition: Partition, bounds: FeatureBounds, cluster: Cluster) -> Floats:
    """Return the weighted mean square of every feature in training's units, (n_features + 1,). Collective."""
    n_features = bounds.largest.size - 1
    zero = np.zeros(n_features)
    squares = (
        ShardSum(some.shard, sum_squares(some.features, zero, some.weights), columns_of(some.features))
        for some in partition.training
    )
    bound = 1.01 * partition.total_weight * bounds.largest[:-1] ** 2
    result = np.ones(n_features + 1)
    result[:-1] = bounded_sum(squares, bound, cluster) / partition.total_weight
    offset = partition.standardization.offset
    if offset is not None:
        result[:-1] = np.maximum(result[:-1] - offset**2, 0.0)
    return result


def _probabilities(rows: NDArray, parameters: Floats) -> NDArray:
    """Return softmax(rows @ parameters.T), (rows, n_classes), in the rows' type."""
    scores: NDArray = rows @ parameters.T.astype(rows.dtype)
    scores -= scores.max(axis=1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=1, keepdims=True)
    return scores
