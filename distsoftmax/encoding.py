"""How the columns of a source become the features of a model, and the names of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray


class NumberedNames(Sequence[str]):
    """The names x0, x1, ... of features that have none; ten million of them take no memory.

    Examples
    --------
    >>> NumberedNames(10_000_000)[-2:]
    ('x9999998', 'x9999999')
    """

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...
    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        numbers = range(self._count)[index]
        return f"x{numbers}" if isinstance(numbers, int) else tuple(f"x{number}" for number in numbers)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, NumberedNames):
            return self._count == other._count
        return isinstance(other, Sequence) and len(other) == self._count and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(("NumberedNames", self._count))

    def __repr__(self) -> str:
        return f"NumberedNames({self._count})"


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How the columns of a source become features; a model takes raw rows, so it keeps this.

    Attributes
    ----------
    numeric : sequence of str
        The columns taken as numbers.
    fill : ndarray of float64, () or (n_numeric,), or None
        What stands for a missing number; None: a missing cell is an error.
    categories : tuple of (str, tuple of str)
        The text columns, each with the categories seen in training; each category is a feature, 1 where it stands.
    index_base : int or None
        The index of the first column in svmlight files.

    Examples
    --------
    >>> Encoding(numeric=("size",), categories=(("colour", ("blue", "red")),)).feature_names
    ('size', 'colour=blue', 'colour=red')
    """

    numeric: Sequence[str]
    fill: NDArray[np.float64] | None = None
    categories: tuple[tuple[str, tuple[str, ...]], ...] = ()
    index_base: int | None = None

    @property
    def feature_names(self) -> Sequence[str]:
        """The features' names: the numeric columns, then column=category."""
        if not self.categories:
            return self.numeric
        return (*self.numeric, *(f"{column}={text}" for column, texts in self.categories for text in texts))


def names_as_json(names: Sequence[str]) -> list[str] | dict[str, int]:
    """Return names as JSON takes them; those that are only numbered as their number."""
    return {"numbered": len(names)} if isinstance(names, NumberedNames) else list(names)


def names_from_json(value: list[str] | dict[str, int]) -> Sequence[str]:
    """Return the names that `names_as_json` has made this of."""
    return NumberedNames(value["numbered"]) if isinstance(value, dict) else tuple(value)
