"""One Parquet file, open: its row groups, decoded one at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from distsoftmax.data.bad_cell import rows_before
from distsoftmax.data.missing import only_rows
from distsoftmax.data.parts import FileState
from distsoftmax.data.readers.arrow_columns import category_column, label_texts, numbers
from distsoftmax.data.readers.columns import fill_columns
from distsoftmax.data.readers.parquet.columns import ParquetColumns
from distsoftmax.data.readers.parquet.footer import DAMAGE, first_line, open_file, row_counts
from distsoftmax.data.readers.parquet.types import Types, common_type
from distsoftmax.data.readers.parted_source import JoinedRows, join_rows
from distsoftmax.data.readers.partition_columns import partition_column
from distsoftmax.data.source import RawRows
from distsoftmax.errors import InputError


class OpenPart:
    """An open Parquet file, and the row group that was decoded last; features come in `dtype` or a wider type."""

    def __init__(self, part: FileState, columns: ParquetColumns, dtype: np.dtype) -> None:
        self._part = part
        self._columns = columns
        self._dtype = dtype
        self._file = open_file(part)
        self._groups = JoinedRows(row_counts(self._file))
        self._last: tuple[int, dict[str, NDArray], RawRows] | None = None  # number, columns of features, other columns

    def read(self, first: int, stop: int) -> RawRows:
        """Return the rows first to stop of the file.

        Raises
        ------
        InputError
            The file is damaged.
        BadCell
            A label of one of their row groups cannot be used, in a row counted from the file's first.
        """
        if stop > self._groups.n_rows:
            raise InputError(f"{self._part.path}: is cut short, or has changed since it was scanned")
        blocks = []
        for number, begin, end in self._groups.within(first, stop):
            if self._last is None or self._last[0] != number:
                self._last = None  # makes room for the next
                self._last = (number, *self._decode(number))
            values, others = self._last[1:]
            rows = slice(begin, end)
            kept = None if others.kept is None else others.kept.slice(begin, end - begin)
            blocks.append(replace(only_rows(others, rows), features=self._features(values, rows), kept=kept))
        return join_rows(blocks)

    def _features(self, values: dict[str, NDArray], rows: slice) -> NDArray:
        """Return rows of the columns that features come from as a matrix."""
        dtype = common_type([self._dtype, *(column.dtype for column in values.values())])
        features = np.empty((rows.stop - rows.start, len(self._columns.feature_names)), dtype)
        first, blocks = 0, []
        for run in self._columns.runs:
            elements = values[run.column][rows, run.first : run.first + run.width]
            blocks.append((slice(first, first + run.width), elements))
            first += run.width
        fill_columns(features, blocks)
        return features

    def _decode(self, number: int) -> tuple[dict[str, NDArray], RawRows]:
        """Return a row group: the columns that features come from, (rows, width) each, and what else is read."""
        columns = self._columns
        first, stop = self._groups.starts[number : number + 2].tolist()
        n_rows = stop - first
        try:
            in_file = [name for name in columns.wanted if name not in columns.partitions]
            table = self._file.read_row_group(number, columns=in_file, use_threads=False)
            if table.num_rows != n_rows:
                raise ValueError(f"{table.num_rows} rows, but the footer says {n_rows}")
            as_numbers = self._with_partitions(table, columns.partitions)
            table = self._with_partitions(table, dict.fromkeys(columns.partitions, pa.string()))
            values = {name: numbers(as_numbers.column(name)) for name in columns.numeric}
            labels = weights = None
            if columns.label is not None:
                with rows_before(first, column=columns.label):
                    labels = label_texts(table.column(columns.label))
            if columns.weight is not None:
                weights = numbers(as_numbers.column(columns.weight))[:, 0].astype(np.float64)
            categories = tuple(category_column(table.column(name)) for name in columns.categories)
            kept = table.select(list(columns.kept)) if columns.kept else None
            return values, RawRows(np.empty((n_rows, 0)), labels, weights, categories, kept)
        except DAMAGE as error:
            raise InputError(
                f"{self._part.path}: rows {first + 1} to {stop} cannot be read: {first_line(error)}"
            ) from None

    def _with_partitions(self, table: pa.Table, types: Types) -> pa.Table:
        """Return a table with the columns that are in the names of folders besides, in these types."""
        for name, arrow_type in types.items():
            table = table.append_column(name, partition_column(self._part, name, arrow_type, table.num_rows))
        return table
