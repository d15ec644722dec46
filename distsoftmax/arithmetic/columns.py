"""Sums over a shard's columns and norms of its rows, in float64, from features of any type as they are stored.

Every sum is one chain of fused multiply-adds over the rows in order, from 0; a row without weight has weight 1. See
SPECIFICATION.md, "Sums over columns", and `core/columns.c`.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from distsoftmax.arithmetic import library
from distsoftmax.arithmetic.samples import STORAGE

Vector: TypeAlias = "NDArray[np.float64]"

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
    mean: NDArray[np.floating] | None = None
    inverse: NDArray[np.floating] | None = None

    @property
    def n_columns(self) -> int:
        """The number of columns."""
        return int(self.values.shape[1])

    @property
    def n_rows(self) -> int:
        """The number of rows."""
        return len(self.values)


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


Columns: TypeAlias = "DenseColumns | SparseColumns"


def sum_values(columns: Columns, weights: Vector | None = None) -> Vector:
    """Return for each column the sum over the rows of weight * x: sum = fma(weight, x, sum)."""
    return _sum(columns, VALUES, weights)


def sum_magnitudes(columns: Columns, weights: Vector | None = None) -> Vector:
    """Return for each column the sum over the rows of weight * |x|: sum = fma(weight, |x|, sum)."""
    return _sum(columns, MAGNITUDES, weights)


def sum_squares(columns: Columns, weights: Vector | None = None, mean: Vector | None = None) -> Vector:
    """Return for each column the sum of weight * (x - mean)^2: d = x - mean, sum = fma(weight * d, d, sum).

    Without a mean it is 0. Of sparse features the entries that are not stored are left out.
    """
    return _sum(columns, SQUARES, weights, mean)


def sum_entry_weights(columns: SparseColumns, weights: Vector | None = None) -> Vector:
    """Return for each column the sum of the weights of its stored entries: sum = sum + weight."""
    return _sum(columns, WEIGHTS, weights)


def sum_by_class(
    columns: Columns, classes: NDArray[np.intp], n_classes: int, weights: Vector | None = None
) -> NDArray[np.float64]:
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
    weights = _checked(weights, columns.n_rows)
    sums = np.zeros((n_classes, _padded(columns.n_columns)))
    _call("by_class", columns, _pointer(classes), _pointer(weights), _pointer(sums), sums.shape[1])
    return np.ascontiguousarray(sums[:, : columns.n_columns])


def sum_weights(classes: NDArray[np.intp], n_classes: int, weights: Vector) -> Vector:
    """Return for each class the sum of its rows' weights, (n_classes,): sum = sum + weight."""
    return sum_by_class(DenseColumns(np.ones((len(classes), 1), dtype=np.bool_)), classes, n_classes, weights)[:, 0]


def row_norms(
    columns: Columns, factors: Vector | None = None, shift: Vector | None = None, start: float = 0.0
) -> Vector:
    """Return for each row the sum over the columns of factor * x^2, (n_rows,).

    Dense: column c belongs to chain c mod 32, chain = fma(factor * x, x, chain); the chains are then added as a tree,
    chain i + chain i + 16 first. Sparse: one chain over the row's entries, norm = fma(factor * x, x - shift, norm).

    Parameters
    ----------
    factors : ndarray of float64, (n_columns,), or None
        None: 1.
    shift : ndarray of float64, (n_columns,), or None
        For sparse features alone: 2 m, with `start` |m|^2, gives |x - m|^2.
    start : float
        For sparse features alone: where the chain starts.
    """
    factors = np.ones(columns.n_columns) if factors is None else _checked(factors, columns.n_columns)
    norms = np.empty(columns.n_rows)
    if isinstance(columns, DenseColumns):
        if shift is not None or start != 0.0:
            raise ValueError("only norms of sparse rows take a shift")
        padded = np.zeros(_padded(columns.n_columns))
        padded[: columns.n_columns] = factors
        _call("norms", columns, _pointer(padded), _pointer(norms))
        return norms
    shift = np.zeros(columns.n_columns) if shift is None else _checked(shift, columns.n_columns)
    _call("norms", columns, _pointer(factors), _pointer(shift), float(start), _pointer(norms))
    return norms


class _Dense(ctypes.Structure):
    _fields_ = (
        ("n_rows", ctypes.c_int64),
        ("n_columns", ctypes.c_int64),
        ("storage", ctypes.c_int64),
        ("row_bytes", ctypes.c_int64),
        ("values", ctypes.c_void_p),
        ("mean", ctypes.c_void_p),
        ("inverse", ctypes.c_void_p),
        ("is_single", ctypes.c_int64),
    )


class _Sparse(ctypes.Structure):
    _fields_ = (
        ("n_rows", ctypes.c_int64),
        ("is_single", ctypes.c_int64),
        ("index_bytes", ctypes.c_int64),
        ("values", ctypes.c_void_p),
        ("indices", ctypes.c_void_p),
        ("starts", ctypes.c_void_p),
    )


