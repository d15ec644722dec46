"""Columns of text: distinct texts and a code for each row, put together and taken apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from distsoftmax.data.source import TextColumn


def text_column(texts: Iterable[str | None], codes: NDArray[np.integer]) -> TextColumn:
    """Return a column of the rows texts[codes]; None, and the code -1, are missing cells, and texts may come twice."""
    places: dict[str, int] = {}
    renumbered = [-1 if text is None else places.setdefault(text, len(places)) for text in texts]
    return TextColumn(tuple(places), np.array([*renumbered, -1], dtype=np.intp)[codes])  # -1 takes the last


def join_columns(columns: Sequence[TextColumn]) -> TextColumn:
    """Return the rows of several columns, one after the other."""
    if len(columns) == 1:
        return columns[0]
    first, codes = 0, [np.zeros(0, dtype=np.intp)]
    for column in columns:
        codes.append(np.where(column.codes < 0, -1, column.codes + first))
        first += len(column.texts)
    return text_column((text for column in columns for text in column.texts), np.concatenate(codes))


def take_rows(column: TextColumn, rows: slice) -> TextColumn:
    """Return a run of rows, with only the texts that occur in them."""
    used, codes = np.unique(column.codes[rows], return_inverse=True)
    return text_column([column.texts[code] if code >= 0 else None for code in used.tolist()], codes.reshape(-1))
