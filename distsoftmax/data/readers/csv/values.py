"""The columns of a parsed CSV file, c0, c1, ..., as numpy arrays of numbers, and as texts with codes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from distsoftmax.data.readers.columns import fill_columns
from distsoftmax.data.source import TextColumn


def number_matrix(table: pa.Table, columns: Sequence[int]) -> NDArray[np.float64]:
    """Return columns as a matrix (rows, columns), C-contiguous; NaN where a cell holds no number."""
    result = np.empty((table.num_rows, len(columns)))
    fill_columns(result, [(number, table.column(f"c{column}").to_numpy()) for number, column in enumerate(columns)])
    return result


def cell_texts(table: pa.Table, column: int) -> TextColumn:
    """Return a column of text; a missing cell has the code -1."""
    cells = table.column(f"c{column}").unify_dictionaries().combine_chunks()
    codes = cells.indices.fill_null(-1).to_numpy().astype(np.intp)
    return TextColumn(tuple(cells.dictionary.to_pylist()), codes)
