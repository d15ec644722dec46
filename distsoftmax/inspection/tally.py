"""Counters that see a source a shard at a time, refuse nothing, and keep but numbers and where things came first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.data.column_sums import extremes, sum_values
from distsoftmax.data.features import SparseFeatures, first_marked, size_of
from distsoftmax.data.source import Features, RawRows, TextColumn

Place: TypeAlias = Callable[[int], str]  # what an error calls a row of the shard at hand
KindOf: TypeAlias = Callable[[str], Literal["number", "word", "nothing"]]  # what a cell of text reads as
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
    missing, numbers, words : int
        Cells without text; cells that read as a number, and those that do not, where these are told apart.
    first_row, first_missing, first_word : Spot or None
        The first row of the source, the first cell without text, and the first that is no number.
    """

    rows: Counter[str] = field(default_factory=Counter)
    weighted: Counter[str] = field(default_factory=Counter)
    missing: int = 0
    numbers: int = 0
    words: int = 0
    first_row: Spot | None = None
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

    def look_for_words(self, column: TextColumn, place: Place, kind_of: KindOf) -> None:
        """Tell the cells of a shard that are numbers from those that are words."""
        kinds = np.array([*(kind_of(text) for text in column.texts), "nothing"])[column.codes]
        self.numbers += int(np.count_nonzero(kinds == "number"))
        words = np.flatnonzero(kinds == "word")
        self.words += words.size
        if words.size and self.first_word is None:
            self.first_word = Spot(place(int(words[0])), value=column.texts[column.codes[words[0]]])

    def rename(self, names: Mapping[str, str]) -> None:
        """Count each text under another name; several may have one."""
        self.rows, self.weighted = _renamed(self.rows, names), _renamed(self.weighted, names)
        if self.first_row is not None:
            self.first_row = replace(self.first_row, value=names[str(self.first_row.value)])

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
        self.words += later.words
        self.first_row = self.first_row or later.first_row
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
        return float(sum_values(weights[good, None], None)[0])

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

    def add(self, shard: int, rows: RawRows, place: Place, weighted: Rows = None) -> None:
        """Count the values of a shard."""
        features = rows.features
        values = features if isinstance(features, np.ndarray) else features.data
        self.stored.add(values.dtype.name)
        self.nonzero += int(np.count_nonzero(values))
        self.entries += int(values.size)
        finite = np.isfinite(values) if values.dtype.kind == "f" else None
        if finite is not None and finite.all():
            finite = None
        if finite is not None:
            self._count_bad(features, values, place)
        if isinstance(features, np.ndarray):
            self._widen(slice(None), *_extremes(features, finite, weighted))
            return
        if finite is not None:
            features = features.copy()
            features.data[~finite] = 0
        gathered = SparseFeatures.from_csr(features)
        rest = gathered.nbytes - gathered.matrix.data.nbytes
        self.sparse_bytes[:, shard] = max(size_of(features), gathered.nbytes), values.size, rest
        some = gathered if weighted is None else gathered[weighted]
        self._widen(gathered.columns, extremes(some), len(some))

    def join(self, cluster: Communicator) -> None:
        """Add what all ranks have counted, once all shards are. Collective."""
        absent = self._covering < self._n_shards  # an entry that sparse rows lack is 0
        np.maximum(self.extremes, 0.0, out=self.extremes, where=absent)
        cluster.maximum(self.extremes)
        cluster.sum_integers(self.sparse_bytes)
        own = (self.first_missing, self.first_infinite, self.nonzero, self.entries, self.stored)
        missing, infinite, nonzero, entries, stored = zip(*cluster.allgather(own), strict=True)
        self.first_missing = next((spot for spot in missing if spot is not None), None)
        self.first_infinite = next((spot for spot in infinite if spot is not None), None)
        self.nonzero, self.entries, self.stored = sum(nonzero), sum(entries), set().union(*stored)
        self.missing = self._joined(self.missing, self.first_missing, cluster)
        self.infinite = self._joined(self.infinite, self.first_infinite, cluster)

    def _joined(
        self, counts: NDArray[np.int64] | None, first: Spot | None, cluster: Communicator
    ) -> NDArray[np.int64] | None:
        if first is None:
            return None
        total = np.zeros(self.extremes.shape[1], dtype=np.int64) if counts is None else counts
        cluster.sum_integers(total)
        return total

    def _widen(self, columns: NDArray[np.int64] | slice, found: NDArray[np.float64], n_rows: int) -> None:
        if not n_rows:
            return
        self.extremes[:, columns] = np.maximum(self.extremes[:, columns], found)
        self._covering[columns] += 1
        self._n_shards += 1

    def _count_bad(self, features: Features, values: NDArray, place: Place) -> None:
        missing, infinite = np.isnan(values), np.isinf(values)
        self.missing = _count_cells(features, missing, self.missing)
        self.infinite = _count_cells(features, infinite, self.infinite)
        self.first_missing = self.first_missing or _first_cell(features, missing, place)
        self.first_infinite = self.first_infinite or _first_cell(features, infinite, place)


def _renamed(counter: Counter[str], names: Mapping[str, str]) -> Counter[str]:
    renamed: Counter[str] = Counter()
    for text, count in counter.items():
        renamed[names[text]] += count
    return renamed


def _count_texts(counter: Counter[str], texts: tuple[str, ...], codes: NDArray[np.intp]) -> None:
    counts = np.bincount(codes[codes >= 0], minlength=len(texts))
    for code in np.flatnonzero(counts).tolist():
        counter[texts[code]] += int(counts[code])


def _extremes(features: NDArray, finite: Rows, weighted: Rows) -> tuple[NDArray[np.float64], int]:
    """Return the extremes of the finite values of the rows that weigh more than 0, and the number of these rows."""
    if weighted is not None:
        features, finite = features[weighted], None if finite is None else finite[weighted]
    if finite is None or not len(features):
        return extremes(features), len(features)
    both = [np.where(finite, some, -np.inf).max(axis=0) for some in (features, -features)]
    return np.stack(both).astype(np.float64), len(features)


def _count_cells(
    features: Features, marked: NDArray[np.bool_], counts: NDArray[np.int64] | None
) -> NDArray[np.int64] | None:
    """Add the marked values of a shard to the counts by column, which begin with the first of them."""
    if not marked.any():
        return counts
    if counts is None:
        counts = np.zeros(features.shape[1], dtype=np.int64)
    if isinstance(features, np.ndarray):
        counts += np.count_nonzero(marked, axis=0)
    else:
        columns, found = np.unique(features.indices[marked], return_counts=True)
        counts[columns] += found
    return counts


def _first_cell(features: Features, marked: NDArray[np.bool_], place: Place) -> Spot | None:
    if not marked.any():
        return None
    row, column, value = first_marked(features, marked)
    return Spot(place(row), column, value)
