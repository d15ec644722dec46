"""Shards: fixed slices of a source, the same on any number of ranks, and each rank's reading of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from distsoftmax.cluster.assignment import reading_runs
from distsoftmax.config import OnMissing
from distsoftmax.data.class_names import are_numbers, number_name
from distsoftmax.data.features import first_marked, moved, size_of
from distsoftmax.data.missing import complete_rows, only_rows
from distsoftmax.data.open_source import open_source
from distsoftmax.data.source import RawRows, Source, SourceSpec, TextColumn
from distsoftmax.errors import InputError
from distsoftmax.model import Encoding

if TYPE_CHECKING:
    from distsoftmax.cluster.communicator import Communicator

FEWEST_SHARDS = 16  # for data so small that each costs more than its rows
MANY_SHARDS = 64  # enough for even work on a few dozen ranks
SMALL_SHARD_ROWS = 1024  # fewer rows take less time than the calls that work on them
LARGEST_SHARD_ROWS = 16_384
LARGEST_WEIGHT = 1e100
MISSING_REMEDY = "fill it in, or train with --impute mean or zero, or with --drop-rows-missing"

ShowProgress = Callable[[str, int, int], None]  # (what is done, how much of it is done, how much there is)


def show_nothing(description: str, completed: int, total: int) -> None:
    """Take a report of progress and keep quiet."""


@dataclass(frozen=True)
class RawShard:
    """A shard as read.

    Attributes
    ----------
    number : int
    first_row : int
        Its first row's number in the source.
    rows : RawRows
    source : Source
        Where it was read from.
    complete : ndarray of bool, (rows in the source,), or None
        Which of its rows are here, where those with a missing cell are left out; None: all.
    """

    number: int
    first_row: int
    rows: RawRows
    source: Source
    complete: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return int(self.rows.features.shape[0])

    @property
    def n_dropped(self) -> int:
        """The number of rows that are left out."""
        return 0 if self.complete is None else self.complete.size - len(self)

    def where(self, row: int) -> str:
        """Return what an error calls a row of the shard."""
        if self.complete is not None:
            row = np.flatnonzero(self.complete)[row]
        path, number = self.source.locate(self.first_row + int(row))
        return f"{path}: row {number}"

    def class_codes(self, classes: tuple[str, ...]) -> NDArray[np.intp]:
        """Return the class of each row, shape (rows,), as its number among these.

        Raises
        ------
        InputError
            A label is none of the classes; names the first row with it.
        """
        column = self.rows.labels
        assert column is not None
        code_of = {name: code for code, name in enumerate(classes)}
        spellings = [text for text in column.texts if text not in code_of]
        if spellings and are_numbers(classes):
            code_of |= {text: code_of.get(number_name(text) or text, -1) for text in spellings}
        codes = np.array([code_of.get(text, -1) for text in column.texts], dtype=np.intp)
        result = codes[column.codes] if column.texts else np.zeros(0, dtype=np.intp)
        for row in np.flatnonzero(result < 0)[:1]:
            text = column.texts[column.codes[row]]
            known = ", ".join(classes[:20]) + (", ..." if len(classes) > 20 else "")
            raise InputError(
                f"{self.where(row)}: the class {text!r} was never seen in training; the model knows {known}"
            )
        return result

    def without_missing(self) -> RawShard:
        """Return the same without the rows that have a missing cell."""
        complete = complete_rows(self.rows)
        return self if complete.all() else replace(self, rows=only_rows(self.rows, complete), complete=complete)

    @property
    def nbytes(self) -> int:
        """The bytes of its features and categories, as they are stored."""
        return size_of(self.rows.features) + sum(column.codes.nbytes for column in self.rows.categories)

    def moved(self, keep: Callable[[NDArray], NDArray]) -> RawShard:
        """Return the same with the arrays of its features and categories as `keep` returns them."""
        rows = self.rows
        categories = tuple(TextColumn(column.texts, keep(column.codes)) for column in rows.categories)
        return replace(self, rows=replace(rows, features=moved(rows.features, keep), categories=categories))


@dataclass(frozen=True)
class DividedSource:
    """A source whose shards are fixed.

    Attributes
    ----------
    bounds : ndarray of int64, (n_shards + 1,)
        Shard s holds the rows bounds[s] to bounds[s + 1].
    own : range
        The shards of this rank.
    cluster : Communicator
        Counts the shards that are read.
    weights : ndarray of float64, (n_ranks,), or None
        By which the shards are dealt out to the ranks; None: evenly.
    """

    source: Source
    bounds: NDArray[np.int64]
    own: range
    cluster: Communicator
    weights: NDArray[np.float64] | None = None

    @property
    def n_shards(self) -> int:
        """The number of shards on all ranks together."""
        return self.bounds.size - 1

    def read(self, number: int, *, on_missing: OnMissing = "error") -> RawShard:
        """Read a shard of this rank and look at its values. Not collective.

        Parameters
        ----------
        number : int
        on_missing : {"error", "fill", "drop row"}
            What becomes of a missing cell.

        Raises
        ------
        InputError
            Naming file, row and column of what cannot be used.
        """
        shard = self.read_unchecked(number)
        if on_missing == "drop row":
            shard = shard.without_missing()
        rows, weights = shard.rows, shard.rows.weights
        self._check_features(shard, on_missing == "fill")
        if weights is not None:
            for row in np.flatnonzero(~((weights >= 0) & (weights <= LARGEST_WEIGHT)))[:1]:
                raise bad_weight(shard.where(row), weights[row])
        if on_missing == "error":
            for name, column in zip(self.source.category_names, rows.categories, strict=True):
                for row in np.flatnonzero(column.codes < 0)[:1]:
                    raise no_text(f"{shard.where(row)}, column {name or repr('')}")
        return shard

    def read_unchecked(self, number: int) -> RawShard:
        """Read a shard of this rank, whatever its values are. Not collective."""
        shard = RawShard(number, int(self.bounds[number]), self.source.read(number), self.source)
        self.cluster.n_shards_done += 1
        return shard

    def read_all(self, show: ShowProgress = show_nothing, *, on_missing: OnMissing = "error") -> Iterator[RawShard]:
        """Read this rank's shards, one after the other; see `read`."""
        for number in self.own:
            show(f"reading {self.source.path}", number - self.own.start, len(self.own))
            yield self.read(number, on_missing=on_missing)

    def require_columns(self, encoding: Encoding, owner: str) -> None:
        """Refuse a source with other columns than its `owner` has: another number of features, other categories.

        Raises
        ------
        InputError
            On every rank, which must all call it.
        """
        n_features, expected = len(self.source.feature_names), len(encoding.numeric)
        if n_features != expected:
            raise InputError(
                f"{self.source.path}: has {n_features} features, {owner} {expected}; give the same columns"
            ).on_all_ranks()
        if len(self.source.category_names) != len(encoding.categories):  # named alike, or taken by their places
            categories = ", ".join(name for name, _ in encoding.categories)
            raise InputError(f"{self.source.path}: lacks text columns that {owner} has: {categories}").on_all_ranks()

    def _check_features(self, shard: RawShard, missing: bool) -> None:
        features = shard.rows.features
        values = features if isinstance(features, np.ndarray) else features.data
        if values.dtype.kind != "f" or np.isfinite(values).all():
            return
        bad = np.isinf(values) if missing else ~np.isfinite(values)
        if not bad.any():
            return
        row, column, value = first_marked(features, bad)
        raise bad_number(f"{shard.where(row)}, column {self.source.feature_names[column] or repr('')}", value)


