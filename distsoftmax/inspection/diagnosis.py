"""What is wrong with a source, by what was counted of it, in the words in which training would refuse it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from distsoftmax.arithmetic.fixed_point import LARGEST_VALUE
from distsoftmax.config import DataConfig
from distsoftmax.data.encoding import LARGEST_NUMBER_OF_CATEGORIES, double_name, dropped_rows
from distsoftmax.data.row_numbers import numbers_rows
from distsoftmax.data.shard_store import AT_HAND, too_little_memory
from distsoftmax.data.shards import bad_number, bad_weight, no_text
from distsoftmax.data.source import MISSING_LABEL, Source
from distsoftmax.data.standardization import too_large_value
from distsoftmax.data.survey import no_complete_row, one_class, weightless_class
from distsoftmax.inspection.census import Census
from distsoftmax.inspection.memory_need import MemoryNeed, ShardBytes
from distsoftmax.inspection.tally import BadNumbers, Spot, TextTally

LARGEST_RATIO_OF_SCALES = 1e6  # of the largest values of two columns, beyond which standardisation is recommended
LARGEST_RATIO_OF_CLASSES = 100  # of the largest class to the smallest, beyond which weights are recommended
LOWEST_DENSITY = 0.05  # share of values that are not 0, below which a sparse format is recommended
NAMES_SHOWN = 10  # of columns or classes, in one message


@dataclass(frozen=True)
class Problem:
    """Something wrong with a source: what training would refuse ("error"), or what is worth a look ("note")."""

    severity: str
    text: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.text}"


error = partial(Problem, "error")
note = partial(Problem, "note")


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong with a source.

    Attributes
    ----------
    config : DataConfig
        The options training would have.
    source : Source
    census : Census
    sizes : ShardBytes
    needs : tuple of MemoryNeed
        For the numbers of ranks there may be.
    bound : int or None
        The bytes that --memory allows.
    no_labels : str or None
        Why the labels are not known.
    """

    config: DataConfig
    source: Source
    census: Census
    sizes: ShardBytes
    needs: tuple[MemoryNeed, ...]
    bound: int | None
    no_labels: str | None

    def problems(self) -> tuple[Problem, ...]:
        """Return what is wrong, errors first."""
        problems = [
            *self._of_dropped_rows(),
            *self._of_labels(),
            *self._of_bad_numbers(),
            *self._of_columns(),
            *self._of_texts(),
            *self._of_weights(),
            *self._of_memory(),
        ]
        return tuple(sorted(problems, key=lambda problem: problem.severity))

    def word(self, name: str) -> str:
        """Return what names a column on the command line: its number, where the source has no names of its own."""
        has_names = self.config.header != "no" and not self.source.headless_by_guess
        return name if has_names else name.removeprefix("x")

    def remedy_for_commas(self, tally: TextTally) -> str:
        """Return the end of an error on a column of text where its first text is a number but for its commas."""
        if tally.first_word is None or not self.source.is_text:
            return ""
        from distsoftmax.data.readers.csv.head import remedy_for_commas

        return remedy_for_commas(str(tally.first_word.value), self.config.decimal)

    def _of_dropped_rows(self) -> Iterator[Problem]:
        path, n_rows, n_dropped = self.source.path, self.source.n_rows, self.census.n_dropped
        if n_dropped == n_rows:
            yield error(str(no_complete_row(path)))
        elif n_dropped:
            yield note(f"{path}: {dropped_rows(n_dropped, n_rows)}")

    def _of_labels(self) -> Iterator[Problem]:
        path, labels = self.source.path, self.census.labels
        if self.no_labels is not None:
            yield note(self.no_labels)
        if labels is None:
            return
        if labels.first_missing is not None:
            column = "" if self.source.label_name is None else f", column {self.source.label_name}"
            complaint = f"{labels.first_missing.where}{column}: {MISSING_LABEL}"
            yield error(f"{complaint}{_first_of(labels.missing, 'row')}")
        if len(labels.rows) == 1:
            yield error(str(one_class(path, *labels.rows)))
        if self.source.headless_by_guess and (first := labels.first_row) is not None:
            taken = f"{first.where}: the first line was taken for a row"
            say = "say --header yes if it holds the columns' names"
            if labels.rows[str(first.value)] == 1:
                yield error(f"{taken}, but its label {first.value!r} stands in no other row; {say}, or --header no")
            else:
                yield note(f"{taken}; {say}")
        yield from self._of_classes(path, labels.rows)

    def _of_classes(self, path: str, counts: dict[str, int]) -> Iterator[Problem]:
        n_samples, n_classes = sum(counts.values()), len(counts)
        if n_samples > 2 * n_classes:
            once = sorted(name for name, count in counts.items() if count == 1)
            if once:
                yield note(f"{path}: {_named('class', once, len(once))} with one sample; it cannot be held out")
            ratio = max(counts.values()) / min(counts.values())
            if ratio > LARGEST_RATIO_OF_CLASSES:
                yield note(
                    f"{path}: the largest class has {ratio:.0f} times as many samples as the smallest; --class-weight "
                    "balanced makes all count alike"
                )
        elif n_classes > 2:
            yield note(
                f"{path}: {n_samples} samples are of {n_classes} classes; is the label a number to be measured, or a "
                "name of the sample?"
            )

    def _of_bad_numbers(self) -> Iterator[Problem]:
        missing, impute = self.census.numbers.missing, self.config.impute
        if self.config.on_missing != "fill":
            yield from self._refused(missing)
        elif missing.count:
            filler = "the mean of the column" if impute == "mean" and not self.source.sparse else "0"
            columns = f"{_counted(missing.count, 'cell')} in {_counted(missing.n_columns, 'column')}"
            yield note(f"{self.source.path}: {columns} without a number; {filler} stands for it")
        yield from self._refused(self.census.numbers.infinite)

    def _refused(self, cells: BadNumbers) -> Iterator[Problem]:
        if (spot := cells.first) is not None:
            complaint = bad_number(f"{spot.where}, column {self.source.feature_names[spot.column]}", spot.value)
            yield error(f"{complaint}{_first_of(cells.count, 'cell', cells.n_columns)}")

    def _of_columns(self) -> Iterator[Problem]:
        source, numbers, names = self.source, self.census.numbers, self.source.feature_names
        magnitude = np.abs(numbers.extremes, where=np.isfinite(numbers.extremes), out=np.zeros_like(numbers.extremes))
        largest = magnitude.max(axis=0)
        too_large = np.flatnonzero(largest > LARGEST_VALUE)
        for column in too_large[:1]:
            complaint = too_large_value(source.path, names[column], float(largest[column]))
            yield error(f"{complaint}{_first_of(too_large.size, 'column')}")
        for column in self.census.row_numbers:
            yield note(numbers_rows(source, column, self.config))
        constant = numbers.constant_columns(self.config.impute == "zero")
        if constant.size:
            shown = _named("column", [names[column] for column in constant[:NAMES_SHOWN]], constant.size)
            yield note(f"{source.path}: {shown} with one value throughout; nothing can be learnt from that")
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
        undeclared, n_columns = not self.config.one_hot, len(self.source.category_names)
        may_be_label = undeclared and self.census.labels is None and n_columns == 1
        for name, tally in zip(self.source.category_names, self.census.categories, strict=True):
            if undeclared and tally.first_word is not None:
                yield self._undeclared(name, tally, tally.first_word, may_be_label)
            elif len(tally.rows) > LARGEST_NUMBER_OF_CATEGORIES:
                yield self._too_many(name)
            if not (tally.numbers or may_be_label or (undeclared and self.remedy_for_commas(tally))):
                yield from self._of_categories(name, tally)
        if not undeclared:
            tallies = zip(self.source.category_names, self.census.categories, strict=True)
            categories = [(name, sorted(tally.rows)) for name, tally in tallies]
            complaint = double_name(self.source.path, self.source.feature_names, categories)
            if complaint is not None:
                yield error(str(complaint))

    def _of_categories(self, name: str, tally: TextTally) -> Iterator[Problem]:
        path, n_rows, count = self.source.path, self.source.n_rows, len(tally.rows)
        if (spot := tally.first_missing) is not None:
            if self.config.impute == "error":
                yield error(f"{no_text(f'{spot.where}, column {name}')}{_first_of(tally.missing, 'cell')}")
            else:
                yield note(f"{path}: column {name}: cells without text ({tally.missing}) are of no category")
        if 2 * count > n_rows > 2 and count <= LARGEST_NUMBER_OF_CATEGORIES:
            yield note(
                f"{path}: column {name} holds {count} different texts in {n_rows} rows; what is met once teaches "
                f"nothing: leave it out with --drop {name}"
            )

    def _undeclared(self, name: str, tally: TextTally, first_word: Spot, may_be_label: bool) -> Problem:
        where, text = f"{first_word.where}, column {name}", repr(first_word.value)
        commas = self.remedy_for_commas(tally)
        if tally.numbers:
            return error(f"{where}: {text} is not a number{commas}{_first_of(tally.words, 'cell')}")
        if len(tally.rows) > LARGEST_NUMBER_OF_CATEGORIES and not commas:
            return self._too_many(name)
        word = self.word(name)
        remedy = f"declare it with --one-hot {word}, or leave it out with --drop {word}{commas}"
        if may_be_label:
            return note(f"{where}: it holds text ({text}); say --label {word} if it is the label; else {remedy}")
        return error(f"{where}: it holds text ({text}); {remedy}")

    def _too_many(self, name: str) -> Problem:
        return error(
            f"{self.source.path}: column {name} holds more than {LARGEST_NUMBER_OF_CATEGORIES} different texts, too "
            f"many for categories; leave it out with --drop {name}"
        )

    def _of_weights(self) -> Iterator[Problem]:
        weights, labels = self.census.weights, self.census.labels
        if weights is None:
            return
        if (spot := weights.first_bad) is not None:
            more = _first_of(weights.negative + weights.not_finite, "row")
            yield error(f"{bad_weight(spot.where, spot.value)}{more}")
        elif labels is not None:
            for name in sorted(set(labels.rows) - set(labels.weighted))[:1]:
                yield error(str(weightless_class(self.source.path, name)))
        if weights.zero:
            yield note(f"{self.source.path}: {_counted(weights.zero, 'row')} of weight 0 will not count")

    def _of_memory(self) -> Iterator[Problem]:
        path, least, n_shards = self.source.path, self.sizes.least_bound, self.sizes.kept.size
        if self.bound is not None and least > self.bound:
            yield error(str(too_little_memory(path, self.source.n_rows, n_shards, self.bound, least // AT_HAND)))
        for need in self.needs:
            if need.ranks > n_shards:
                enough = min(4 * need.ranks, self.source.n_rows)
                more = f"; --shards {enough} gives every rank at least one" if enough >= need.ranks else ""
                yield note(f"{path}: {need.ranks - n_shards} of {need.ranks} ranks would have no shard{more}")


def _counted(count: int, noun: str) -> str:
    """Return a count and a noun: "1 cell", "2 classes"."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{count} {noun if count == 1 else plural}"


def _first_of(count: int, noun: str, n_columns: int = 0) -> str:
    """Return what follows on the first of so many: " (the first of 3 such cells, in 2 columns)"."""
    columns = f", in {_counted(n_columns, 'column')}" if n_columns else ""
    return f" (the first of {count} such {noun}s{columns})" if count > 1 else ""


def _named(noun: str, names: Sequence[str], count: int) -> str:
    """Return how many there are, and a few of their names: "3 columns (a, b, c)"."""
    return f"{_counted(count, noun)} ({', '.join(names[:NAMES_SHOWN])}{', ...' if count > NAMES_SHOWN else ''})"
