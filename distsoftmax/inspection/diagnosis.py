"""What is wrong with a source, by what was counted of it, in the words in which training would refuse it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distsoftmax.arithmetic.fixed_point import LARGEST_VALUE
from distsoftmax.config import DataConfig
from distsoftmax.data.encoding import LARGEST_NUMBER_OF_CATEGORIES, double_name
from distsoftmax.data.shard_store import AT_HAND, too_little_memory
from distsoftmax.data.shards import bad_number, bad_weight, no_text
from distsoftmax.data.source import Source
from distsoftmax.data.standardization import too_large_value
from distsoftmax.data.survey import one_class, weightless_class
from distsoftmax.inspection.census import Census
from distsoftmax.inspection.memory_need import MemoryNeed, ShardBytes
from distsoftmax.inspection.tally import Spot, TextTally

LARGEST_RATIO_OF_SCALES = 1e6
LARGEST_RATIO_OF_CLASSES = 100
LOWEST_DENSITY = 0.05
SHOWN = 10


@dataclass(frozen=True)
class Problem:
    """Something wrong with a source: what training would refuse ("error"), or what is worth a look ("note")."""

    severity: str
    text: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.text}"


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What is wrong with a source.

    Attributes
    ----------
    config : DataConfig
        The options training would have.
    needs : tuple of MemoryNeed
        For the numbers of ranks there may be.
    bound : int or None
        The bytes that --memory allows.
    undeclared : frozenset of str
        Text columns that nobody declared as categories.
    no_labels : str or None
        Why the labels are not known.
    """

    config: DataConfig
    source: Source
    census: Census
    sizes: ShardBytes
    needs: tuple[MemoryNeed, ...]
    bound: int | None
    undeclared: frozenset[str]
    no_labels: str | None

    def problems(self) -> tuple[Problem, ...]:
        """Return what is wrong, errors first."""
        found = [
            *self._of_labels(),
            *self._of_cells(),
            *self._of_columns(),
            *self._of_texts(),
            *self._of_weights(),
            *self._of_memory(),
        ]
        return tuple(sorted(found, key=lambda problem: problem.severity))

    def constant_columns(self) -> NDArray[np.int64]:
        """Return the numeric columns with one value throughout."""
        highest, lowest = self.census.numbers.extremes[0], -self.census.numbers.extremes[1]
        constant = highest == lowest
        missing = self.census.numbers.missing
        if missing is not None and self.config.impute == "zero":
            constant &= (missing == 0) | (highest == 0)
        return np.flatnonzero(constant)

    def _of_labels(self) -> Iterator[Problem]:
        path, labels = self.source.path, self.census.labels
        if self.no_labels is not None:
            yield note(self.no_labels)
        if labels is None:
            return
        if labels.first_missing is not None:
            where = labels.first_missing.where
            yield error(f"{where}: the label is missing; leave the row out{_first_of(labels.missing, 'rows')}")
        counts = labels.rows
        if len(counts) == 1:
            yield error(str(one_class(path, next(iter(counts)))))
        first = labels.first_row
        if self.source.headless_by_guess and first is not None:
            taken = f"{first.where}: the first line was taken for a row"
            say = "say --header yes if it holds the columns' names"
            if counts[str(first.value)] == 1:
                yield error(f"{taken}, but its label {first.value!r} stands in no other row; {say}, or --header no")
            else:
                yield note(f"{taken}; {say}")
        n_samples = sum(counts.values())
        once = sorted(name for name, count in counts.items() if count == 1)
        if n_samples > 2 * len(counts):
            if once:
                yield note(f"{path}: {_named('class', 'classes', once)} with one sample; it cannot be held out")
            largest, smallest = max(counts.values()), min(counts.values())
            if largest > LARGEST_RATIO_OF_CLASSES * smallest:
                yield note(
                    f"{path}: the largest class has {largest / smallest:.0f} times as many samples as the smallest; "
                    "--class-weight balanced makes all count alike"
                )
        elif len(counts) > 2:
            yield note(
                f"{path}: {n_samples} samples are of {len(counts)} classes; is the label a number to be measured, or "
                "a name of the sample?"
            )

    def _of_cells(self) -> Iterator[Problem]:
        numbers, names = self.census.numbers, self.source.feature_names
        if (spot := numbers.first_missing) is not None and numbers.missing is not None:
            if self.config.impute == "error":
                more = _first_of(int(numbers.missing.sum(dtype=np.int64)), "cells", numbers.missing)
                yield error(f"{bad_number(f'{spot.where}, column {names[spot.column]}', spot.value)}{more}")
            else:
                mean = self.config.impute == "mean" and not self.source.sparse
                yield note(
                    f"{self.source.path}: {_in_columns(numbers.missing)} without a number; "
                    f"{'the mean of the column' if mean else '0'} stands for it"
                )
        if (spot := numbers.first_infinite) is not None and numbers.infinite is not None:
            more = _first_of(int(numbers.infinite.sum(dtype=np.int64)), "cells", numbers.infinite)
            yield error(f"{bad_number(f'{spot.where}, column {names[spot.column]}', spot.value)}{more}")

    def _of_columns(self) -> Iterator[Problem]:
        source, numbers, names = self.source, self.census.numbers, self.source.feature_names
        magnitude = np.abs(numbers.extremes, where=np.isfinite(numbers.extremes), out=np.zeros_like(numbers.extremes))
        largest = magnitude.max(axis=0)
        too_large = np.flatnonzero(largest > LARGEST_VALUE)
        for column in too_large[:1]:
            complaint = too_large_value(source.path, names[column], float(largest[column]))
            yield error(f"{complaint}{_first_of(too_large.size, 'columns')}")
        constant = self.constant_columns()
        if constant.size:
            some = [names[column] for column in constant[:SHOWN]]
            yield note(
                f"{source.path}: {_named('column', 'columns', some, constant.size)} with one value throughout; nothing "
                "can be learnt from that"
            )
        largest[constant] = 0
        varied = np.flatnonzero(largest)
        if varied.size > 1:
            low, high = varied[largest[varied].argmin()], varied[largest[varied].argmax()]
            if largest[high] > LARGEST_RATIO_OF_SCALES * largest[low]:
                yield note(
                    f"{source.path}: the scales of columns differ: up to {largest[low]:.3g} in {names[low]}, up to "
                    f"{largest[high]:.3g} in {names[high]}; let training standardize them, as it does by default"
                )
        if not source.sparse and 0 < numbers.nonzero < LOWEST_DENSITY * numbers.entries:
            yield note(
                f"{source.path}: {1 - numbers.nonzero / numbers.entries:.1%} of the values are 0; as svmlight or as a "
                "sparse matrix in .npz they would take less memory and time"
            )

    def _of_texts(self) -> Iterator[Problem]:
        source = self.source
        for name, tally in zip(source.category_names, self.census.categories, strict=True):
            count, spot = len(tally.rows), tally.first_missing
            may_be_label = self.census.labels is None and len(self.undeclared) == 1
            if name in self.undeclared and tally.first_word is not None:
                yield self._undeclared(name, tally, tally.first_word, may_be_label)
            elif count > LARGEST_NUMBER_OF_CATEGORIES:
                yield self._too_many(name)
            if tally.numbers or (name in self.undeclared and may_be_label):
                continue
            if spot is not None and self.config.impute == "error":
                more = _first_of(tally.missing, "cells")
                yield error(f"{no_text(f'{spot.where}, column {name}')}{more}")
            elif spot is not None:
                yield note(f"{source.path}: column {name}: cells without text ({tally.missing}) are of no category")
            if 2 * count > source.n_rows > 2 and count <= LARGEST_NUMBER_OF_CATEGORIES:
                yield note(
                    f"{source.path}: column {name} holds {count} different texts in {source.n_rows} rows; what is met "
                    "once teaches nothing: leave it out with --features"
                )
        tallies = zip(source.category_names, self.census.categories, strict=True)
        declared = [(name, sorted(tally.rows)) for name, tally in tallies if name not in self.undeclared]
        complaint = double_name(source.path, source.feature_names, declared)
        if complaint is not None:
            yield error(str(complaint))

    def _undeclared(self, name: str, tally: TextTally, first_word: Spot, may_be_label: bool) -> Problem:
        where, text = f"{first_word.where}, column {name}", repr(first_word.value)
        if tally.numbers:
            return error(f"{where}: {text} is not a number{_first_of(tally.words, 'cells')}")
        if len(tally.rows) > LARGEST_NUMBER_OF_CATEGORIES:
            return self._too_many(name)
        has_names = self.config.header != "no" and not self.source.headless_by_guess
        word = name if has_names else name.removeprefix("x")
        remedy = f"declare it with --one-hot {word}, or leave it out with --features"
        if may_be_label:
            return note(f"{where}: it holds text ({text}); say --label {word} if it is the label; else {remedy}")
        return error(f"{where}: it holds text ({text}); {remedy}")

    def _too_many(self, name: str) -> Problem:
        return error(
            f"{self.source.path}: column {name} holds more than {LARGEST_NUMBER_OF_CATEGORIES} different texts, too "
            "many for categories; leave it out with --features"
        )

    def _of_weights(self) -> Iterator[Problem]:
        weights, labels = self.census.weights, self.census.labels
        if weights is None:
            return
        if (spot := weights.first_bad) is not None:
            more = _first_of(weights.negative + weights.not_finite, "rows")
            yield error(f"{bad_weight(spot.where, spot.value)}{more}")
        elif labels is not None:
            for name in sorted(set(labels.rows) - set(labels.weighted))[:1]:
                yield error(str(weightless_class(self.source.path, name)))
        if weights.zero:
            yield note(f"{self.source.path}: {weights.zero} rows have weight 0 and do not count")

    def _of_memory(self) -> Iterator[Problem]:
        path, least, n_shards = self.source.path, self.sizes.least_bound, self.sizes.read.size
        if self.bound is not None and least > self.bound:
            yield error(str(too_little_memory(path, self.bound, least // AT_HAND, n_shards)))
        for need in self.needs:
            if need.ranks > n_shards:
                more = f"; --shards {4 * need.ranks} gives each some" if self.source.n_rows >= need.ranks else ""
                yield note(f"{path}: {need.ranks - n_shards} of {need.ranks} ranks would have no shard{more}")


def error(text: str) -> Problem:
    """Return a problem that would stop training."""
    return Problem("error", text)


def note(text: str) -> Problem:
    """Return a problem that is worth a look."""
    return Problem("note", text)


def _first_of(count: int, what: str, by_column: NDArray[np.int64] | None = None) -> str:
    if count == 1:
        return ""
    return f" (the first of {count} such {what}{'' if by_column is None else f', in {_columns(by_column)}'})"


def _in_columns(counts: NDArray[np.int64]) -> str:
    cells = int(counts.sum(dtype=np.int64))
    return f"{cells} {'cell' if cells == 1 else 'cells'} in {_columns(counts)}"


def _columns(counts: NDArray[np.int64]) -> str:
    columns = int(np.count_nonzero(counts))
    return f"{columns} {'column' if columns == 1 else 'columns'}"


def _named(one: str, many: str, names: list[str], count: int | None = None) -> str:
    """Return a few names, and how many there are: "3 columns (a, b, c)"."""
    count = len(names) if count is None else count
    if count == 1:
        return f"1 {one} ({names[0]})"
    return f"{count} {many} ({', '.join(names[:SHOWN])}{', ...' if count > SHOWN else ''})"
