"""One Parquet file, open: its row groups, decoded one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from distsoftmax.data.bad_cell import rows_before
from distsoftmax.data.parts import FileState
from distsoftmax.data.readers.column_blocks import fill_columns
from distsoftmax.data.readers.parquet.columns import ParquetColumns, Run
from distsoftmax.data.readers.parquet.footer import DAMAGE, first_line, open_file, row_counts
from distsoftmax.data.readers.parquet.types import common_type
from distsoftmax.data.readers.parquet.values import category_column, label_texts, numbers
from distsoftmax.data.readers.partition_columns import partition_column
from distsoftmax.data.source import TextColumn
from distsoftmax.errors import InputError


@dataclass(frozen=True)
class DecodedGroup:
    """A row group as numpy arrays.

    Attributes
    ----------
    values : dict of str to ndarray, (rows, width)
        The columns that features come from.
    dtype : numpy.dtype
        The type that holds the features: float64 where an integer is missing.
    """

    values: dict[str, NDArray]
    dtype: np.dtype
    labels: TextColumn | None
    weights: NDArray[np.float64] | None
    categories: tuple[TextColumn, ...]
    kept: pa.Table | None

    def fill(self, features: NDArray, runs: Sequence[Run], first: int) -> None:
        """Write the features of the rows `first` and following into a C-contiguous matrix."""
        column, columns = 0, []
        for run in runs:
            values = self.values[run.column][first : first + len(features), run.first : run.first + run.width]
            columns.append((slice(column, column + run.width), values))
            column += run.width
        fill_columns(features, columns)


class OpenPart:
    """An open Parquet file, and the row group that was decoded last."""

    def __init__(self, part: FileState, columns: ParquetColumns) -> None:
        self._part = part
        self._columns = columns
        self._file = open_file(part)
        self._starts = np.concatenate([[0], np.cumsum(row_counts(self._file), dtype=np.int64)])
        self._last: tuple[int, DecodedGroup] | None = None

    def groups(self, first: int, stop: int) -> Iterator[tuple[DecodedGroup, int, int]]:
        """Yield the row groups with the rows first to stop of the file, and which of their own rows these are.

        Raises
        ------
        InputError
            The file is damaged.
        BadCell
            A label cannot be used, in a row counted from the file's first.
        """
        while first < stop:
            number = int(np.searchsorted(self._starts, first, side="right")) - 1
            if number + 1 >= self._starts.size:
                raise InputError(f"{self._part.path}: is cut short, or has changed since it was scanned")
            start, end = int(self._starts[number]), min(stop, int(self._starts[number + 1]))
            if self._last is None or self._last[0] != number:
                self._last = None  # makes room for the next
                self._last = (number, self._decode(number))
            yield self._last[1], first - start, end - start
            first = end

    def _decode(self, number: int) -> DecodedGroup:
        columns, first = self._columns, int(self._starts[number])
        n_rows = int(self._starts[number + 1]) - first
        try:
            in_file = [name for name in columns.wanted if name not in columns.partitions]
            table = self._file.read_row_group(number, columns=in_file, use_threads=False)
            if table.num_rows != n_rows:
                raise ValueError(f"{table.num_rows} rows, but the footer says {n_rows}")
            for name, kind in columns.partitions.items():
                table = table.append_column(name, partition_column(self._part, name, kind, n_rows))
            values = {name: numbers(table.column(name)) for name in columns.numeric}
            weights = None if columns.weight is None else numbers(table.column(columns.weight))[:, 0].astype(np.float64)
            return DecodedGroup(
                values=values,
                dtype=common_type([column.dtype for column in values.values()]),
                labels=None if columns.label is None else self._labels(table.column(columns.label), first),
                weights=weights,
                categories=tuple(category_column(table.column(name)) for name in columns.categories),
                kept=table.select(list(columns.kept)) if columns.kept else None,
            )
        except DAMAGE as error:
            raise InputError(
                f"{self._part.path}: rows {first + 1} to {first + n_rows} cannot be read: {first_line(error)}"
            ) from None

    def _labels(self, column: pa.ChunkedArray, first: int) -> TextColumn:
        with rows_before(first, column=self._columns.label):
            return label_texts(column)
