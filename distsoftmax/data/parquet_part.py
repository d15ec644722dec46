"""One Parquet file, open: its row groups, decoded one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from distsoftmax.data.parquet_columns import Columns, Run
from distsoftmax.data.parquet_values import OddLabel, category_column, label_column, numbers
from distsoftmax.data.parts import FileState
from distsoftmax.data.source import TextColumn
from distsoftmax.errors import InputError

BLOCK_ROWS = 1024  # rows filled at a time: few enough to stay in cache, so that columns can be written one by one
# what pyarrow raises on bytes that are not what they should be
DAMAGE: tuple[type[Exception], ...] = (
    pa.ArrowException,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    RuntimeError,
    MemoryError,
    OverflowError,
)


def open_file(part: FileState) -> parquet.ParquetFile:
    """Open a file and read its footer.

    Raises
    ------
    InputError
        It is damaged, encrypted, or no Parquet file.
    """
    try:
        # read by plain calls: a map would count as no bytes read, and end the process where a file is cut
        file = parquet.ParquetFile(pa.OSFile(part.path, "rb"), pre_buffer=False, page_checksum_verification=True)
        groups = row_counts(file.metadata)
        if min(groups, default=0) < 0 or sum(groups) != file.metadata.num_rows:
            raise ValueError(f"row groups of {sum(groups)} rows together in a file of {file.metadata.num_rows}")
    except DAMAGE as error:
        raise InputError(f"{part.path}: is damaged, or no Parquet file: {_first_line(error)}") from None
    return file


def row_counts(metadata: parquet.FileMetaData) -> list[int]:
    """Return the number of rows of each row group."""
    return [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]


def column_types(part: FileState, file: parquet.ParquetFile) -> dict[str, pa.DataType]:
    """Return the columns of an open file with their types.

    Raises
    ------
    InputError
        The footer is damaged, or two columns have one name.
    """
    try:
        found = {field.name: field.type for field in file.schema_arrow}
        names = file.schema_arrow.names
    except DAMAGE as error:
        raise InputError(f"{part.path}: is damaged, or no Parquet file: {_first_line(error)}") from None
    if len(found) < len(names):
        double = next(name for place, name in enumerate(names) if name in names[:place])
        raise InputError(f"{part.path}: two columns are named {double!r}; give each column a name of its own")
    return found


def may_hold_nulls(metadata: parquet.FileMetaData, column: str, leaves: dict[str, int]) -> bool:
    """Return whether a column has missing values, as the footer counts them, or whether it does not tell.

    Parameters
    ----------
    leaves : dict
        See `leaf_numbers`.
    """
    leaf = leaves.get(column)
    if leaf is None:
        return True
    if metadata.schema.column(leaf).max_definition_level == 0:
        return False
    try:
        for number in range(metadata.num_row_groups):
            chunk = metadata.row_group(number).column(leaf)
            if chunk.physical_type != metadata.schema.column(leaf).physical_type:
                return True  # a damaged footer, of which pyarrow's statistics would end the process
            statistics = chunk.statistics
            if statistics is None or not statistics.has_null_count or statistics.null_count:
                return True
    except DAMAGE:
        return True
    return False


def leaf_numbers(metadata: parquet.FileMetaData) -> dict[str, int]:
    """Return where in the footer each column is: those of numbers, and of lists of numbers."""
    schema = metadata.schema
    return {schema.column(leaf).path.partition(".list.")[0]: leaf for leaf in range(metadata.num_columns)}


@dataclass(frozen=True)
class DecodedGroup:
    """A row group as numpy arrays.

    Attributes
    ----------
    values : dict of str to ndarray, (rows, width)
        The columns that features come from.
    """

    values: dict[str, NDArray]
    labels: TextColumn | None
    weights: NDArray[np.float64] | None
    categories: tuple[TextColumn, ...]

    def fill(self, features: NDArray, runs: Sequence[Run], first: int) -> None:
        """Write the features of the rows `first` and following into a C-contiguous matrix."""
        place, pairs = 0, []
        for run in runs:
            values = self.values[run.column][first : first + len(features), run.first : run.first + run.width]
            pairs.append((slice(place, place + run.width), values))
            place += run.width
        for start in range(0, len(features), BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            block = features[rows]
            for columns, values in pairs:
                block[:, columns] = values[rows]


class OpenPart:
    """An open Parquet file, and the row group that was decoded last.

    Parameters
    ----------
    dtype : numpy.dtype
        What the features are read into; integers only where no footer counts missing values.
    """

    def __init__(self, part: FileState, columns: Columns, dtype: np.dtype) -> None:
        self._part = part
        self._columns = columns
        self._dtype = dtype
        self._file = open_file(part)
        self._starts = np.concatenate([[0], np.cumsum(np.array(row_counts(self._file.metadata), dtype=np.int64))])
        self._last: tuple[int, DecodedGroup] | None = None

    def groups(self, first: int, stop: int) -> Iterator[tuple[DecodedGroup, int, int]]:
        """Yield the row groups with the rows first to stop of the file, and which of their own rows these are.

        Raises
        ------
        InputError
            The file is damaged; or a label is missing or no class.
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
            table = self._file.read_row_group(number, columns=list(columns.wanted), use_threads=False)
            if table.num_rows != n_rows:
                raise ValueError(f"{table.num_rows} rows, but the footer says {n_rows}")
            values = {name: numbers(table.column(name)) for name in columns.numeric}
            if self._dtype.kind != "f" and any(some.dtype.kind == "f" for some in values.values()):
                raise ValueError("values are missing, but the footer counts none")
            weights = None if columns.weight is None else numbers(table.column(columns.weight))[:, 0].astype(np.float64)
            return DecodedGroup(
                values=values,
                labels=None if columns.label is None else self._labels(table.column(columns.label), first),
                weights=weights,
                categories=tuple(category_column(table.column(name)) for name in columns.categories),
            )
        except DAMAGE as error:
            raise InputError(
                f"{self._part.path}: rows {first + 1} to {first + n_rows} cannot be read: {_first_line(error)}"
            ) from None

    def _labels(self, column: pa.ChunkedArray, first: int) -> TextColumn:
        try:
            return label_column(column)
        except OddLabel as odd:
            place = f"{self._part.path}: row {first + odd.row + 1}, column {self._columns.label}"
            raise InputError(f"{place}: the label {odd}") from None


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
