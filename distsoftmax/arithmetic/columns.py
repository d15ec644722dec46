"""Sums over a shard's columns and norms of its rows, in float64, from features of any type as they are stored.

Every sum is one chain of fused multiply-adds over the rows in order, from 0; a row without weight has weight 1. See
SPECIFICATION.md, "Sums over columns", and `core/columns.c`.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from distsoftmax.arithmetic.arrays import Doubles, Reals
from distsoftmax.arithmetic.library import address, function
from distsoftmax.arithmetic.samples import STORAGE, SamplesRecord

VALUES, MAGNITUDES, SQUARES, WEIGHTS = range(4)  # as in core/columns.c
CHAINS = 32  # of a row's norm, as in core/columns.c; no vector is longer


@dataclass(frozen=True)
class DenseColumns:
    """Dense features, whose numbers are values, or (values - mean) * inverse in the type of `mean` and `inverse`.

    Attributes
    ----------
    values : ndarray, (n_rows, n_columns)
        Of a type in `samples.STORAGE`, rows at any distance from each other; others are converted to float64 first.
    mean, inverse : ndarray of float32 or float64, (n_columns,), or None
        One without the other counts as 0, or 1.
    """

    values: NDArray
    mean: Reals | None = None
    inverse: Reals | None = None

    @property
    def n_columns(self) -> int:
        """The number of columns."""
        return int(self.values.shape[1])

    @property
    def n_rows(self) -> int:
        """The number of rows."""
        return len(self.values)

    def record(self, weights: Doubles | None, classes: NDArray[np.int64] | None = None) -> SamplesRecord:
        """Return what the core takes."""
        values, mean, inverse = self.values, self.mean, self.inverse
        if values.ndim != 2:
            raise ValueError(f"features have the shape {values.shape}; they need rows and columns")
        if values.dtype not in STORAGE:
            values = values.astype(np.float64)
        if not values.flags.aligned or (values.shape[1] > 1 and values.strides[1] != values.itemsize):
            values = np.ascontiguousarray(values)
        if mean is not None or inverse is not None:
            mean = np.zeros_like(inverse) if mean is None else np.ascontiguousarray(mean)
            inverse = np.ones_like(mean) if inverse is None else np.ascontiguousarray(inverse)
            if mean.shape != (values.shape[1],) or inverse.shape != mean.shape or inverse.dtype != mean.dtype:
                raise ValueError("mean and inverse need a number for each column, both of one type")
        return SamplesRecord.of(
            {**_labels(self.n_rows, weights, classes), "values": values, "mean": mean, "inverse": inverse},
            n_rows=self.n_rows,
            n_features=self.n_columns,
            storage=STORAGE[values.dtype],
            row_bytes=values.strides[0],
            is_single=mean is not None and mean.dtype == np.float32,
        )


@dataclass(frozen=True)
class SparseColumns:
    """Sparse features by rows; sums are over the entries that are stored.

    Attributes
    ----------
    values : ndarray, (n_entries,)
        float32 or float64; other types are converted to float64 first.
    indices : ndarray of int32 or int64, (n_entries,)
        Each entry's column.
    starts : ndarray of the same type, (n_rows + 1,)
        Row i has the entries starts[i] to starts[i + 1].
    n_columns : int
    """

    values: NDArray
    indices: NDArray[np.signedinteger]
    starts: NDArray[np.signedinteger]
    n_columns: int

    @property
    def n_rows(self) -> int:
        """The number of rows."""
        return int(self.starts.size) - 1

    def record(self, weights: Doubles | None, classes: NDArray[np.int64] | None = None) -> SamplesRecord:
        """Return what the core takes."""
        dtype = np.float32 if self.values.dtype == np.float32 else np.float64
        values = np.ascontiguousarray(self.values, dtype=dtype)
        small = self.indices.dtype == self.starts.dtype == np.int32
        indices, starts = (
            np.ascontiguousarray(array, dtype=np.int32 if small else np.int64) for array in (self.indices, self.starts)
        )
        n_entries = min(values.size, indices.size)
        if starts.size < 1 or starts[0] < 0 or starts[-1] > n_entries or (np.diff(starts) < 0).any():
            raise ValueError("the starts of the rows are not in order, or beyond the entries")
        if indices.size and not 0 <= indices.min() <= indices.max() < self.n_columns:
            raise ValueError(f"an entry's column is not from 0 to {self.n_columns - 1}")
        return SamplesRecord.of(
            {**_labels(self.n_rows, weights, classes), "values": values, "indices": indices, "starts": starts},
            n_rows=self.n_rows,
            n_features=self.n_columns,
            storage=STORAGE[values.dtype],
            index_bytes=starts.itemsize,
        )


StoredColumns: TypeAlias = "DenseColumns | SparseColumns"


def _labels(n_rows: int, weights: Doubles | None, classes: NDArray[np.int64] | None) -> dict[str, NDArray | None]:
    return {"weights": None if weights is None else _checked(weights, n_rows), "classes": classes}


def sum_values(columns: StoredColumns, weights: Doubles | None = None) -> Doubles:
    """Return for each column the sum over the rows of weight * x."""
    return _sum(columns, VALUES, weights)


def sum_magnitudes(columns: StoredColumns, weights: Doubles | None = None) -> Doubles:
    """Return for each column the sum over the rows of weight * |x|."""
    return _sum(columns, MAGNITUDES, weights)


def sum_squares(columns: StoredColumns, weights: Doubles | None = None, mean: Doubles | None = None) -> Doubles:
    """Return for each column the sum of weight * (x - mean)^2.

    Without a mean it is 0. Of sparse features the entries that are not stored are left out.
    """
    return _sum(columns, SQUARES, weights, mean)


def sum_entry_weights(columns: SparseColumns, weights: Doubles | None = None) -> Doubles:
    """Return for each column the sum of the weights of its stored entries."""
    return _sum(columns, WEIGHTS, weights)


def sum_by_class(
    columns: StoredColumns, classes: NDArray[np.intp], n_classes: int, weights: Doubles | None = None
) -> Doubles:
    """Return for each class and column the sum over the rows of the class, (n_classes, n_columns): see `sum_values`.

    Parameters
    ----------
    classes : ndarray of intp, (n_rows,)
        0 to n_classes - 1.
    """
    classes = np.ascontiguousarray(classes, dtype=np.int64)
    if classes.shape != (columns.n_rows,):
        raise ValueError(f"{columns.n_rows} rows have classes of shape {classes.shape}")
    if classes.size and not 0 <= classes.min() <= classes.max() < n_classes:
        raise ValueError(f"a class is not from 0 to {n_classes - 1}")
    width = -(-columns.n_columns // CHAINS) * CHAINS
    record, sums = columns.record(weights, classes), np.zeros((n_classes, width))
    function("ds_sum_by_class", "ppn")(ctypes.byref(record), address(sums), width)
    return np.ascontiguousarray(sums[:, : columns.n_columns])


def sum_weights(classes: NDArray[np.intp], n_classes: int, weights: Doubles) -> Doubles:
    """Return for each class the sum of its rows' weights, (n_classes,)."""
    return sum_by_class(DenseColumns(np.ones((len(classes), 1), dtype=np.bool_)), classes, n_classes, weights)[:, 0]


