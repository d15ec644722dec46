"""Sums and extremes of a shard's columns, for every kind of features, in float64.

A sparse shard's results cover its own columns only, as `SparseFeatures.columns` names them.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from distsoftmax.data.features import Compact, SparseFeatures

Vector = NDArray[np.float64]
Columns: TypeAlias = "NDArray | Compact | SparseFeatures"


def columns_of(features: Columns) -> NDArray[np.int64] | None:
    """Return the columns that results cover; None for all."""
    return features.columns if isinstance(features, SparseFeatures) else None


def n_columns(features: Columns) -> int:
    """Return how many columns results cover."""
    return int(features.shape[1])


def sum_values(features: Columns, weights: Vector | None) -> Vector:
    """Return the sum over rows of weight * x."""
    if isinstance(features, SparseFeatures):
        return _sum_entries(features, features.matrix.data, weights)
    return _sum_rows(_dense(features), weights)


def sum_magnitudes(features: Columns, weights: Vector | None) -> Vector:
    """Return the sum over rows of weight * |x|."""
    if isinstance(features, SparseFeatures):
        return _sum_entries(features, np.abs(features.matrix.data), weights)
    return _sum_rows(np.abs(_dense(features)), weights)


def sum_squares(features: Columns, mean: Vector, weights: Vector | None) -> Vector:
    """Return the sum of weight * (x - mean)^2 over rows or, for sparse features, over the entries that are stored."""
    if isinstance(features, SparseFeatures):
        centred = features.matrix.data - mean[features.columns][features.matrix.indices]
        return _sum_entries(features, np.square(centred), weights)
    return _sum_rows(np.square(_dense(features) - mean), weights)


def row_norms(features: Columns, factors: Vector) -> Vector:
    """Return for each row the sum over columns of factor * x^2, (rows,)."""
    if isinstance(features, SparseFeatures):
        return np.asarray(features.matrix.multiply(features.matrix) @ factors[features.columns], dtype=np.float64)
    squares = np.square(_dense(features))
    return np.asarray(squares @ factors.astype(squares.dtype), dtype=np.float64)


def sum_squares_in_own_type(features: Columns, weights: Vector | None) -> Vector:
    """Return about the sum over rows of weight * x^2: in the features' own type, which is fast."""
    if isinstance(features, SparseFeatures):
        return _sum_entries(features, np.square(features.matrix.data), weights)
    dense = _dense(features)
    if weights is None:
        return np.asarray(np.einsum("ij,ij->j", dense, dense), dtype=np.float64)
    return np.asarray(weights.astype(dense.dtype) @ np.square(dense), dtype=np.float64)


def sum_entry_weights(features: SparseFeatures, weights: Vector | None) -> Vector:
    """Return the sum of the weights of each column's stored entries."""
    return _sum_entries(features, np.ones(features.matrix.nnz), weights)


def sum_by_class(features: Columns, classes: NDArray[np.intp], weights: Vector | None, n_classes: int) -> Vector:
    """Return the sum over the rows of each class of weight * x, shape (n_classes, columns)."""
    weights = np.ones(classes.size) if weights is None else weights
    sums = np.zeros((n_classes, n_columns(features)))
    if isinstance(features, SparseFeatures):
        entry_row = np.repeat(np.arange(classes.size), np.diff(features.matrix.indptr))
        place = classes[entry_row] * n_columns(features) + features.matrix.indices
        values = features.matrix.data * weights[entry_row]
        return bincount(place, values, sums.size).reshape(sums.shape)
    order = np.argsort(classes, kind="stable")
    present, starts = np.unique(classes[order], return_index=True)
    if present.size:
        values = _dense(features)[order] * weights[order, None]
        sums[present] = np.add.reduceat(values.astype(np.float64), starts, axis=0)
    return sums


def extremes(features: Columns) -> Vector:
    """Return each column's largest value, and minus its smallest, shape (2, columns); rows without entry count as 0."""
    found = np.full((2, n_columns(features)), -np.inf)
    if not len(features):
        return found
    if isinstance(features, SparseFeatures):
        by_column = features.matrix.tocsc()
        full = np.diff(by_column.indptr) == len(features)
        present = np.flatnonzero(np.diff(by_column.indptr))
        starts = by_column.indptr[:-1][present]
        found[:] = 0.0
        if present.size:
            highest = np.maximum.reduceat(by_column.data, starts).astype(np.float64)
            lowest = np.minimum.reduceat(by_column.data, starts).astype(np.float64)
            some_are_zero = ~full[present]
            found[0, present] = np.where(some_are_zero, np.maximum(highest, 0), highest)
            found[1, present] = -np.where(some_are_zero, np.minimum(lowest, 0), lowest)
        return found
    dense = _dense(features)
    found[0] = dense.max(axis=0)
    found[1] = -dense.min(axis=0).astype(np.float64)
    return found


def bincount(places: NDArray, values: Vector | None, size: int) -> Vector:
    """Return the sum of the values at each place, float64; of ones where there are none."""
    return np.bincount(places, values, minlength=size).astype(np.float64, copy=False)


def _dense(features: NDArray | Compact) -> NDArray:
    return features[:] if isinstance(features, Compact) else features


def _sum_rows(values: NDArray, weights: Vector | None) -> Vector:
    if weights is None:
        return np.asarray(values.sum(axis=0, dtype=np.float64))
    return np.asarray((values * weights[:, None]).sum(axis=0, dtype=np.float64))


def _sum_entries(features: SparseFeatures, values: NDArray, weights: Vector | None) -> Vector:
    values = values.astype(np.float64)
    if weights is not None:
        values *= np.repeat(weights, np.diff(features.matrix.indptr))
    return bincount(features.matrix.indices, values, n_columns(features))
