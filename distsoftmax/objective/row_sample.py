"""A sample of the training rows that every rank holds, to fit models of the hessian to.

A row counts in the hessian by its weight, and in a feature's curvature by the square of its value. So most of a row's
chance is in proportion to its weight times its squared norm, in units of the features' mean squares: what occurs in few
rows, and what few rows weigh heavily, is drawn often enough (P. Drineas, R. Kannan and M. W. Mahoney, "Fast Monte Carlo
algorithms for matrices I", SIAM J. Comput. 36(1), 2006, section 4). One tenth is in proportion to its weight alone, for
the intercepts, and one tenth the same for all, lest a few rows of enormous weight are all there is. A row that is drawn
has its weight divided by its chance, which leaves every mean what it is, on average.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from distsoftmax.arithmetic.arrays import Doubles
from distsoftmax.arithmetic.columns import sum_squares
from distsoftmax.arithmetic.randomness import Purpose, uniform
from distsoftmax.cluster.communicator import Communicator
from distsoftmax.cluster.exact_sum import ShardSum, bounded_sum
from distsoftmax.data.dataset import Dataset
from distsoftmax.data.features import SparseFeatures, columns_of, core_columns, row_norms
from distsoftmax.objective.feature_bounds import ROOM, FeatureBounds


def draw_rows(
    dataset: Dataset, mean_squares: Doubles, n_rows: int, seed: int, cluster: Communicator
) -> tuple[NDArray, Doubles]:
    """Draw about `n_rows` training rows and give them to every rank. Collective.

    Returns
    -------
    rows : (rows, n_features + 1), in training's units and type, the last column 1
    weights : (rows,)
    """
    drawn = []
    offset = dataset.standardization.offset
    inverse = np.divide(1.0, mean_squares[:-1], out=np.zeros(mean_squares.size - 1), where=mean_squares[:-1] > 0)
    with cluster.agreement():
        for samples in dataset.training:
            norms = row_norms(samples.features, inverse) / max(inverse.size, 1)
            weights = np.ones(len(norms)) if samples.weights is None else samples.weights
            chances = _chances(norms, weights, dataset, n_rows)
            chosen = uniform(Purpose.SAMPLE, seed, samples.shard, 0, len(chances)) < chances
            rows = _dense_rows(samples.features[chosen], offset, inverse.size, dataset.dtype)
            drawn.append((np.full(len(rows), samples.shard), rows, weights[chosen] / chances[chosen]))
    own = (np.concatenate(arrays) for arrays in zip(*drawn, strict=True)) if drawn else (np.zeros(0),) * 3
    dtypes = np.dtype(np.intp), dataset.dtype, np.dtype(np.float64)
    shards, rows, weights = (  # as bytes, for the rows may be many
        np.frombuffer(b"".join(cluster.allgather_bytes(array.tobytes())), dtype)
        for array, dtype in zip(own, dtypes, strict=True)
    )
    order = np.argsort(shards, kind="stable")
    return rows.reshape(-1, inverse.size + 1)[order], weights[order]


def mean_squares(dataset: Dataset, bounds: FeatureBounds, cluster: Communicator) -> Doubles:
    """Return the weighted mean square of every feature in training's units, (n_features + 1,). Collective."""
    n_features = bounds.largest.size - 1
    squares = (
        ShardSum(
            samples.shard, sum_squares(core_columns(samples.features), samples.weights), columns_of(samples.features)
        )
        for samples in dataset.training
    )
    bound = ROOM * dataset.total_weight * (bounds.largest[:-1] * bounds.largest[:-1])
    result = np.ones(n_features + 1)
    result[:-1] = bounded_sum(squares, bound, cluster) / dataset.total_weight
    offset = dataset.standardization.offset
    if offset is not None:
        result[:-1] = np.maximum(result[:-1] - offset * offset, 0.0)
    return result


def _chances(norms: Doubles, weights: Doubles, dataset: Dataset, n_rows: int) -> Doubles:
    """Return the chance of each row of a shard to be drawn; 0 for a row without weight."""
    if n_rows >= dataset.n_training:
        return np.where(weights > 0, 1.0, 0.0)
    relative = weights * (dataset.n_training / dataset.total_weight)  # 1 on average
    chances = (1 + relative + 8 * relative * norms) * (n_rows / dataset.n_training / 10)
    return np.where(weights > 0, np.minimum(chances, 1.0), 0.0)


def _dense_rows(
    features: NDArray | SparseFeatures, offset: Doubles | None, n_features: int, dtype: np.dtype
) -> NDArray:
    """Return chosen rows as an array, (rows, n_features + 1), the last column 1."""
    rows = np.ones((len(features), n_features + 1), dtype=dtype)
    if isinstance(features, SparseFeatures):
        rows[:, :-1] = 0.0 if offset is None else -offset
        rows[:, features.columns] += features.matrix.toarray()
    else:
        rows[:, :-1] = features
    return rows
