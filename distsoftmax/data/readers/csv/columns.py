"""Which columns of a CSV file are features, which are anything else, and whether the first line holds their names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from distsoftmax.data.readers.column_names import (
    first_double,
    label_not_said,
    listed,
    no_such_column,
    refuse_two_roles,
)
from distsoftmax.data.readers.csv.head import is_number, null_texts
from distsoftmax.data.source import AUTO, SourceSpec
from distsoftmax.errors import InputError
from distsoftmax.model import NumberedNames


@dataclass(frozen=True)
class CsvColumns:
    """The columns of a CSV file, by their numbers counted from 0; those in the names of its folders come last."""

    names: tuple[str, ...]
    has_header: bool
    label: int | None
    weight: int | None
    features: tuple[int, ...]
    categories: tuple[int, ...]
    kept: tuple[int, ...] = ()
    partitions: tuple[str, ...] = ()

    @property
    def n_cells(self) -> int:
        """The number of columns in the file."""
        return len(self.names) - len(self.partitions)


def is_header(spec: SourceSpec, path: str, cells: Sequence[str], partitions: Collection[str] = ()) -> bool:
    """Return whether the first record holds names: as the user says, else by guess.

    It does where it names a column that the user or a model names, or where no cell that should be a number is one.

    Raises
    ------
    InputError
        It cannot be told.
    """
    if spec.header != "auto":
        return spec.header == "yes"
    if spec.expected_names is not None and {*spec.expected_names, *(spec.expected_categories or ())} <= {
        *cells,
        *partitions,
    }:
        return True
    texts = spec.one_hot if spec.one_hot != AUTO else ()
    named = (spec.label, spec.weight, *spec.drop, *spec.keep, *spec.features, *texts)
    numbers = {word: _number(word) for word in named if word is not None and word not in partitions}
    if any(word in cells and (number is None or number >= len(cells)) for word, number in numbers.items()):
        return True
    no_numbers = {_number(word) for word in (spec.label, *spec.drop, *spec.left_out, *texts) if word is not None}
    looked_at = {_number(word) for word in (spec.weight, *spec.features) if word is not None} if spec.features else None
    known = (*(spec.expected_names or ()), *(spec.expected_categories or ()))
    if known and are_made_up(spec, partitions) and len(known) < len(cells) > max(int(name[1:]) for name in known):
        looked_at = {int(name[1:]) for name in spec.expected_names or ()}
    nothing = null_texts(spec)
    numeric = {
        is_number(cell, spec.decimal)
        for column, cell in enumerate(cells)
        if column not in no_numbers and (looked_at is None or column in looked_at) and cell not in nothing
    }
    if len(numeric) > 1 and spec.label not in cells:
        unknown = next((f", none of which is {word}" for word, number in numbers.items() if number is None), "")
        raise InputError(
            f"{path}: the first line mixes names and numbers{unknown}; say --header yes if it holds the columns' "
            "names, --header no if it is a row"
        )
    return False in numeric


def with_known_label(spec: SourceSpec, cells: Sequence[str], partitions: Collection[str] = ()) -> SourceSpec:
    """Name the column of labels that a model was trained with, where the user names none and the source has it.

    `cells` are the first record. Where columns have numbers and no names, a source of as many columns as there are
    features holds nothing else, and in a wider one each column has the number that it had in training.
    """
    label, wanted = spec.known_label, spec.expected_names
    if spec.label is not None or label is None or wanted is None:
        return spec
    others = {spec.weight, *spec.left_out, *spec.features, *spec.one_hot}
    wanted = (*wanted, *(spec.expected_categories or ()))
    number = _number(label)
    if number is None or not are_made_up(spec, partitions):
        has_label = label in cells or label in partitions
    else:
        largest = max(number, *(int(name[1:]) for name in wanted))
        has_label = largest < len(cells) and len(cells) - len(spec.left_out) > len(wanted)
    return replace(spec, label=label) if has_label and label not in others else spec


def choose_columns(
    spec: SourceSpec,
    path: str,
    cells: Sequence[str],
    has_header: bool,
    holds_text: Collection[int],
    partitions: tuple[str, ...] = (),
) -> CsvColumns:
    """Find the columns that the user or a model names; `cells` is the first record of the file at `path`.

    `holds_text` are the columns in which text was seen, for --one-hot auto; `partitions` those in the names of folders.

    Raises
    ------
    InputError
        A column is missing, ambiguous or named in two roles; no feature is left; a model's features are not all there.
    """
    names = tuple(cells) if has_header else tuple(f"x{column}" for column in range(len(cells)))
    names += partitions
    if spec.label is None and spec.needs_labels:
        raise label_not_said(path, spec.known_label, _list(names, has_header))

    def find(option: str, words: Sequence[str]) -> list[int]:
        return [_find_column(path, option, word, names, len(cells), has_header) for word in words]

    label = find("label", [spec.label] if spec.label is not None else [])
    weight = find("weight", [spec.weight] if spec.weight is not None else [])
    times = Counter(names)
    alike = {str(column) for column, name in enumerate(names) if times[name] > 1}.difference(names)
    unwanted = [word for word in spec.left_out if not has_header or word in alike]  # others are not looked at, by name
    left_out = find("drop", spec.drop or unwanted)
    features = find("features", spec.features)
    categories = find("one-hot", spec.one_hot if spec.one_hot != AUTO else ())
    roles = {"label": label, "weight": weight, "drop": left_out, "features": features, "one-hot": categories}
    refuse_two_roles(path, ((option, column, names[column]) for option, own in roles.items() for column in own))
    kept = find("keep", spec.keep)
    refuse_two_roles(path, (("keep", column, names[column]) for column in kept))
    taken = {*label, *weight, *left_out}
    if not features:
        features = [column for column in range(len(names)) if column not in taken and column not in categories]
    if spec.one_hot == AUTO:
        categories = [column for column in features if column in holds_text]
        features = [column for column in features if column not in holds_text]
    if spec.expected_names is not None:
        rest = [column for column in range(len(names)) if column not in taken]
        chosen = features, categories
        features, categories = _pick_expected(spec, path, names, rest, chosen, has_header, partitions)
    if not features and not categories:
        raise InputError(f"{path}: has no column besides the label; there is no feature to learn from")
    _refuse_double_names(path, [names[column] for column in (*features, *categories)])
    return CsvColumns(
        names=names,
        has_header=has_header,
        label=label[0] if label and spec.needs_labels else None,
        weight=weight[0] if weight else None,
        features=tuple(features),
        categories=tuple(categories),
        kept=tuple(kept),
        partitions=partitions,
    )


def _number(word: str) -> int | None:
    return int(word) if word.isdecimal() and len(word) < 10 else None


def _find_column(path: str, option: str, word: str, names: tuple[str, ...], n_cells: int, has_header: bool) -> int:
    by_name = [column for column, name in enumerate(names) if name == word and (has_header or column >= n_cells)]
    number = _number(word)
    by_number = number if number is not None and number < n_cells else None
    known = _list(names, has_header)
    if len(by_name) > 1:
        which = " or ".join(map(str, by_name))
        raise InputError(f"{path}: {len(by_name)} columns are named {word}: take one by its number, {which}; {known}")
    if by_name and by_number is not None and by_name[0] != by_number:
        raise InputError(
            f"{path}: --{option} {word} is ambiguous: column number {by_number} is {names[by_number]}, but "
            f"column number {by_name[0]} is named {word}; rename that column; {known}"
        )
    if by_name:
        return by_name[0]
    if by_number is not None:
        return by_number
    raise no_such_column(path, option, word, names if has_header else (), known)


def _pick_expected(
    spec: SourceSpec,
    path: str,
    names: tuple[str, ...],
    rest: list[int],
    chosen: tuple[list[int], list[int]],
    has_header: bool,
    partitions: Collection[str],
) -> tuple[list[int], list[int]]:
    """Return the features and text columns a model wants, in its order: by name where there is a header, else by place.

    `rest` are the columns besides label and weight, `chosen` the features and text columns that the options name.
    """
    features = list(spec.expected_names or ())
    categories = spec.expected_categories
    wanted = [*features, *(categories or ())]
    n_chosen = len(chosen[0]) + (len(chosen[1]) if categories is not None else 0)
    _refuse_double_names(path, [names[column] for column in rest if names[column] in wanted])
    column_of = {names[column]: column for column in rest}
    missing = [name for name in wanted if name not in column_of]
    if has_header and not missing:
        text = chosen[1] if categories is None else [column_of[name] for name in categories]
        return [column_of[name] for name in features], text
    made_up = are_made_up(spec, partitions)
    has_places = spec.label is not None and spec.label == spec.known_label
    has_places |= n_chosen != len(wanted) and {*wanted} != {f"x{number}" for number in range(len(wanted))}
    if made_up and not has_header and not missing and has_places:
        return [column_of[name] for name in features], [column_of[name] for name in categories or ()]
    if n_chosen != len(wanted):
        columns = "features and text columns" if categories else "features"
        raise InputError(
            f"{path}: the model has {len(wanted)} {columns}, the file {n_chosen}"
            + (f"; missing: {', '.join(missing[:10])}" if has_header and not made_up else "")
        )
    if has_header and not made_up:
        raise InputError(f"{path}: lacks the model's features {', '.join(missing[:10])}; {_list(names, has_header)}")
    if categories is None or (len(chosen[0]) == len(features) and (spec.features or spec.one_hot not in ((), AUTO))):
        return chosen
    if not made_up:
        if categories:
            raise InputError(
                f"{path}: has no header, so that the model's text columns cannot be told from its features; name them "
                "in a first line, or say their numbers with --one-hot"
            )
        return sorted([*chosen[0], *chosen[1]]), []
    by_number = sorted(wanted, key=lambda name: int(name[1:]))
    column_of = dict(zip(by_number, sorted([*chosen[0], *chosen[1]]), strict=True))
    return [column_of[name] for name in features], [column_of[name] for name in categories]


def are_made_up(spec: SourceSpec, partitions: Collection[str]) -> bool:
    """Return whether a model's features bear the numbers of their columns, as their source had no names.

    Of a table whose labels have a name, x1 and x2 are names as well.
    """
    label, numeric = spec.known_label, spec.expected_names or ()
    is_named = label is not None and label not in partitions and _number(label) is None
    if is_named and not isinstance(numeric, NumberedNames):
        return False
    return all(re.fullmatch(r"x\d+", name) for name in (*numeric, *(spec.expected_categories or ())))


def _refuse_double_names(path: str, names: Iterable[str]) -> None:
    double = first_double(names)
    if double is not None:
        raise InputError(
            f"{path}: two columns are named {double!r}; give each feature a name of its own, or --drop one by number"
        )


def _list(names: tuple[str, ...], has_header: bool) -> str:
    if len(names) == 1:
        only = f"the only column is {listed(names)}" if has_header else "there is no header, and 1 column"
        return f"{only}; if it holds several, say with --separator what stands between them"
    if has_header:
        return f"the columns are {listed(names)}"
    return f"there is no header, and {len(names)} columns, to be named by their numbers, 0 to {len(names) - 1}"
