"""Counters that see a source a shard at a time, refuse nothing, and keep but numbers and where things came first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from distsoftmax.data.column_sums import extremes
from distsoftmax.data.features import SparseFeatures
from distsoftmax.data.residency import size_of
from distsoftmax.data.source import Features, TextColumn

Place: TypeAlias = Callable[[int], str]  # what an error calls a row of the shard at hand
Rows: TypeAlias = "NDArray[np.bool_] | None"  # which rows weigh more than 0; None: all


@dataclass(frozen=True)
class Spot:
    """Where something was found first: the row as an error calls it, the number of the column, and the value."""

    where: str
    column: int = -1
    value: float | str = ""


@dataclass
class TextTally:
    """What is counted of a column of texts.

    Attributes
    ----------
    rows, weighted : Counter of str
        The rows with each text; and those of them whose weight is above 0, where there are weights.
    missing, numbers : int
        Cells without text, and cells that read as a number.
    first_row : str or None
        The text in the first row of the source.
    first_missing, first_word : Spot or None
        The first cell without text, and the first that is no number.
    """

    rows: Counter[str] = field(default_factory=Counter)
    weighted: Counter[str] = field(default_factory=Counter)
    missing: int = 0
    numbers: int = 0
    first_row: str | None = None
    first_missing: Spot | None = None
    first_word: Spot | None = None

    def add(self, column: TextColumn, place: Place, weighted: Rows = None) -> None:
        """Count the rows of a shard."""
        _count_texts(self.rows, column.texts, column.codes)
        if weighted is not None:
            _count_texts(self.weighted, column.texts, column.codes[weighted])
        missing = np.flatnonzero(column.codes < 0)
        self.missing += missing.size
        if missing.size and self.first_missing is None:
            self.first_missing = Spot(place(int(missing[0])))

    def look_for_words(self, column: TextColumn, place: Place, is_number: Callable[[str], bool]) -> None:
        """Tell the cells of a shard that are numbers from those that are not."""
        numeric = np.array([*(is_number(text) for text in column.texts), False], dtype=bool)[column.codes]
        self.numbers += int(np.count_nonzero(numeric))
        words = np.flatnonzero(~numeric & (column.codes >= 0))
        if words.size and self.first_word is None:
            self.first_word = Spot(place(int(words[0])), value=column.texts[column.codes[words[0]]])

    def trim(self, most: int) -> None:
        """Forget all but so many of the texts."""
        if len(self.rows) > most:
            self.rows = Counter(dict(self.rows.most_common(most)))

    def merge(self, later: TextTally) -> None:
        """Add what was counted of later rows."""
        self.rows.update(later.rows)
        self.weighted.update(later.weighted)
        self.missing += later.missing
        self.numbers += later.numbers
        self.first_row = later.first_row if self.first_row is None else self.first_row
        self.first_missing = self.first_missing or later.first_missing
        self.first_word = self.first_word or later.first_word


@dataclass
class WeightTally:
    """What is counted of sample weights."""

    zero: int = 0
    negative: int = 0
    not_finite: int = 0
    first_bad: Spot | None = None

    def add(self, weights: NDArray[np.float64], place: Place) -> float:
        """Count the weights of a shard, and return the sum of those that can be used."""
        finite = np.isfinite(weights)
        good = finite & (weights >= 0)
        self.zero += int(np.count_nonzero(weights == 0))
        self.negative += int(np.count_nonzero(finite & ~good))
        self.not_finite += int(np.count_nonzero(~finite))
        bad = np.flatnonzero(~good)
        if bad.size and self.first_bad is None:
            self.first_bad = Spot(place(int(bad[0])), value=float(weights[bad[0]]))
        return float(weights[good].sum())

    def merge(self, later: WeightTally) -> None:
        """Add what was counted of later rows."""
        self.zero += later.zero
        self.negative += later.negative
        self.not_finite += later.not_finite
        self.first_bad = self.first_bad or later.first_bad


class NumberTally:
    """What is counted of numeric columns.

    Parameters
    ----------
    n_columns, n_shards : int
        Of the whole source.

    Attributes
    ----------
    missing, infinite : ndarray of int64, (n_columns,), or None
        Cells by column; None where there are none, as ten million columns are long.
    first_missing, first_infinite : Spot or None
    extremes : ndarray of float64, (2, n_columns)
        The largest finite value, and minus the smallest, in the rows that weigh more than 0; -inf where there is none.
    nonzero, entries : int
        Values that are not 0, and values that are stored.
    sparse_bytes : ndarray of int64, (3, n_shards)
        Of each shard of sparse rows: the bytes it takes while it is read; its values that are stored, and the bytes of
        all but them in the form in which it is kept.
    stored : set of str
        The types of the features.
    """

    def __init__(self, n_columns: int, n_shards: int) -> None:
        self.missing: NDArray[np.int64] | None = None
        self.infinite: NDArray[np.int64] | None = None
        self.first_missing: Spot | None = None
        self.first_infinite: Spot | None = None
        self.extremes = np.full((2, n_columns), -np.inf)
        self.nonzero = self.entries = 0
        self.sparse_bytes = np.zeros((3, n_shards), dtype=np.int64)
        self.stored: set[str] = set()
        self._covering = np.zeros(n_columns, dtype=np.int32)  # shards in which a column has an entry
        self._n_shards = 0

    def add(self, shard: int, features: Features, place: Place, weighted: Rows = None) -> None:
        """Count the values of a shard."""
        values = features if isinstance(features, np.ndarray) else features.data
        self.stored.add(values.dtype.name)
        self.nonzero += int(np.count_nonzero(values))
        self.entries += int(values.size)
        finite = np.isfinite(values) if values.dtype.kind == "f" else None
        if finite is not None and not finite.all():
            self._count_bad(features, values, place)
        else:
            finite = None
        if isinstance(features, np.ndarray):
            self._add_dense(features, finite, weighted)
        else:
            self._add_sparse(shard, features, finite, weighted)

    def close(self) -> None:
        """Take the entries that sparse shards lack for the zeros they are, once all shards are counted."""
        absent = self._covering < self._n_shards
        self.extremes[:, absent] = np.maximum(self.extremes[:, absent], 0.0)

    def _add_dense(self, features: NDArray, finite: Rows, weighted: Rows) -> None:
        if weighted is not None:
            features, finite = features[weighted], None if finite is None else finite[weighted]
        if not len(features):
            return
        if finite is None:
            found = extremes(features)
        else:
            found = np.stack([np.where(finite, some, -np.inf).max(axis=0) for some in (features, -features)])
        np.maximum(self.extremes, found, out=self.extremes)
        self._covering += 1
        self._n_shards += 1

    def _add_sparse(self, shard: int, features: Features, finite: Rows, weighted: Rows) -> None:
        n_bytes = size_of_features(features)
