"""Samples in CSV files (RFC 4180, UTF-8), plain or compressed, read a shard at a time; see `text.files`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv as arrow_csv

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.data.bad_cell import BadCell, rows_before
from distsoftmax.data.parts import FileState, of_each_part
from distsoftmax.data.readers.arrow_columns import category_column
from distsoftmax.data.readers.columns import fill_columns, text_column
from distsoftmax.data.readers.csv.columns import (
    CsvColumns,
    choose_columns,
    is_header,
    with_known_label,
)
from distsoftmax.data.readers.csv.head import (
    LONE_RETURN,
    NOT_UTF8,
    NUL,
    RETURN_ALONE,
    STRAY_QUOTE,
    Head,
    columns_of_text,
    find_head,
    find_separator,
    first_rows,
    is_number,
    null_texts,
    remedy_for_commas,
    require_same_columns,
    rows_until_damage,
    split_record,
    stray_quote,
)
from distsoftmax.data.readers.parted_source import PartedSource, join_rows
from distsoftmax.data.readers.partition_columns import (
    partition_column,
    partition_is_no_weight,
    partition_is_text,
    partition_types,
    refuse_columns_in_both,
)
from distsoftmax.data.readers.text.files import TextFiles
from distsoftmax.data.source import AUTO, RawRows, SourceSpec, TextColumn
from distsoftmax.errors import InputError

LARGEST_BLOCK_BYTES = 2**31 - 2  # The most that the parser takes at once.
pa.enable_signal_handlers(False)  # A signal ends a run in order; pyarrow would raise ArrowCancelled instead.
TEXT = pa.dictionary(pa.int32(), pa.string())


class PartText(NamedTuple):
    """The text that a shard has of one part; at least one record."""

    part: int
    n_records: int
    data: bytes


class CsvSource(PartedSource):
    """CSV files with the same columns; see `Source`.

    Features are float64. In every column a cell is missing that is empty, or says NA, NaN, null or another of
    `null_texts`. Other labels and categories are taken as they stand.
    """

    is_text = True

    def __init__(self, spec: SourceSpec, parts: tuple[FileState, ...]) -> None:
        super().__init__(spec, parts)
        self._files = TextFiles(parts, quoted=True, scratch=spec.scratch)
        self._separator = ","
        self._skip: list[int] = []
        self._null_texts = null_texts(spec)
        self._partitions = partition_types(parts)
        self._columns = CsvColumns((), False, None, None, (), ())

    def scan(self, cluster: Communicator) -> None:
        """See `Source.scan`. Columns and header follow from the first part with anything in it. Collective."""
        spec, files = self._spec, self._files
        with cluster.agreement():
            heads = {part: find_head(files, part) for part in range(cluster.rank, len(files.parts), cluster.size)}
        own_first = min((part for part, head in heads.items() if head.record), default=None)
        records = cluster.allgather(None if own_first is None else (own_first, heads[own_first].record))
        first, record = min((known for known in records if known is not None), default=(-1, b""))
        if first < 0:
            raise InputError(f"{self.path}: holds nothing, or only blank lines").on_all_ranks()
        first_path, partitions = files.parts[first].path, tuple(self._partitions)
        with cluster.agreement():
            self._separator = find_separator(spec, first_path, record)
            cells = split_record(first_path, record, self._separator)
            spec = with_known_label(spec, cells, partitions)
            has_header = is_header(spec, first_path, cells, partitions)
            if has_header:
                refuse_columns_in_both(first_path, cells, files.parts[first])
            for part, head in heads.items():
                if head.record and part != first:
                    path = files.parts[part].path
                    own_cells = split_record(path, head.record, self._separator)
                    require_same_columns(spec, (first_path, cells), (path, own_cells), has_header)
        self._skip, with_rows = self._find_starts(heads, has_header, cluster)
        holds_text: set[int] = set()
        if spec.one_hot == AUTO and with_rows is not None:
            with cluster.agreement():
                if with_rows in heads:
                    holds_text = columns_of_text(self._first_rows(with_rows), spec.decimal, self._null_texts)
            holds_text = set().union(*cluster.allgather(holds_text))
        texts = [
            number for number, kind in enumerate(self._partitions.values(), len(cells)) if pa.types.is_string(kind)
        ]
        with cluster.agreement():
            columns = choose_columns(spec, first_path, cells, has_header, holds_text.union(texts), partitions)
            for column in columns.features:
                if column in texts:
                    raise partition_is_text(self.path, columns.names[column])
            if columns.weight in texts:
                raise partition_is_no_weight(self.path, columns.names[columns.weight])
            self._columns = columns
        self.feature_names = tuple(self._columns.names[column] for column in self._columns.features)
        self.category_names = tuple(self._columns.names[column] for column in self._columns.categories)
        self.kept_names = tuple(self._columns.names[column] for column in self._columns.kept)
        if (label := self._columns.label) is not None:
            self.label_name = self._columns.names[label] if has_header else str(label)
        self.headless_by_guess = spec.header == "auto" and not has_header
        files.scan(cluster, self._skip)
        self._join(files.n_records)
        self.notes = files.notes

    def divide(self, bounds: NDArray[np.int64], owned: Sequence[range], cluster: Communicator) -> None:
        """See `Source.divide`."""
        super().divide(bounds, owned, cluster)
        self._files.divide(bounds, owned, cluster)

    def _read_shard(self, shard: int) -> RawRows:
        return join_rows(self._blocks(shard, partial(self._read_part, shard)))

    def _read_part(self, shard: int, part: int, begin: int, end: int) -> RawRows:
        columns, records = self._columns, PartText(part, end - begin, self._files.text(shard, part))
        with rows_before(0, records.n_records):
            table = self._parse(records)
            kept = self._parse_kept(records) if columns.kept else None
        return RawRows(
            features=_numbers(table, columns.features),
            labels=self._labels(table) if columns.label is not None else None,
            weights=_numbers(table, (columns.weight,))[:, 0] if columns.weight is not None else None,
            categories=tuple(category_column(table.column(f"c{column}")) for column in columns.categories),
            kept=kept,
        )

    def _find_starts(
        self, heads: dict[int, Head], has_header: bool, cluster: Communicator
    ) -> tuple[list[int], int | None]:
        """Return the byte at which each part's rows begin, and the first part that has any. Collective."""

        def look(part: int) -> tuple[int, bool]:
            head = heads[part]
            return (head.stop, head.has_more) if has_header else (head.start, bool(head.record))

        known = of_each_part(len(self.parts), look, cluster)
        return [start for start, _ in known], next((part for part, (_, has) in enumerate(known) if has), None)

    def _first_rows(self, part: int) -> list[list[str]]:
        return first_rows(self._files, part, self._skip[part], self._separator)

    def _parse(self, records: PartText) -> pa.Table:
        """Parse whole records. Columns go by their numbers, c0, c1, ..., for a header may name two alike."""
        columns, data = self._columns, records.data
        if len(data) > LARGEST_BLOCK_BYTES:
            raise BadCell(0, "a shard is larger than 2 GiB from here on; cut the source finer with --shards")
        for byte, complaint in ((data.find(0), NUL), (stray_quote(data, self._separator), STRAY_QUOTE)):
            if byte >= 0:
                before = data[:byte].decode("utf-8", errors="replace") + "."
                raise BadCell(sum(1 for _ in rows_until_damage(before, self._separator)) - 1, complaint)
        wanted: dict[str, pa.DataType] = {
            f"c{column}": TEXT for column in (columns.label, *columns.categories) if column is not None
        }
        wanted |= {f"c{column}": pa.float64() for column in (columns.weight, *columns.features) if column is not None}
        return self._table(
            records,
            wanted,
            arrow_csv.ConvertOptions(
                column_types=wanted,
                include_columns=self._in_the_file(wanted),
                null_values=list(self._null_texts),
                strings_can_be_null=True,
                decimal_point=self._spec.decimal,
            ),
        )

    def _parse_kept(self, records: PartText) -> pa.Table:
        """Parse the columns that are kept as they stand."""
        wanted = dict.fromkeys((f"c{column}" for column in self._columns.kept), pa.string())
        options = arrow_csv.ConvertOptions(
            column_types=wanted,
            include_columns=self._in_the_file(wanted),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        )
        return self._table(records, wanted, options).select(list(wanted)).rename_columns(list(self.kept_names))

    def _in_the_file(self, wanted: Iterable[str]) -> list[str]:
        """Return the columns that are not in the names of folders; at least one, for the number of rows."""
        return [name for name in wanted if int(name[1:]) < self._columns.n_cells] or ["c0"]

    def _table(
        self, records: PartText, wanted: Mapping[str, pa.DataType], options: arrow_csv.ConvertOptions
    ) -> pa.Table:
        """Parse whole records of which it is known that no byte is one that parsers understand differently."""
        data = records.data
        try:
            table = arrow_csv.read_csv(
                pa.py_buffer(data),
                read_options=arrow_csv.ReadOptions(
                    use_threads=False,
                    block_size=len(data) + 1,
                    column_names=[f"c{column}" for column in range(self._columns.n_cells)],
                ),
                parse_options=arrow_csv.ParseOptions(delimiter=self._separator, newlines_in_values=b'"' in data),
                convert_options=options,
            )
        except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
            raise self._bad_cell(records, str(error)) from None
        if table.num_rows != records.n_records:
            raise self._bad_cell(records, f"{records.n_records} records stand here, but {table.num_rows} were parsed")
        for number, name in enumerate(self._columns.partitions, self._columns.n_cells):
            if (kind := wanted.get(f"c{number}")) is not None:
                values = partition_column(self.parts[records.part], name, kind, table.num_rows)
                table = table.append_column(f"c{number}", values)
        return table

    def _labels(self, table: pa.Table) -> TextColumn:
        """Return the labels; with --decimal , such as 1,5 is the number 1.5."""
        labels = category_column(table.column(f"c{self._columns.label}"))
        if self._spec.decimal == ".":
            return labels
        texts = [text.replace(",", ".") if is_number(text, ",") else text for text in labels.texts]
        return text_column(texts, labels.codes)

    def _bad_cell(self, records: PartText, reason: str) -> BadCell:
        """Find the cell that a parser stumbled over. Slow; for an error only."""
        row = -1
        try:
            text = records.data.decode("utf-8", errors="surrogateescape")
            for cells in csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=self._separator):
                if not cells:
                    continue
                row += 1
                if any("\udc80" <= character <= "\udcff" for cell in cells for character in cell):
                    return BadCell(row, NOT_UTF8)
                if len(cells) != self._columns.n_cells:
                    return BadCell(
                        row,
                        f"{len(cells)} columns, expected {self._columns.n_cells} as in the first line; "
                        "correct the row, and quote cells that hold the separator",
                    )
                for column in (self._columns.weight, *self._columns.features):
                    if column is not None and column < len(cells) and not self._may_be_number(cells[column]):
                        return self._no_number(records.part, row, column, cells[column])
        except csv.Error as error:
            return BadCell(row + 1, f"{error}; quote fields as RFC 4180 says")
        if LONE_RETURN.search(records.data):
            return BadCell(0, f"from this row on: {RETURN_ALONE}")
        return BadCell(0, f"from this row on: {reason}; quote fields as RFC 4180 says")

    def _may_be_number(self, cell: str) -> bool:
        return cell in self._null_texts or is_number(cell, self._spec.decimal)

    def _no_number(self, part: int, row: int, column: int, cell: str) -> BadCell:
        """Say what is wrong with a cell that is no number: the cell, or that its column is taken for numbers."""
        name = self._columns.names[column]
        seen = [cells[column] for cells in self._first_rows(part) if column < len(cells)]
        remedy = remedy_for_commas(cell, self._spec.decimal)
        if column == self._columns.weight or any(is_number(first, self._spec.decimal) for first in seen):
            return BadCell(row, f"{cell!r} is not a number{remedy}", name)
        word = name if self._columns.has_header else column
        return BadCell(
            row,
            f"it holds text ({cell!r}); declare it with --one-hot {word}, or leave it out with --drop {word}{remedy}",
            name,
        )


def _numbers(table: pa.Table, columns: Sequence[int]) -> NDArray[np.float64]:
    """Return columns as a matrix (rows, columns), C-contiguous; NaN where a cell holds no number."""
    matrix = np.empty((table.num_rows, len(columns)))
    fill_columns(matrix, [(number, table.column(f"c{column}").to_numpy()) for number, column in enumerate(columns)])
    return matrix
