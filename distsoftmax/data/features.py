"""Features in memory besides plain arrays of floats: small types kept as stored, and sparse rows."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from distsoftmax.arithmetic import columns as arithmetic
from distsoftmax.arithmetic.columns import DenseColumns, SparseColumns, StoredColumns
from distsoftmax.arithmetic.parameters import squared_norm
from distsoftmax.arithmetic.samples import STORAGE, CoreRows, dense_rows, sparse_rows

if TYPE_CHECKING:
    from scipy.sparse import csr_array

WIDE = 16  # times as many columns as entries: to sort the entries takes no longer than to look at the columns
COMPACT = frozenset({"bool", "uint8", "int8", "uint16", "int16", "float16"})


@dataclass(frozen=True)
class Compact:
    """An array of a small type, kept as stored, whose rows come out as floats in training's units.

    Attributes
    ----------
    stored : ndarray, (rows, n_features)
        Of a type in `COMPACT`.
    mean, inverse : ndarray, (n_features,), or None
        In the type to compute in; rows come out as (stored - mean) * inverse, each operation rounded in that type. None
        where nothing is changed.
    dtype : numpy.dtype
        The type to compute in.
    """

    stored: NDArray
    mean: NDArray[np.floating] | None
    inverse: NDArray[np.floating] | None
    dtype: np.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return self.stored.shape

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, rows: slice | NDArray[np.bool_]) -> NDArray[np.floating]:
        return self.decoded(self.stored[rows])

    def decoded(self, values: NDArray) -> NDArray[np.floating]:
        """Return stored values, (n_features,) or a block of rows, in training's units."""
        block: NDArray[np.floating] = values.astype(self.dtype)
        if self.mean is not None:
            block -= self.mean
        if self.inverse is not None:
            block *= self.inverse
        return block

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.stored.nbytes


