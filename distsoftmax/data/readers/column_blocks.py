"""From columns to a matrix of rows."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import NDArray

BLOCK_ROWS = 1024  # rows filled at a time: few enough to stay in cache, so that columns can be written one by one


def fill_columns(matrix: NDArray, columns: Sequence[tuple[int | slice, NDArray]]) -> None:
    """Write (place, values) into the columns of a C-contiguous matrix; values have a row for each of its rows."""
    for start in range(0, len(matrix), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        block = matrix[rows]
        for place, values in columns:
            block[:, place] = values[rows]
