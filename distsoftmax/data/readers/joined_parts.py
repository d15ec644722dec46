"""Parts whose rows follow one another, of which one at a time is open."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

import numpy as np

from distsoftmax.data.parts import FileState

Opened = TypeVar("Opened")


class JoinedParts(Generic[Opened]):
    """Parts in order; each is opened when one of its rows is wanted, and kept until another is.

    Parameters
    ----------
    counts : sequence of int
        The number of rows of each part; those of parts to skip are 0.
    open_part : callable
        Opens a part.
    """

    def __init__(
        self, parts: Sequence[FileState], counts: Sequence[int], open_part: Callable[[FileState], Opened]
    ) -> None:
        self._parts = parts
        self._starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        self._open_part = open_part
        self._open: tuple[int, Opened] | None = None

    @property
    def n_rows(self) -> int:
        """The number of rows of all parts."""
        return int(self._starts[-1])

    def overlapping(self, first: int, stop: int) -> Iterator[tuple[FileState, Opened, int, int]]:
        """Yield the parts with the rows first to stop: file, opened, and which of its own rows these are.

        Raises
        ------
        InputError
            A part has changed since it was scanned, or cannot be opened.
        """
        while first < stop:
            number = self._part_of(first)
            part, start = self._parts[number], int(self._starts[number])
            end = min(stop, int(self._starts[number + 1]))
            part.require_unchanged()
            if self._open is None or self._open[0] != number:
                self._open = None  # closes it, before the next is opened
                self._open = (number, self._open_part(part))
            yield part, self._open[1], first - start, end - start
            first = end

    def locate(self, row: int) -> tuple[str, int]:
        """Return the file of a row, and the row's number in it, counted from 1."""
        number = self._part_of(row)
        return self._parts[number].path, int(row - self._starts[number]) + 1

    def _part_of(self, row: int) -> int:
        return int(np.searchsorted(self._starts, row, side="right")) - 1
