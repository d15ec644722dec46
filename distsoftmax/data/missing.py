"""Cells that are missing because --missing names what they say, and rows with a missing cell."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from distsoftmax.data.class_names import INTEGER, number_name
from distsoftmax.data.readers.columns import take_rows, text_column
from distsoftmax.data.source import Features, RawRows, TextColumn


@dataclass(frozen=True)
class MissingValues:
    """What stands for a missing cell besides what does so in every source.

    Attributes
    ----------
    texts : frozenset of str
    names : frozenset of str
        Of those that are numbers, their shortest spellings: a text column has such a number in any spelling.
    numbers : tuple of int and float
        The same as numbers: a numeric column has them by their value.

    Examples
    --------
    >>> MissingValues.of(["?", "-999.0"]).numbers
    (-999,)
    """

    texts: frozenset[str]
    names: frozenset[str]
    numbers: tuple[int | float, ...]

    @classmethod
    def of(cls, words: Iterable[str]) -> MissingValues:
        """Return what the words of --missing mean."""
        texts = frozenset(words)
        names = {name for text in texts if (name := number_name(text)) is not None}
        numbers = tuple(int(name) if INTEGER.fullmatch(name) else float(name) for name in sorted(names))
        return cls(texts, frozenset(names), numbers)

    def marked(self, rows: RawRows) -> RawRows:
        """Return rows in which such cells hold no number and no text."""
        if not self.texts:
            return rows
        weights = rows.weights
        return replace(
            rows,
            features=self._in_numbers(rows.features),
            labels=None if rows.labels is None else self._in_texts(rows.labels),
            weights=None if weights is None else np.where(self._marks(weights), np.nan, weights),
            categories=tuple(map(self._in_texts, rows.categories)),
        )

    def _in_numbers(self, features: Features) -> Features:
        """Return features with NaN in such cells; integers become float64 where there are any."""
        values = features if isinstance(features, np.ndarray) else features.data
        marks = self._marks(values)
        if not marks.any():
            return features
        values = values.astype(values.dtype if values.dtype.kind == "f" else np.float64)
        values[marks] = np.nan
        if isinstance(features, np.ndarray):
            return values
        features = features.copy()
        features.data = values
        return features

    def _marks(self, values: NDArray) -> NDArray[np.bool_]:
        marks = np.zeros(values.shape, dtype=np.bool_)
        for number in self.numbers if values.dtype.kind != "b" else ():
            marks |= values == number
        return marks

    def _in_texts(self, column: TextColumn) -> TextColumn:
        kept = [None if self._names(text) else text for text in column.texts]
        return text_column(kept, column.codes) if None in kept else column

    def _names(self, text: str) -> bool:
        return text.strip(" \t") in self.texts or (bool(self.names) and number_name(text) in self.names)


def complete_rows(rows: RawRows) -> NDArray[np.bool_]:
    """Return which rows lack no feature, label, weight or category, (rows,)."""
    features = rows.features
    values = features if isinstance(features, np.ndarray) else features.data
    complete = np.ones(features.shape[0], dtype=np.bool_)
    if values.dtype.kind == "f" and (missing := np.isnan(values)).any():
        if isinstance(features, np.ndarray):
            complete &= ~missing.any(axis=1)
        else:
            complete[np.searchsorted(features.indptr, np.flatnonzero(missing), "right") - 1] = False
    if rows.weights is not None:
        complete &= ~np.isnan(rows.weights)
    for column in (rows.labels, *rows.categories):
        if column is not None:
            complete &= column.codes >= 0
    return complete


def only_rows(rows: RawRows, wanted: slice | NDArray[np.bool_]) -> RawRows:
    """Return some rows, with only the texts that occur in them."""
    return replace(
        rows,
        features=rows.features[wanted],
        labels=None if rows.labels is None else take_rows(rows.labels, wanted),
        weights=None if rows.weights is None else rows.weights[wanted],
        categories=tuple(take_rows(column, wanted) for column in rows.categories),
    )
