"""Counters that see a source a shard at a time: they refuse nothing, and keep numbers and where things came first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from distsoftmax.arithmetic.columns import DenseColumns, sum_values
from distsoftmax.cluster.communicator import Communicator
from distsoftmax.data.features import SparseFeatures, extremes, first_marked, size_of
from distsoftmax.data.source import Features, RawRows, TextColumn

RowName: TypeAlias = Callable[[int], str]  # what an error calls a row of the shard at hand
KindOf: TypeAlias = Callable[[str], Literal["number", "word", "nothing"]]  # what a cell of text reads as
Mask: TypeAlias = "NDArray[np.bool_] | None"  # None: all


@dataclass(frozen=True)
class Spot:
    """Where something came first: the row as an error calls it, the number of the column, and the value."""

    where: str
    column: int = -1
    value: float | str = ""


@dataclass
class Tally:
    """What is counted of some rows: numbers, counters, and first spots."""

    def merge(self, later: Tally) -> None:
        """Add what was counted of later rows."""
        for item in fields(self):
            own, others = getattr(self, item.name), getattr(later, item.name)
            if isinstance(own, Counter):
                own.update(others)
            else:
                setattr(self, item.name, own + others if isinstance(own, int) else own or others)


@dataclass
class TextTally(Tally):
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

    def add(self, column: TextColumn, row_name: RowName, weighted: Mask = None) -> None:
        """Count the rows of a shard; `weighted` tells which of them weigh more than 0."""
        _count_texts(self.rows, column.texts, column.codes)
        if weighted is not None:
            _count_texts(self.weighted, column.texts, column.codes[weighted])
        missing = np.flatnonzero(column.codes < 0)
        self.missing += missing.size
        if missing.size and self.first_missing is None:
            self.first_missing = Spot(row_name(int(missing[0])))

    def look_for_words(self, column: TextColumn, row_name: RowName, kind_of: KindOf) -> None:
        """Tell the cells of a shard that are numbers from those that are words."""
        kinds = np.array([*(kind_of(text) for text in column.texts), "nothing"])[column.codes]
        self.numbers += int(np.count_nonzero(kinds == "number"))
        words = np.flatnonzero(kinds == "word")
        self.words += words.size
        if words.size and self.first_word is None:
            self.first_word = Spot(row_name(int(words[0])), value=column.texts[column.codes[words[0]]])

    def rename(self, names: Mapping[str, str]) -> None:
        """Count each text under another name; several may have one."""
        self.rows, self.weighted = _renamed(self.rows, names), _renamed(self.weighted, names)
        if self.first_row is not None:
            self.first_row = replace(self.first_row, value=names[str(self.first_row.value)])

    def trim(self, most: int) -> None:
        """Forget all but so many of the texts."""
        if len(self.rows) > most:
            self.rows = Counter(dict(self.rows.most_common(most)))


@dataclass
class WeightTally(Tally):
    """What is counted of sample weights: how many there are, and of which kinds."""

    rows: int = 0
    zero: int = 0
    negative: int = 0
    not_finite: int = 0
    first_bad: Spot | None = None

    def add(self, weights: NDArray[np.float64], row_name: RowName) -> float:
        """Count the weights of a shard, and return the sum of those that can be used."""
        finite = np.isfinite(weights)
        good = finite & (weights >= 0)
        self.rows += weights.size
        self.zero += int(np.count_nonzero(weights == 0))
        self.negative += int(np.count_nonzero(finite & ~good))
        self.not_finite += int(np.count_nonzero(~finite))
        bad = np.flatnonzero(~good)
        if bad.size and self.first_bad is None:
            self.first_bad = Spot(row_name(int(bad[0])), value=float(weights[bad[0]]))
        return float(sum_values(DenseColumns(weights[good, None]))[0])


@dataclass
class BadNumbers:
    """Numeric cells that hold no number, or an infinite one.

    Attributes
    ----------
    by_column : ndarray of int64, (n_columns,), or None
        Their count; None where there are none, as ten million columns are long.
    first : Spot or None
    """

    by_column: NDArray[np.int64] | None = None
    first: Spot | None = None

    @property
    def count(self) -> int:
        """How many there are."""
        return 0 if self.by_column is None else int(self.by_column.sum(dtype=np.int64))

    @property
    def n_columns(self) -> int:
        """In how many columns they are."""
        return 0 if self.by_column is None else int(np.count_nonzero(self.by_column))

    def add(self, features: Features, bad: NDArray[np.bool_], row_name: RowName) -> None:
        """Count those of a shard; `bad` marks them among the values, of a csr_array those that are stored."""
        if not bad.any():
            return
        if self.by_column is None:
            self.by_column = np.zeros(features.shape[1], dtype=np.int64)
        if isinstance(features, np.ndarray):
            self.by_column += np.count_nonzero(bad, axis=0)
        else:
            columns, counts = np.unique(features.indices[bad], return_counts=True)
            self.by_column[columns] += counts
        if self.first is None:
            row, column, value = first_marked(features, bad)
            self.first = Spot(row_name(row), column, value)

    def join(self, n_columns: int, cluster: Communicator) -> None:
        """Add what all ranks have counted. Collective."""
        self.first = next((spot for spot in cluster.allgather(self.first) if spot is not None), None)
        if self.first is None:
            return
        if self.by_column is None:
            self.by_column = np.zeros(n_columns, dtype=np.int64)
        cluster.sum_integers(self.by_column)


class NumberTally:
    """What is counted of numeric columns.

    Parameters
    ----------
    n_columns, n_shards : int
        Of the whole source.

    Attributes
    ----------
    missing, infinite : BadNumbers
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
        self.missing, self.infinite = BadNumbers(), BadNumbers()
        self.extremes = np.full((2, n_columns), -np.inf)
        self.nonzero = self.entries = 0
        self.sparse_bytes = np.zeros((3, n_shards), dtype=np.int64)
        self.stored: set[str] = set()
        self._covering = np.zeros(n_columns, dtype=np.int32)  # shards in which a column has an entry
        self._n_shards = 0

    def constant_columns(self, missing_is_0: bool) -> NDArray[np.int64]:
        """Return the columns with one value throughout, after what stands for a missing one is filled in."""
        highest, lowest = self.extremes[0], -self.extremes[1]
        constant = highest == lowest
        if self.missing.by_column is not None and missing_is_0:
            constant &= (self.missing.by_column == 0) | (highest == 0)
        return np.flatnonzero(constant)

    def add(self, shard: int, rows: RawRows, row_name: RowName, weighted: Mask = None) -> None:
        """Count the values of a shard; `weighted` tells which of its rows weigh more than 0."""
        features = rows.features
        values = features if isinstance(features, np.ndarray) else features.data
        self.stored.add(values.dtype.name)
        self.nonzero += int(np.count_nonzero(values))
        self.entries += int(values.size)
        finite: Mask = np.isfinite(values) if values.dtype.kind == "f" else None
        if finite is None or finite.all():
            finite = None
        else:
            self.missing.add(features, np.isnan(values), row_name)
            self.infinite.add(features, np.isinf(values), row_name)
        if isinstance(features, np.ndarray):
            self._widen(slice(None), *_extremes(features, finite, weighted))
            return
        if finite is not None:
            features = features.copy()
            features.data[~finite] = 0
        gathered = SparseFeatures.from_csr(features)
        rest = gathered.nbytes - gathered.matrix.data.nbytes
        self.sparse_bytes[:, shard] = max(size_of(features), gathered.nbytes), values.size, rest
        counted = gathered if weighted is None else gathered[weighted]
        self._widen(gathered.columns, extremes(counted), len(counted))

    def join(self, cluster: Communicator) -> None:
        """Add what all ranks have counted, once all shards are. Collective."""
        absent = self._covering < self._n_shards  # an entry that sparse rows lack is 0
        np.maximum(self.extremes, 0.0, out=self.extremes, where=absent)
        cluster.maximum(self.extremes)
        cluster.sum_integers(self.sparse_bytes)
        nonzero, entries, stored = zip(*cluster.allgather((self.nonzero, self.entries, self.stored)), strict=True)
        self.nonzero, self.entries, self.stored = sum(nonzero), sum(entries), set().union(*stored)
        for bad in (self.missing, self.infinite):
            bad.join(self.extremes.shape[1], cluster)

    def _widen(self, columns: NDArray[np.int64] | slice, seen: NDArray[np.float64], n_rows: int) -> None:
        """Take in the extremes of some columns of a shard with so many rows that count."""
        if n_rows:
            self.extremes[:, columns] = np.maximum(self.extremes[:, columns], seen)
            self._covering[columns] += 1
            self._n_shards += 1


def _renamed(counter: Counter[str], names: Mapping[str, str]) -> Counter[str]:
    renamed: Counter[str] = Counter()
    for text, count in counter.items():
        renamed[names[text]] += count
    return renamed


def _count_texts(counter: Counter[str], texts: tuple[str, ...], codes: NDArray[np.integer]) -> None:
    counts = np.bincount(codes[codes >= 0], minlength=len(texts))
    for code in np.flatnonzero(counts).tolist():
        counter[texts[code]] += int(counts[code])


def _extremes(features: NDArray, finite: Mask, weighted: Mask) -> tuple[NDArray[np.float64], int]:
    """Return the extremes of the finite values of the rows that weigh more than 0, and the number of these rows."""
    if weighted is not None:
        features, finite = features[weighted], None if finite is None else finite[weighted]
    if finite is None or not len(features):
        return extremes(features), len(features)
    ends = [np.where(finite, values, -np.inf).max(axis=0) for values in (features, -features)]
    return np.stack(ends).astype(np.float64), len(features)