def _sum(columns: Columns, what: int, weights: Vector | None, mean: Vector | None = None) -> Vector:
    weights = _checked(weights, columns.n_rows)
    padded_mean, sums = np.zeros((2, _padded(columns.n_columns)))
    if mean is not None:
        padded_mean[: columns.n_columns] = _checked(mean, columns.n_columns)
    _call("columns", columns, what, _pointer(weights), _pointer(padded_mean), _pointer(sums))
    result: Vector = sums[: columns.n_columns].copy()
    return result


def _call(what: str, columns: Columns, *arguments: int | float | None) -> None:
    functions = _functions()
    if isinstance(columns, DenseColumns):
        dense, _kept = _of_dense(columns)
        functions["dense", what](ctypes.byref(dense), *arguments)
    else:
        sparse, _kept = _of_sparse(columns)
        functions["sparse", what](ctypes.byref(sparse), *arguments)


def _of_dense(columns: DenseColumns) -> tuple[_Dense, Any]:
    """Return what the core takes, and the arrays it points to."""
    values = columns.values
    if values.ndim != 2:
        raise ValueError(f"features have the shape {values.shape}; they need rows and columns")
    if values.dtype not in STORAGE:
        values = values.astype(np.float64)
    if not values.flags.aligned or (values.shape[1] > 1 and values.strides[1] != values.itemsize):
        values = np.ascontiguousarray(values)
    mean, inverse = columns.mean, columns.inverse
    if mean is None and inverse is not None:
        mean = np.zeros_like(inverse)
    if inverse is None and mean is not None:
        inverse = np.ones_like(mean)
    is_single = False
    if mean is not None and inverse is not None:
        if mean.shape != (values.shape[1],) or inverse.shape != mean.shape or inverse.dtype != mean.dtype:
            raise ValueError("mean and inverse need a number for each column, both of one type")
        is_single = mean.dtype == np.float32
        mean, inverse = (
            np.ascontiguousarray(array, np.float32 if is_single else np.float64) for array in (mean, inverse)
        )
    dense = _Dense(
        *values.shape,
        STORAGE[values.dtype],
        values.strides[0],
        _pointer(values),
        _pointer(mean),
        _pointer(inverse),
        is_single,
    )
    return dense, (values, mean, inverse)


def _of_sparse(columns: SparseColumns) -> tuple[_Sparse, Any]:
    """Return what the core takes, and the arrays it points to."""
    is_single = columns.values.dtype == np.float32
    values = np.ascontiguousarray(columns.values, dtype=np.float32 if is_single else np.float64)
    small = columns.indices.dtype == columns.starts.dtype == np.int32
    indices, starts = (
        np.ascontiguousarray(array, dtype=np.int32 if small else np.int64)
        for array in (columns.indices, columns.starts)
    )
    if starts.size < 1 or starts[0] < 0 or starts[-1] > min(values.size, indices.size) or (np.diff(starts) < 0).any():
        raise ValueError("the starts of the rows are not in order, or beyond the entries")
    if indices.size and not 0 <= indices.min() <= indices.max() < columns.n_columns:
        raise ValueError(f"an entry's column is not from 0 to {columns.n_columns - 1}")
    sparse = _Sparse(starts.size - 1, is_single, starts.itemsize, _pointer(values), _pointer(indices), _pointer(starts))
    return sparse, (values, indices, starts)


def _padded(n: int) -> int:
    """Return the size of an array with room for whole vectors, and for whole groups of chains."""
    return -(-n // CHAINS) * CHAINS


def _checked(numbers: Vector | None, size: int) -> Any:
    if numbers is None:
        return None
    numbers = np.ascontiguousarray(numbers, dtype=np.float64)
    if numbers.shape != (size,):
        raise ValueError(f"there are numbers of shape {numbers.shape} for {size} rows or columns")
    return numbers


def _pointer(array: NDArray | None) -> int | None:
    return None if array is None else array.ctypes.data


@cache
def _functions() -> dict[tuple[str, str], Any]:
    core, pointer, integer = library.core(), ctypes.c_void_p, ctypes.c_int64
    parameters: dict[tuple[str, str], tuple[Any, tuple[Any, ...]]] = {
        ("dense", "columns"): (core.ds_sum_dense_columns, (integer, pointer, pointer, pointer)),
        ("sparse", "columns"): (core.ds_sum_sparse_columns, (integer, pointer, pointer, pointer)),
        ("dense", "by_class"): (core.ds_sum_dense_by_class, (pointer, pointer, pointer, integer)),
        ("sparse", "by_class"): (core.ds_sum_sparse_by_class, (pointer, pointer, pointer, integer)),
        ("dense", "norms"): (core.ds_dense_row_norms, (pointer, pointer)),
        ("sparse", "norms"): (core.ds_sparse_row_norms, (pointer, pointer, ctypes.c_double, pointer)),
    }
    for function, types in parameters.values():
        function.argtypes, function.restype = (pointer, *types), None
    return {name: function for name, (function, _) in parameters.items()}
