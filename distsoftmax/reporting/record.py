"""Values out of JSON and TOML that others have written: of the type that is wanted, or None."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from distsoftmax.errors import InputError
from distsoftmax.run_folder import read_toml

LONGEST_NAME = 48  # characters of a class, a feature or a file that are shown
JOINERS = "\u200c\u200d"  # invisible, and needed to write Persian, Hindi and emoji


class Record:
    """A mapping that may lack any key, and hold a value of any type.

    Examples
    --------
    >>> record = Record({"step": 3, "objective": None, "classes": ["cat", 5]})
    >>> record.count("step"), record.number("objective"), record.text("step"), record.texts("classes")
    (3, None, None, ())
    """

    def __init__(self, content: object = None) -> None:
        self._content: Mapping[object, object] = content if isinstance(content, Mapping) else {}

    def __bool__(self) -> bool:
        return bool(self._content)

    def __contains__(self, name: str) -> bool:
        return self._content.get(name) is not None

    def items(self) -> list[tuple[str, object]]:
        """Return the names and the values, whatever they are."""
        return [(str(name), value) for name, value in self._content.items()]

    def number(self, name: str) -> float | None:
        """Return a finite number."""
        return finite(self._content.get(name))

    def count(self, name: str) -> int | None:
        """Return an integer that is 0 or more."""
        value = self._content.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 else None

    def text(self, name: str) -> str | None:
        """Return a text."""
        value = self._content.get(name)
        return value if isinstance(value, str) else None

    def truth(self, name: str) -> bool | None:
        """Return a truth value."""
        value = self._content.get(name)
        return value if isinstance(value, bool) else None

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts; none where any member is something else."""
        members = self.members(name)
        return tuple(str(member) for member in members) if all(isinstance(m, str) for m in members) else ()

    def members(self, name: str) -> list[object]:
        """Return a list of anything."""
        value = self._content.get(name)
        return value if isinstance(value, list) else []

    def record(self, name: str) -> Record:
        """Return a mapping within."""
        return Record(self._content.get(name))


def finite(value: object) -> float | None:
    """Return a finite number, whatever was read; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def read_json(path: Path) -> Record:
    """Return the object in a JSON file; an empty one where there is no such file.

    Raises
    ------
    InputError
        It cannot be read, or holds no JSON object.
    """
    content = _parsed(path, "JSON", lambda file: json.loads(file.read_bytes()))
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no JSON object")
    return Record(content)


def read_options(path: Path) -> dict[str, object]:
    """Return the options in the config.toml of a run by their command-line names; none where there is no such file.

    Raises
    ------
    InputError
        It cannot be read, or is not valid TOML.
    """
    content = _parsed(path, "TOML", read_toml)
    return {name: value for section in content.values() if isinstance(section, dict) for name, value in section.items()}


def _parsed(path: Path, kind: str, parse: Callable[[Path], Any]) -> Any:
    try:
        return parse(path)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not valid {kind}: {error}") from None


def shown(text: str, longest: int = LONGEST_NAME) -> str:
    r"""Return a text as it can be shown on a line: what is invisible is written out, what is long is cut.

    Examples
    --------
    >>> shown("a\nb"), shown("abcdefgh", 6)
    ('a\\x0ab', 'abc…gh')
    """
    visible = "".join(c if c.isprintable() or c in JOINERS else f"\\x{ord(c):02x}" for c in text[: 4 * longest])
    if len(text) <= 4 * longest and len(visible) <= longest:
        return visible
    tail = longest // 3
    return f"{visible[: longest - tail - 1]}…{text[-tail:] if text[-tail:].isprintable() else ''}"
