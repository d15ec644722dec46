"""Columns put together and taken apart: of text, as distinct texts and a code for each row, and of numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from distsoftmax.data.bad_cell import BadCell
from distsoftmax.data.class_names import number_text
from distsoftmax.data.source import TextColumn

BLOCK_ROWS = 1024  # Rows filled at a time: they stay in cache while column after column is written.


def fill_columns(matrix: NDArray, columns: Sequence[tuple[int | slice, NDArray]]) -> None:
    """Write (column or slice of columns, values) into a C-contiguous matrix; values have a row for each of its rows."""
    for start in range(0, len(matrix), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        block = matrix[rows]
        for column, values in columns:
            block[:, column] = values[rows]


def text_column(texts: Iterable[str | None], codes: NDArray[np.integer]) -> TextColumn:
    """Return a column of the rows texts[codes]; None, and the code -1, are missing cells, and texts may come twice."""
    codes_of: dict[str, int] = {}
    renumbered = [-1 if text is None else codes_of.setdefault(text, len(codes_of)) for text in texts]
    return TextColumn(tuple(codes_of), np.array([*renumbered, -1], dtype=np.intp)[codes])  # -1 takes the last


def join_columns(columns: Sequence[TextColumn]) -> TextColumn:
    """Return the rows of several columns, one after the other."""
    if len(columns) == 1:
        return columns[0]
    first, codes = 0, [np.zeros(0, dtype=np.intp)]
    for column in columns:
        codes.append(np.where(column.codes < 0, -1, column.codes + first))
        first += len(column.texts)
    return text_column((text for column in columns for text in column.texts), np.concatenate(codes))


def take_rows(column: TextColumn, rows: slice | NDArray[np.bool_]) -> TextColumn:
    """Return some rows, with only the texts that occur in them."""
    used, codes = np.unique(column.codes[rows], return_inverse=True)
    return text_column([column.texts[code] if code >= 0 else None for code in used.tolist()], codes.reshape(-1))


def label_column(labels: NDArray) -> TextColumn:
    """Return labels as texts: numbers as `number_text` spells them, bool as True and False; NaN is missing.

    Raises
    ------
    BadCell
        A label is infinite.
    """
    is_float = labels.dtype.kind == "f"
    for row in np.flatnonzero(np.isinf(labels))[:1] if is_float else ():
        raise BadCell(row, f"the label is {labels[row]}; a class is a finite number or text")
    distinct, codes = np.unique(labels, return_inverse=True)
    texts = [None if label != label else number_text(label) if is_float else str(label) for label in distinct]
    return text_column(texts, codes.reshape(-1))