@dataclass(frozen=True)
class SparseFeatures:
    """The rows of a shard in compressed form, over the columns that occur in it.

    Nothing here is as wide as the source: the work on a shard follows its non-zeros.

    Attributes
    ----------
    columns : ndarray of int64, (n_local,)
        The source's columns that occur, ascending.
    matrix : csr_array, (rows, n_local)
        Column k of it is the source's columns[k].
    """

    columns: NDArray[np.int64]
    matrix: csr_array

    @classmethod
    def from_csr(cls, rows: csr_array) -> SparseFeatures:
        """Gather the columns of a matrix of any width, with indices of 32 or 64 bits.

        Where most of them occur, all are taken, for then the arrays of the matrix serve as they are.
        """
        from scipy.sparse import csr_array

        n_columns = rows.shape[1]
        if n_columns <= WIDE * rows.indices.size:
            number = np.zeros(n_columns, dtype=np.int64)  # of each column among those that occur
            number[rows.indices] = 1
            columns = np.flatnonzero(number)
            if 2 * columns.size >= n_columns:
                starts = rows.indptr.astype(rows.indices.dtype, copy=False)
                return cls(_all_columns(n_columns), compressed(rows.data, rows.indices, starts, n_columns))
            number[columns] = np.arange(columns.size)
            local = number[rows.indices]
        else:
            columns, local = np.unique(rows.indices, return_inverse=True)
        shape = (rows.shape[0], columns.size)
        small = np.int32 if rows.indptr[-1] < 2**31 else np.int64  # no shard has 2^31 columns without as many entries
        matrix = csr_array((rows.data, local.reshape(-1).astype(small), rows.indptr.astype(small)), shape=shape)
        return cls(columns.astype(np.int64), matrix)

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of rows, and of columns that occur in them."""
        return tuple(self.matrix.shape)

    def __len__(self) -> int:
        return int(self.matrix.shape[0])

    def __getitem__(self, rows: slice | NDArray[np.bool_]) -> SparseFeatures:
        if isinstance(rows, slice) and rows == slice(0, len(self)):
            return self
        taken = self.matrix[rows]
        # rows that are none hold on to no columns
        return SparseFeatures(self.columns, taken) if taken.shape[0] else SparseFeatures(self.columns[:0], taken[:, :0])

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return size_of(self.matrix) + self.columns.nbytes


@lru_cache(maxsize=4)
def _all_columns(n_columns: int) -> NDArray[np.int64]:
    """Return the numbers of all columns, in one array for all shards."""
    columns = np.arange(n_columns)
    columns.flags.writeable = False
    return columns


def compressed(values: NDArray, indices: NDArray, starts: NDArray, n_columns: int) -> csr_array:
    """Return a matrix of these very arrays: its own constructor looks at all of them, and may copy."""
    from scipy.sparse import csr_array

    rows = csr_array((starts.size - 1, n_columns), dtype=values.dtype)
    rows.data, rows.indices, rows.indptr = values, indices, starts
    return rows


def size_of(features: Prepared | csr_array) -> int:
    """Return the bytes of features."""
    if isinstance(features, (np.ndarray, Compact, SparseFeatures)):
        return int(features.nbytes)
    return int(features.data.nbytes + features.indices.nbytes + features.indptr.nbytes)


def moved(features: Any, keep: Callable[[NDArray], NDArray]) -> Any:
    """Return features of any kind with each of their arrays as `keep` returns it."""
    if isinstance(features, np.ndarray):
        return keep(features)
    if isinstance(features, Compact):
        return replace(features, stored=keep(features.stored))
    if isinstance(features, SparseFeatures):
        return SparseFeatures(keep(features.columns), moved(features.matrix, keep))
    rows = copy.copy(features)
    rows.data, rows.indices, rows.indptr = keep(rows.data), keep(rows.indices), keep(rows.indptr)
    return rows


def first_marked(features: NDArray | csr_array, marked: NDArray[np.bool_]) -> tuple[int, int, float]:
    """Return row, column and value of the first of the marked values; of a csr_array those that are stored."""
    if isinstance(features, np.ndarray):
        row, column = np.argwhere(marked)[0].tolist()
        return row, column, float(features[row, column])
    entry = int(np.flatnonzero(marked)[0])
    row = int(np.searchsorted(features.indptr, entry, "right")) - 1
    return row, int(features.indices[entry]), float(features.data[entry])


def largest_number(features: NDArray | csr_array) -> float:
    """Return the largest absolute value of features as they were read, missing ones left out; 0 where there is none."""
    values = features if isinstance(features, np.ndarray) else features.data
    if not values.size:
        return 0.0
    return max(0.0, float(np.fmax.reduce(values, axis=None)), -float(np.fmin.reduce(values, axis=None)))


def core_rows(
    features: Prepared | NDArray,
    dtype: np.dtype,
    classes: NDArray[np.int64] | None = None,
    weights: NDArray[np.float64] | None = None,
) -> CoreRows:
    """Return samples as the core sees them, to be computed in a type; nothing is copied that it can read."""
    if isinstance(features, SparseFeatures):
        matrix = features.matrix
        return sparse_rows(matrix.indptr, matrix.indices, matrix.data, features.columns, dtype, classes, weights)
    if isinstance(features, Compact):
        mean, inverse = (None if of is None else of.astype(dtype) for of in (features.mean, features.inverse))
        return dense_rows(features.stored, dtype, classes, weights, mean, inverse)
    if features.dtype not in STORAGE or (features.dtype == np.float64 and dtype == np.float32):
        features = features.astype(dtype)
    return dense_rows(np.ascontiguousarray(features), dtype, classes, weights)


def core_columns(features: Columns) -> StoredColumns:
    """Return features as `arithmetic.columns` takes them; results over sparse ones are of `columns_of` alone."""
    if isinstance(features, SparseFeatures):
        matrix = features.matrix
        return SparseColumns(matrix.data, matrix.indices, matrix.indptr, int(matrix.shape[1]))
    if isinstance(features, Compact):
        return DenseColumns(features.stored, features.mean, features.inverse)
    return DenseColumns(features)


def columns_of(features: Columns) -> NDArray[np.int64] | None:
    """Return the columns of the source that features have; None for all."""
    return features.columns if isinstance(features, SparseFeatures) else None


def row_norms(
    features: Columns, factors: NDArray[np.float64] | None = None, offset: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return for each row the sum over columns of factor * x^2, (rows,).

    Parameters
    ----------
    factors : ndarray of float64, (n_features,), or None
        Of all columns trained on; None: 1.
    offset : ndarray of float64, (n_features,), or None
        For sparse features, and without factors: x - offset stands for x, also where no entry is stored.
    """
    own, stored = columns_of(features), core_columns(features)
    if factors is not None and own is not None:
        factors = factors[own]
    if own is None or offset is None:
        return arithmetic.row_norms(stored, factors)
    return arithmetic.row_norms(stored, factors, 2 * offset[own], squared_norm(offset))


def extremes(features: Columns) -> NDArray[np.float64]:
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


Columns: TypeAlias = "NDArray | Compact | SparseFeatures"
Prepared: TypeAlias = "NDArray[np.floating] | Compact | SparseFeatures"
