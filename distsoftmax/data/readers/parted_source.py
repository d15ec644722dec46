"""Sources in files, of whatever format: rows of parts follow one another, and a shard is read from all it touches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from distsoftmax.data.bad_cell import rows_before
from distsoftmax.data.missing import MissingValues
from distsoftmax.data.parts import FileState, called
from distsoftmax.data.readers.columns import join_columns
from distsoftmax.data.source import Features, RawRows, Source, SourceSpec

Opened = TypeVar("Opened")
Block = TypeVar("Block")


class JoinedRows:
    """Runs of rows that follow one another: those of the parts of a source, or of the row groups of a file.

    Parameters
    ----------
    counts : sequence of int, or ndarray of int64
        The number of rows of each run.
    """

    def __init__(self, counts: Sequence[int] | NDArray[np.int64]) -> None:
        self.starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])

    @property
    def n_rows(self) -> int:
        """The number of all rows."""
        return int(self.starts[-1])

    def place(self, row: int) -> tuple[int, int]:
        """Return the run that holds a row, and the row's number in it."""
        number = int(np.searchsorted(self.starts, row, side="right")) - 1
        return number, int(row - self.starts[number])

    def within(self, first: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Yield the runs that hold the rows first to stop, and which of its own rows these are: number, begin, end."""
        while first < stop:
            number, begin = self.place(first)
            end = begin + min(stop, int(self.starts[number + 1])) - first
            yield number, begin, end
            first += end - begin


class OpenParts(Generic[Opened]):
    """Parts of which one at a time is open: it is kept until another is wanted."""

    def __init__(self, parts: Sequence[FileState], open_part: Callable[[FileState], Opened]) -> None:
        self._parts = parts
        self._open_part = open_part
        self._open: tuple[int, Opened] | None = None

    def __getitem__(self, number: int) -> Opened:
        """Return a part, opened.

        Raises
        ------
        InputError
            It has changed since it was scanned, or cannot be opened.
        """
        self._parts[number].require_unchanged()
        if self._open is None or self._open[0] != number:
            self._open = None  # closes it, before the next is opened
            self._open = (number, self._open_part(self._parts[number]))
        return self._open[1]


class PartedSource(Source):
    """A source in files; see `Source`. A reader joins their rows while it scans, and reads those of a part."""

    def __init__(self, spec: SourceSpec, parts: tuple[FileState, ...]) -> None:
        super().__init__(called(spec.paths), parts)
        self.format = spec.format
        self.rows_may_lack_labels = spec.rows_may_lack_labels
        self.marked = MissingValues.of(spec.missing).marked
        self._spec = spec
        self._joined = JoinedRows([])

    def locate(self, row: int) -> tuple[str, int]:
        """See `Source.locate`."""
        part, row = self._joined.place(row)
        return self.parts[part].path, row + 1

    def _join(self, counts: Sequence[int] | NDArray[np.int64]) -> None:
        """Take the number of rows of each part; those of parts to skip are 0."""
        self._joined = JoinedRows(counts)
        self.n_rows = self._joined.n_rows

    def _blocks(self, shard: int, read: Callable[[int, int, int], Block]) -> list[Block]:
        """Return read(part, begin, end) of the rows of each part in a shard; a BadCell in it counts from `begin`."""
        rows, blocks, n_before = self._rows(shard), [], 0
        for part, begin, end in self._joined.within(rows.start, rows.stop):
            with rows_before(n_before):
                blocks.append(read(part, begin, end))
            n_before += end - begin
        return blocks


def join_rows(blocks: Sequence[RawRows]) -> RawRows:
    """Return rows of the same columns, one block after the other."""
    if len(blocks) == 1:
        return blocks[0]
    labels = [block.labels for block in blocks if block.labels is not None]
    weights = [block.weights for block in blocks if block.weights is not None]
    kept = [block.kept for block in blocks if block.kept is not None]
    if kept:
        import pyarrow as pa
    return RawRows(
        features=_join_features([block.features for block in blocks]),
        labels=join_columns(labels) if labels else None,
        weights=np.concatenate(weights) if weights else None,
        categories=tuple(map(join_columns, zip(*(block.categories for block in blocks), strict=True))),
        kept=pa.concat_tables(kept) if kept else None,
    )


def _join_features(blocks: Sequence[Features]) -> Features:
    if isinstance(blocks[0], np.ndarray):
        return np.concatenate(blocks)
    from scipy.sparse import csr_array, vstack

    return csr_array(vstack(blocks, format="csr"))
