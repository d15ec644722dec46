"""What every format of tables checks of the names of columns, and how names are shown in errors."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Hashable, Iterable, Sequence

from distsoftmax.errors import InputError

KINDS = {"features": "feature", "drop": "such", "keep": "such"}  # of columns, by the option that names them
SHOWN = 20  # Names of columns in an error.


def first_double(names: Iterable[str]) -> str | None:
    """Return the first name that has come before; None where each comes once."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def refuse_two_roles(path: str, roles: Iterable[tuple[str, Hashable, str]]) -> None:
    """Refuse a column that options name twice; `roles` are (option, what tells columns apart, the column's name).

    Raises
    ------
    InputError
    """
    seen: dict[Hashable, str] = {}
    for option, column, name in roles:
        if column in seen:
            where = f"twice in --{option}" if seen[column] == option else f"in both --{seen[column]} and --{option}"
            raise InputError(f"{path}: column {name} is named {where}; a column has one role: name it once")
        seen[column] = option


def no_such_column(path: str, option: str, word: str, names: Collection[str], known: str) -> InputError:
    """Return the error for an option that names no column; `known` says which there are."""
    near = difflib.get_close_matches(word, names, 1)
    meant = f"; did you mean {near[0]}?" if near else ""
    return InputError(f"{path}: there is no {KINDS.get(option, option)} column {word}{meant}; {known}")


def label_not_said(path: str, known: str | None, columns: str) -> InputError:
    """Return the error for a source whose column of labels nobody names; `known` is that of the training data."""
    lacks = f", as there is no {known}, which training had" if known is not None else ""
    return InputError(f"{path}: say which column holds the label with --label{lacks}; {columns}")


def listed(names: Sequence[str]) -> str:
    """Return the first names, and whether there are more."""
    return ", ".join(name or "''" for name in names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
