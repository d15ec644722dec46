"""Sums and extremes of a shard's columns, for every kind of features, in float64.

A sparse shard's results cover its own columns only, as `SparseFeatures.columns` names them. The sums are those of
`arithmetic.columns`.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from distsoftmax.arithmetic import columns as arithmetic
from distsoftmax.arithmetic import parameters
from distsoftmax.arithmetic.columns import DenseColumns, SparseColumns
from distsoftmax.data.features import Compact, SparseFeatures

Vector = NDArray[np.float64]
Columns: TypeAlias = "NDArray | Compact | SparseFeatures"


def columns_of(features: Columns) -> NDArray[np.int64] | None:
    """Return the columns that results cover; None for all."""
    return features.columns if isinstance(features, SparseFeatures) else None


def sum_values(features: Columns, weights: Vector | None) -> Vector:
    """Return the sum over rows of weight * x."""
    return arithmetic.sum_values(_numbers(features), weights)


def sum_magnitudes(features: Columns, weights: Vector | None) -> Vector:
    """Return the sum over rows of weight * |x|."""
    return arithmetic.sum_magnitudes(_numbers(features), weights)


def sum_squares(features: Columns, mean: Vector | None, weights: Vector | None) -> Vector:
    """Return the sum of weight * (x - mean)^2 over rows or, for sparse features, over the entries that are stored.

    The mean is that of all columns of the source; None: 0.
    """
    if mean is not None and isinstance(features, SparseFeatures):
        mean = mean[features.columns]
    return arithmetic.sum_squares(_numbers(features), weights, mean)


def sum_entry_weights(features: SparseFeatures, weights: Vector | None) -> Vector:
    """Return the sum of the weights of each column's stored entries."""
    return arithmetic.sum_entry_weights(_sparse(features), weights)


def sum_by_class(features: Columns, classes: NDArray[np.intp], weights: Vector | None, n_classes: int) -> Vector:
    """Return the sum over the rows of each class of weight * x, shape (n_classes, columns)."""
    return arithmetic.sum_by_class(_numbers(features), classes, n_classes, weights)


def row_norms(features: Columns, factors: Vector | None = None, offset: Vector | None = None) -> Vector:
    """Return for each row the sum over columns of factor * x^2, (rows,).

    Parameters
    ----------
    factors : ndarray of float64, (n_features,), or None
        Of all columns trained on; None: 1.
    offset : ndarray of float64, (n_features,), or None
        For sparse features, and without factors: x - offset stands for x, also where no entry is stored.
    """
    if not isinstance(features, SparseFeatures):
        return arithmetic.row_norms(_numbers(features), factors)
    factors = None if factors is None else factors[features.columns]
    if offset is None:
        return arithmetic.row_norms(_sparse(features), factors)
    shift, start = 2 * offset[features.columns], parameters.squared_norm(offset)
    return arithmetic.row_norms(_sparse(features), factors, shift, start)


def extremes(features: Columns) -> Vector:
    """Return each column's largest value, and minus its smallest, shape (2, columns); rows without entry count as 0."""
    result = np.full((2, int(features.shape[1])), -np.inf)
    if not len(features):
        return result
    if isinstance(features, SparseFeatures):
        by_column = features.matrix.tocsc()
        n_entries = np.diff(by_column.indptr)
        present = np.flatnonzero(n_entries)
        starts = by_column.indptr[:-1][present]
        result[:] = 0.0
        if present.size:
            highest = np.maximum.reduceat(by_column.data, starts).astype(np.float64)
            lowest = np.minimum.reduceat(by_column.data, starts).astype(np.float64)
            has_zeros = n_entries[present] < len(features)
            result[0, present] = np.where(has_zeros, np.maximum(highest, 0), highest)
            result[1, present] = -np.where(has_zeros, np.minimum(lowest, 0), lowest)
        return result
    stored = features.stored if isinstance(features, Compact) else features
    largest, smallest = stored.max(axis=0), stored.min(axis=0)
    if isinstance(features, Compact):  # no step of decoding changes which of two numbers is larger
        largest, smallest = features.decoded(largest), features.decoded(smallest)
    result[0] = largest
    result[1] = -smallest.astype(np.float64)
    return result


def _numbers(features: Columns) -> DenseColumns | SparseColumns:
    """Return the features as the arithmetic takes them."""
    if isinstance(features, SparseFeatures):
        return _sparse(features)
    if isinstance(features, Compact):
        return DenseColumns(features.stored, features.mean, features.inverse)
    return DenseColumns(features)


def _sparse(features: SparseFeatures) -> SparseColumns:
    matrix = features.matrix
    return SparseColumns(matrix.data, matrix.indices, matrix.indptr, int(matrix.shape[1]))
