"""From columns to a matrix of rows."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import NDArray

BLOCK_ROWS = 1024  # Rows filled at a time: they stay in cache while column after column is written.


def fill_columns(matrix: NDArray, columns: Sequence[tuple[int | slice, NDArray]]) -> None:
    """Write (column or slice of columns, values) into a C-contiguous matrix; values have a row for each of its rows."""
    for start in range(0, len(matrix), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        block = matrix[rows]
        for column, values in columns:
            block[:, column] = values[rows]
