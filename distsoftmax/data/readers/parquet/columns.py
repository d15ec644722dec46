"""Which columns of Parquet files are features and which are anything else, by name."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from distsoftmax.data.readers.column_names import (
    first_double,
    label_not_said,
    listed,
    no_such_column,
    refuse_two_roles,
)
from distsoftmax.data.readers.parquet.types import (
    Types,
    are_alike,
    is_text,
    list_size,
    require_number,
    require_role,
)
from distsoftmax.data.readers.partition_columns import partition_is_no_weight, partition_is_text
from distsoftmax.data.source import AUTO, SourceSpec
from distsoftmax.errors import InputError

PANDAS_INDEX = re.compile(r"__index_level_\d+__")


@dataclass(frozen=True)
class Run:
    """Neighbouring features from one column: a number, or the elements `first` and following of a list."""

    column: str
    first: int
    width: int


@dataclass(frozen=True)
class ParquetColumns:
    """The columns to read, by name.

    Attributes
    ----------
    runs : tuple of Run
        The features, in their order.
    partitions : mapping of str to pyarrow.DataType
        The columns that are in the names of folders, and their types as features or weights; else they are texts, as
        the type follows from the parts at hand.
    kept : tuple of str
        What is read as it stands, besides what else it is.
    dropped : tuple of str
        What the user leaves out.
    left_out : tuple of str
        What pandas wrote as its index, which is no feature unless named.
    """

    label: str | None
    weight: str | None
    categories: tuple[str, ...]
    runs: tuple[Run, ...]
    feature_names: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    partitions: Types = field(default_factory=dict)

    @property
    def numeric(self) -> tuple[str, ...]:
        """The columns that features come from, each once."""
        return tuple(dict.fromkeys(run.column for run in self.runs))

    @property
    def wanted(self) -> tuple[str, ...]:
        """All columns to read, each once."""
        others = (name for name in (self.label, self.weight) if name is not None)
        return tuple(dict.fromkeys((*self.numeric, *self.categories, *others, *self.kept)))


def choose_columns(spec: SourceSpec, path: str, types: Types, partitions: Types) -> ParquetColumns:
    """Find the columns that the user or a model names, and see that their types can be what they are taken for.

    `types` are all columns, `partitions` those of them that are in the names of folders.

    Raises
    ------
    InputError
        A column is missing, named in two roles, or of a type that cannot be used; no feature is left.
    """
    if spec.label is None and spec.known_label in types:
        spec = replace(spec, label=spec.known_label)
    if spec.label is None and spec.needs_labels:
        raise label_not_said(path, spec.known_label, _list(types))
    texts = spec.one_hot if spec.one_hot != AUTO else ()
    refuse_two_roles(path, _named(spec, path, texts, types))
    refuse_two_roles(path, _existing(path, (("keep", name) for name in spec.keep), types))
    if spec.needs_labels and spec.label is not None:
        require_role(path, spec.label, types[spec.label], "label")
    if spec.weight is not None:
        if spec.weight in partitions and is_text(types[spec.weight]):
            raise partition_is_no_weight(path, spec.weight)
        require_role(path, spec.weight, types[spec.weight], "weight")
    rest = [name for name in types if name not in (spec.label, spec.weight, *spec.drop)]
    index = tuple(name for name in rest if PANDAS_INDEX.fullmatch(name))
    features = spec.features or tuple(name for name in rest if name not in (*index, *texts))
    if spec.one_hot == AUTO:
        texts = tuple(name for name in features if is_text(types[name]))
    if spec.expected_categories is not None:
        texts = spec.expected_categories
        _require_expected(path, texts, rest, types)
    for name in partitions if spec.expected_names is None else ():
        if name in features and name not in texts and is_text(types[name]):
            raise partition_is_text(path, name)
    for name in texts:
        if name not in partitions:  # those are texts, whatever numbers they spell
            require_role(path, name, types[name], "one-hot")
    if spec.expected_names is not None:
        names = tuple(spec.expected_names)
        runs = _find_elements(path, names, rest, types)
    else:
        runs = [_whole(path, name, types[name]) for name in features if name not in texts]
        names = tuple(name for run in runs for name in _element_names(run.column, types[run.column]))
    if not runs and not texts:
        raise InputError(f"{path}: has no column besides the label; there is no feature to learn from")
    double = first_double(names)
    if double is not None:
        raise InputError(f"{path}: two features are named {double!r}; give each a name of its own")
    return ParquetColumns(
        label=spec.label if spec.needs_labels else None,
        weight=spec.weight,
        categories=tuple(texts),
        runs=tuple(runs),
        feature_names=names,
        dropped=spec.drop,
        kept=spec.keep,
        partitions=partitions,
        left_out=() if spec.features or spec.expected_names is not None else index,
    )


def require_same_columns(
    columns: ParquetColumns, path: str, types: Types, other_path: str, other_types: Types, open_end: bool
) -> None:
    """Compare a part with the first one, at `path`, of which the columns were chosen.

    Parameters
    ----------
    open_end : bool
        Whether the part may have other columns besides.

    Raises
    ------
    InputError
        It lacks a column, has one more that would be a feature, or has one of another type.
    """
    numeric = set(columns.numeric)
    for name in columns.wanted:
        if name not in other_types:
            raise InputError(f"{other_path}: lacks the column {name}, which {path} has; give parts of one table")
        is_alike = are_alike(types[name], other_types[name], name in numeric)
        if not is_alike or (name in columns.kept and types[name] != other_types[name]):
            raise InputError(
                f"{other_path}: column {name} is of type {other_types[name]}, but in {path} of type {types[name]}; "
                "write all parts with one type"
            )
    for name in () if open_end else other_types:
        if name not in (*types, *columns.dropped) and not PANDAS_INDEX.fullmatch(name):
            raise InputError(
                f"{other_path}: has a column {name}, which {path} lacks; give parts of one table, or leave the "
                "column out with --drop"
            )


def _named(spec: SourceSpec, path: str, texts: Sequence[str], types: Types) -> Iterator[tuple[str, str, str]]:
    """Return the columns that options name, as `refuse_two_roles` takes them; each must be there."""
    words = [(option, name) for option, name in (("label", spec.label), ("weight", spec.weight)) if name is not None]
    words += [("drop", name) for name in spec.drop]
    words += [("features", name) for name in spec.features] + [("one-hot", name) for name in texts]
    return _existing(path, words, types)


def _existing(path: str, words: Iterable[tuple[str, str]], types: Types) -> Iterator[tuple[str, str, str]]:
    for option, name in words:
        if name not in types:
            raise no_such_column(path, option, name, types, _list(types))
        yield option, name, name


def _whole(path: str, name: str, arrow_type: pa.DataType) -> Run:
    """Return all that a column holds as features."""
    require_number(path, name, arrow_type)
    size = list_size(arrow_type)
    return Run(name, 0, 1 if size is None else size)


def _element_names(name: str, arrow_type: pa.DataType) -> Iterable[str]:
    size = list_size(arrow_type)
    return (name,) if size is None else (f"{name}[{element}]" for element in range(size))


def _find_elements(path: str, expected: Sequence[str], rest: Sequence[str], types: Types) -> list[Run]:
    """Return where a model's features come from, neighbouring elements of a column together."""
    elements: dict[str, tuple[str, int]] = {}  # by the name of a feature
    for column in sorted(rest, key=lambda name: list_size(types[name]) is None):  # a column of just that name wins
        elements.update({name: (column, at) for at, name in enumerate(_element_names(column, types[column]))})
    _require_expected(path, expected, elements, types)
    for column in dict.fromkeys(elements[name][0] for name in expected):
        require_number(path, column, types[column])
    runs: list[Run] = []
    for name in expected:
        column, element = elements[name]
        if runs and runs[-1].column == column and runs[-1].first + runs[-1].width == element:
            runs[-1] = Run(column, runs[-1].first, runs[-1].width + 1)
        else:
            runs.append(Run(column, element, 1))
    return runs


def _require_expected(path: str, expected: Sequence[str], names: Collection[str], types: Types) -> None:
    known = set(names)
    missing = [name for name in expected if name not in known]
    if missing:
        shown = ", ".join(missing[:10]) + (", ..." if len(missing) > 10 else "")
        raise InputError(f"{path}: lacks the model's features {shown}; {_list(types)}")


def _list(types: Types) -> str:
    return f"the columns are {listed(list(types))}"
