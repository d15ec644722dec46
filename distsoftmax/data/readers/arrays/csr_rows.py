"""The rows of a matrix in compressed sparse rows (CSR), read from its three arrays a range at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from distsoftmax.data.bad_cell import BadCell
from distsoftmax.data.readers.arrays.files import FileRows
from distsoftmax.errors import InputError

if TYPE_CHECKING:
    from scipy.sparse import csr_array


class CsrRows:
    """A CSR matrix whose arrays are in a file; see `FileRows`.

    Of its values and indices only those of the rows asked for are read, where the arrays allow it.

    Parameters
    ----------
    values, indices : FileRows of shape (n_values,)
    indptr : FileRows of shape (n_rows + 1,)
    """

    def __init__(
        self, path: str, shape: tuple[int, ...], values: FileRows, indices: FileRows, indptr: FileRows
    ) -> None:
        self.shape = shape
        self.dtype = np.dtype(np.float32) if values.dtype == np.float16 else values.dtype  # scipy has no float16
        self._path = path
        self._values = values
        self._indices = indices
        self._indptr = indptr
        self._last = (-1, 0)  # the row that the last run stopped at, and where its values begin

    def read(self, first: int, stop: int) -> csr_array:
        """See `FileRows.read`."""
        from scipy.sparse import csr_array

        ends = self._read_ends(first, stop)
        begin, end = int(ends[0]), int(ends[-1])
        indices = np.asarray(self._indices.read(begin, end)).astype(np.int64)
        values = np.asarray(self._values.read(begin, end)).astype(self.dtype, copy=False)
        ends -= begin
        self._check_range(indices, ends)
        indices, values = _in_order(indices, values, ends)
        small = np.int32 if max(self.shape[1], indices.size) < 2**31 else np.int64
        arrays = (values, indices.astype(small), ends.astype(small))
        return csr_array(arrays, shape=(stop - first, self.shape[1]))

    def _read_ends(self, first: int, stop: int) -> NDArray[np.int64]:
        """Return where the values of each row begin, and where those of the last end, (rows + 1,)."""
        if first == self._last[0]:  # a stream need not go back for the one number that two runs have in common
            following = np.asarray(self._indptr.read(first + 1, stop + 1)).astype(np.int64)
            ends = np.concatenate([np.array(self._last[1:], dtype=np.int64), following])
        else:
            ends = np.asarray(self._indptr.read(first, stop + 1)).astype(np.int64)
        n_values = self._values.shape[0]
        is_sound = (
            (np.diff(ends) >= 0).all()
            and (ends[0] == 0 if first == 0 else ends[0] >= 0)
            and (ends[-1] == n_values if stop == self.shape[0] else ends[-1] <= n_values)
        )
        if not is_sound:
            raise InputError(
                f"{self._path}: is damaged: rows {first + 1} to {stop}: indptr does not rise from 0 to {n_values}"
            )
        self._last = (stop, int(ends[-1]))
        return ends

    def _check_range(self, indices: NDArray[np.int64], ends: NDArray[np.int64]) -> None:
        outside = np.flatnonzero((indices < 0) | (indices >= self.shape[1]))
        if outside.size:
            row = int(np.searchsorted(ends, outside[0], side="right")) - 1
            raise BadCell(
                row,
                f"has a value in column {indices[outside[0]]}, but the matrix has {self.shape[1]} columns, counted "
                "from 0; write the matrix again",
            )


def _in_order(
    indices: NDArray[np.int64], values: NDArray, ends: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray]:
    """Return indices and values with each row's indices ascending."""
    falls = np.diff(indices) <= 0
    between = ends[1:-1]
    falls[between[(between > 0) & (between < indices.size)] - 1] = False  # from one row to the next
    if not falls.any():
        return indices, values
    rows = np.repeat(np.arange(ends.size - 1), np.diff(ends))
    order = np.lexsort((indices, rows))
    indices, values = indices[order], values[order]
    twice = np.flatnonzero((np.diff(indices) == 0) & (np.diff(rows) == 0))
    if twice.size:
        raise BadCell(
            rows[twice[0]],
            f"has two values in column {indices[twice[0]]}; add them up with matrix.sum_duplicates()",
        )
    return indices, values
