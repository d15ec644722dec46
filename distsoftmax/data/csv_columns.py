"""Which columns of a CSV file are features, which is the label, and whether the first line holds their names."""

from __future__ import annotations

import re
from dataclasses import dataclass

from distsoftmax.data.source import SourceSpec
from distsoftmax.errors import InputError


@dataclass(frozen=True)
class Columns:
    """The columns of a CSV file, by their numbers counted from 0."""

    names: tuple[str, ...]
    has_header: bool
    label: int | None
    features: tuple[int, ...]

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The features' names, in the order of `features`."""
        return tuple(self.names[column] for column in self.features)


def choose_columns(spec: SourceSpec, first_record: list[str]) -> Columns:
    """Read the first record as a header or as a row, and find the label column.

    With ``header="auto"`` the first record is a header where it names the label column or a model's features, or
    where no cell besides the label is a number.

    Raises
    ------
    InputError
        The label column is missing or ambiguous, no feature is left, a model's features are not all there, or it
        cannot be told whether there is a header.
    """
    cells = [cell.strip() for cell in first_record]
    has_header = spec.header == "yes" or (spec.header == "auto" and _looks_like_header(spec, cells))
    names = tuple(cells) if has_header else tuple(f"x{column}" for column in range(len(cells)))
    label = _find_label(spec, names, has_header)
    others = tuple(column for column in range(len(names)) if column != label)
    _refuse_double_names(spec.path, names, others)
    features = _pick_expected(spec, names, others, has_header) if spec.expected_names is not None else others
    if not features:
        raise InputError(f"{spec.path}: has no column besides the label; there is no feature to learn from")
    return Columns(names, has_header, label if spec.needs_labels else None, features)


def is_number(cell: str) -> bool:
    """Return whether a cell reads as a number, infinities and NaN among them."""
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell and cell.isascii()  # Python's own separator and digits


def _looks_like_header(spec: SourceSpec, cells: list[str]) -> bool:
    if spec.expected_names is not None and set(spec.expected_names) <= set(cells):
        return True
    if spec.label is not None and not spec.label.isdecimal():
        return True
    if spec.label is not None and spec.label in cells and int(spec.label) >= len(cells):
        return True
    number = int(spec.label) if spec.label is not None else None
    numeric = {is_number(cell) for column, cell in enumerate(cells) if column != number and cell}
    if len(numeric) > 1 and spec.label not in cells:
        raise InputError(
            f"{spec.path}: the first line mixes names and numbers; say --header yes if it holds the columns' names, "
            "--header no if it is a row"
        )
    return False in numeric


def _find_label(spec: SourceSpec, names: tuple[str, ...], has_header: bool) -> int | None:
    if spec.label is None:
        if spec.needs_labels:
            raise InputError(f"{spec.path}: say which column holds the label with --label; {_list(names, has_header)}")
        return None
    by_name = [column for column, name in enumerate(names) if name == spec.label and has_header]
    by_number = int(spec.label) if spec.label.isdecimal() and int(spec.label) < len(names) else None
    if len(by_name) > 1:
        raise InputError(f"{spec.path}: {len(by_name)} columns are named {spec.label}; {_list(names, has_header)}")
    if by_name and by_number is not None and by_name[0] != by_number:
        raise InputError(
            f"{spec.path}: --label {spec.label} is ambiguous: column number {by_number} is {names[by_number]}, but "
            f"column number {by_name[0]} is named {spec.label}; rename that column; {_list(names, has_header)}"
        )
    if by_name:
        return by_name[0]
    if by_number is not None:
        return by_number
    raise InputError(f"{spec.path}: there is no label column {spec.label}; {_list(names, has_header)}")


def _pick_expected(
    spec: SourceSpec, names: tuple[str, ...], others: tuple[int, ...], has_header: bool
) -> tuple[int, ...]:
    """Return the columns a model wants, in its order: by name where the file has names, else by place."""
    expected = spec.expected_names or ()
    made_up = all(re.fullmatch(r"x\d+", name) for name in expected)  # the model's source had no names
    at = {names[column]: column for column in others}
    missing = [name for name in expected if name not in at]
    if has_header and not missing:
        return tuple(at[name] for name in expected)
    if len(others) != len(expected):
        raise InputError(
            f"{spec.path}: the model has {len(expected)} features, the file {len(others)}"
            + (f"; missing: {', '.join(missing[:10])}" if has_header and not made_up else "")
        )
    if has_header and not made_up:
        raise InputError(
            f"{spec.path}: lacks the model's features {', '.join(missing[:10])}; {_list(names, has_header)}"
        )
    return others


def _refuse_double_names(path: str, names: tuple[str, ...], columns: tuple[int, ...]) -> None:
    seen: set[str] = set()
    for column in columns:
        if names[column] in seen:
            raise InputError(f"{path}: two columns are named {names[column]!r}; give each feature a name of its own")
        seen.add(names[column])


def _list(names: tuple[str, ...], has_header: bool) -> str:
    shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    return f"the columns are {shown}" if has_header else f"there is no header, and {len(names)} columns"