def row_norms(
    columns: StoredColumns, factors: Doubles | None = None, shift: Doubles | None = None, start: float = 0.0
) -> Doubles:
    """Return for each row the sum over the columns of factor * x^2, or factor * x * (x - shift), (n_rows,).

    Parameters
    ----------
    factors : ndarray of float64, (n_columns,), or None
        None: 1.
    shift : ndarray of float64, (n_columns,), or None
        For sparse features alone: 2 m, with `start` |m|^2, gives |x - m|^2.
    start : float
        For sparse features alone: where the chain starts.
    """
    if isinstance(columns, DenseColumns) and (shift is not None or start != 0.0):
        raise ValueError("only norms of sparse rows take a shift")
    record, norms = columns.record(None), np.empty(columns.n_rows)
    factors = _padded(columns.n_columns, np.ones(columns.n_columns) if factors is None else factors)
    shift = _padded(columns.n_columns, shift)
    of_core = function("ds_row_norms", "pppxp")
    of_core(ctypes.byref(record), address(factors), address(shift), start, address(norms))
    return norms


def _sum(columns: StoredColumns, what: int, weights: Doubles | None, mean: Doubles | None = None) -> Doubles:
    record, means = columns.record(weights), _padded(columns.n_columns, mean)
    sums = np.zeros_like(means)
    function("ds_sum_columns", "pnpp")(ctypes.byref(record), what, address(means), address(sums))
    result: Doubles = sums[: columns.n_columns].copy()
    return result


def _padded(size: int, numbers: Doubles | None = None) -> Doubles:
    """Return the numbers of the columns, 0 by default, with room for whole vectors, and for whole groups of chains."""
    padded = np.zeros(-(-size // CHAINS) * CHAINS)
    if numbers is not None:
        padded[:size] = _checked(numbers, size)
    return padded


def _checked(numbers: Doubles, size: int) -> Doubles:
    numbers = np.ascontiguousarray(numbers, dtype=np.float64)
    if numbers.shape != (size,):
        raise ValueError(f"there are numbers of shape {numbers.shape} for {size} rows or columns")
    return numbers