def bad_number(where: str, value: float | str) -> InputError:
    """Return the error for a value that is NaN, which stands for a missing one, or infinite."""
    if np.isnan(float(value)):
        return InputError(f"{where}: there is no number (an empty cell, NA or NaN); {MISSING_REMEDY}")
    return InputError(f"{where}: the value is {value}; every feature must be a finite number")


def no_text(where: str) -> InputError:
    """Return the error for a cell without a category."""
    return InputError(f"{where}: there is no text; {MISSING_REMEDY}")


def bad_weight(where: str, weight: float | str) -> InputError:
    """Return the error for a weight that is none; NaN stands for a missing one."""
    if np.isnan(float(weight)):
        return InputError(f"{where}: the weight is missing; fill it in, or train with --drop-rows-missing")
    return InputError(f"{where}: the weight is {weight}; it must be a number from 0 to {LARGEST_WEIGHT:g}")


def divide_source(
    source: Source | SourceSpec,
    n_shards: int | None,
    cluster: Communicator,
    *,
    or_fewer: bool = False,
    owned: Sequence[range] | None = None,
    weights: NDArray[np.float64] | None = None,
) -> DividedSource:
    """Open a source where it is not open yet, find its rows and fix its shards. Collective.

    Parameters
    ----------
    n_shards : int or None
        None: as many as its rows ask for.
    or_fewer : bool
        Whether a source with fewer rows than that is cut into its rows.
    owned : sequence of range, or None
        The shards that each rank reads; None: all shards, in proportion to the weights.
    weights : ndarray of float64, (n_ranks,), or None
        The speed of each rank, the same on every rank; None: all are equal.

    Raises
    ------
    InputError
        On every rank: the source cannot be used, has no rows, or fewer than shards.
    """
    opened = open_source(source, cluster) if isinstance(source, SourceSpec) else source
    opened.scan(cluster)
    if opened.n_rows <= 0:
        raise InputError(f"{opened.path}: holds no samples, only a header or nothing").on_all_ranks()
    if n_shards is not None and n_shards > opened.n_rows:
        if not or_fewer:
            raise InputError(
                f"--shards is {n_shards}, but {opened.path} holds {opened.n_rows} samples; ask for as many at most"
            ).on_all_ranks()
        n_shards = opened.n_rows
    bounds = shard_bounds(opened.n_rows, n_shards or default_n_shards(opened.n_rows))
    if owned is None:
        owned = reading_runs(np.diff(bounds), cluster.size, weights)
    opened.divide(bounds, owned, cluster)
    return DividedSource(opened, bounds, owned[cluster.rank], cluster, weights)


def default_n_shards(n_rows: int) -> int:
    """Return the number of shards for a source of `n_rows`: it follows from the source, never from the ranks."""
    few = max(FEWEST_SHARDS, min(MANY_SHARDS, n_rows // SMALL_SHARD_ROWS))
    return min(n_rows, max(few, -(-n_rows // LARGEST_SHARD_ROWS)))


def shard_bounds(n_rows: int, n_shards: int) -> NDArray[np.int64]:
    """Return the rows at which shards begin and end, shape (n_shards + 1,); sizes differ by at most one row."""
    number = np.arange(n_shards + 1, dtype=np.int64)
    whole, rest = divmod(n_rows, n_shards)
    bounds: NDArray[np.int64] = number * whole + number * rest // n_shards  # number * n_rows may be beyond int64
    return bounds
