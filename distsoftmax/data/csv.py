"""Samples in a CSV file (RFC 4180, UTF-8), read by ranges of bytes so that each rank reads its own shards alone.

The rows are found by a scan that the ranks divide among them: a newline ends a record where an even number of quotes
stands before it, so each rank counts the quotes of its range, the ranks exchange the counts, and each then knows the
starts of the records in its range.
"""

from __future__ import annotations

import csv
import io
import os
import re

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute
from pyarrow import csv as arrow_csv

from distsoftmax.data.csv_columns import Columns, choose_columns, is_number
from distsoftmax.data.source import Exchange, LabelColumn, SourceSpec
from distsoftmax.errors import InputError

NEWLINE, RETURN, QUOTE, COMMA = b'\n\r",'
NOT_UTF8 = "the bytes are not UTF-8 text; convert the file to UTF-8"
STRAY_QUOTE = "a quote stands within an unquoted field; put the field in quotes, and write the quote inside it twice"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
SCAN_BYTES = 16 << 20
LARGEST_SHARD_BYTES = 2**31 - 1  # what the parser takes as one block
FIRST_RECORD_BYTES = 16 << 20  # a header longer than this is taken for a file that is no CSV


class CsvSource:
    """A CSV file; see `Source`.

    Raises
    ------
    InputError
        The first record is no header and no row, or the label column makes no sense.
    """

    def __init__(self, spec: SourceSpec) -> None:
        self.path = spec.path
        self._size = os.path.getsize(spec.path)
        self._start, record = self._first_record()
        self._columns: Columns = choose_columns(spec, record)
        self.feature_names = self._columns.feature_names
        self.headless_by_guess = spec.header == "auto" and not self._columns.has_header
        self.n_rows = 0
        self._first_row = 0  # the row of the first record start in this rank's range
        self._starts = np.zeros(0, dtype=np.int64)
        self._offsets = self._starts
        self._bounds = self._starts

    def count_rows(self, exchange: Exchange) -> None:
        """See `Source.count_rows`. The ranks divide the file among them."""
        self._starts = self._scan(exchange)
        counts = exchange.allgather(self._starts.size)
        skipped = 1 if self._columns.has_header else 0
        self._first_row = sum(counts[: exchange.rank]) - skipped
        self.n_rows = sum(counts) - skipped

    def divide(self, bounds: NDArray[np.int64], exchange: Exchange) -> None:
        """See `Source.divide`. Each bound's byte is known to the rank that scanned it."""
        own = bounds - self._first_row
        mine = (own >= 0) & (own < self._starts.size)
        offsets = np.full(bounds.size, -1, dtype=np.int64)
        offsets[mine] = self._starts[own[mine]]
        self._offsets = np.max(exchange.allgather(offsets), axis=0)
        self._offsets[bounds == self.n_rows] = self._size
        self._bounds = bounds
        self._starts = self._starts[:0]

    def read(self, shard: int) -> tuple[NDArray[np.float64], LabelColumn | None]:
        """See `Source.read`; the features are float64."""
        first, stop = (int(row) for row in self._bounds[shard : shard + 2])
        columns = self._columns
        if first == stop:
            empty = LabelColumn((), np.zeros(0, dtype=np.intp)) if columns.label is not None else None
            return np.empty((0, len(columns.features))), empty
        data = self._read_bytes(int(self._offsets[shard]), int(self._offsets[shard + 1]))
        if len(data) >= LARGEST_SHARD_BYTES:
            raise InputError(f"{self.path}: shard {shard} is larger than 2 GiB; cut the file finer with --shards")
        for place, complaint in ((data.find(0), NOT_UTF8), (_stray_quote(data), STRAY_QUOTE)):
            if place >= 0:
                before = csv.reader(io.StringIO(data[:place].decode("utf-8", errors="replace"), newline=""))
                raise InputError(f"{self.path}: row {first + sum(1 for cells in before if cells)}: {complaint}")
        try:
            table = _parse(data, columns)
        except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
            raise self._complaint(data, first, str(error)) from None
        if table.num_rows != stop - first:
            raise self._complaint(data, first, f"{stop - first} records were found but {table.num_rows} were parsed")
        return self._features(table, first), self._labels(table, first)

    def _first_record(self) -> tuple[int, list[str]]:
        """Return the byte at which the first record starts, and its cells."""
        head = self._read_bytes(0, min(FIRST_RECORD_BYTES, self._size))
        start = len(BYTE_ORDER_MARK) if head.startswith(BYTE_ORDER_MARK) else 0
        text = re.sub(r"\A(\r?\n)+", "", head[start:].decode("utf-8", errors="surrogateescape"))
        if "\0" in text.partition("\n")[0]:
            raise InputError(f"{self.path}: the first line: {NOT_UTF8}")
        lines = io.StringIO(text, newline="\n")  # a return alone ends no line, neither here nor in the scan
        try:
            record = next(csv.reader(lines, strict=True), None)
        except csv.Error as error:
            raise InputError(
                f"{self.path}: the first record cannot be read as CSV: {error}; close every quote, and end lines in LF "
                "or CRLF"
            ) from None
        if not record:
            raise InputError(f"{self.path}: holds only blank lines")
        if not _is_utf8(record):
            raise InputError(f"{self.path}: the first line: {NOT_UTF8}")
        if _stray_quote(text[: lines.tell()].encode("utf-8")) >= 0:
            raise InputError(f"{self.path}: the first line: {STRAY_QUOTE}")
        return start, record

    def _read_bytes(self, start: int, stop: int) -> bytes:
        try:
            with open(self.path, "rb") as file:
                file.seek(start)
                return file.read(max(stop - start, 0))
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read: {error.strerror}") from None

    def _scan(self, exchange: Exchange) -> NDArray[np.int64]:
        """Return the bytes at which the records that this rank's range begins start. Collective."""
        span = self._size - self._start
        low = self._start + exchange.rank * span // exchange.size
        high = self._start + (exchange.rank + 1) * span // exchange.size
        quotes = 0
        newlines: tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]] = ([], [])
        for at in range(low, high, SCAN_BYTES):
            chunk = np.frombuffer(self._read_bytes(at, min(at + SCAN_BYTES, high)), dtype=np.uint8)
            ends = np.flatnonzero(chunk == NEWLINE)
            marks = np.flatnonzero(chunk == QUOTE)
            inside = (np.searchsorted(marks, ends) + quotes) % 2
            newlines[0].append(ends[inside == 0] + at)
            newlines[1].append(ends[inside == 1] + at)
            quotes += marks.size
        counts = exchange.allgather(quotes)
        if sum(counts) % 2:
            raise InputError(
                f"{self.path}: a quote is opened and never closed; write a quote inside a field twice"
            ).on_all_ranks()
        outside = sum(counts[: exchange.rank]) % 2
        ends = np.concatenate([np.zeros(0, dtype=np.int64), *newlines[outside]])
        starts = ends + 1
        if exchange.rank == 0:
            starts = np.concatenate([[self._start], starts])
        return self._without_blank_lines(starts)

    def _without_blank_lines(self, starts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Leave out the starts of lines with nothing in them; the parser passes over those too."""
        starts = starts[starts < self._size]
        if not starts.size:
            return starts
        kept = np.ones(starts.size, dtype=bool)
        for begin in range(0, starts.size, SCAN_BYTES):
            some = starts[begin : begin + SCAN_BYTES]
            base = int(some[0])
            window = np.memmap(self.path, dtype=np.uint8, mode="r")[base : int(some[-1]) + 2]
            first = window[some - base]
            second = window[np.minimum(some - base + 1, window.size - 1)]
            kept[begin : begin + some.size] = ~((first == NEWLINE) | ((first == RETURN) & (second == NEWLINE)))
        return starts[kept]

    def _features(self, table: pa.Table, first_row: int) -> NDArray[np.float64]:
        features = np.empty((table.num_rows, len(self._columns.features)))
        for place, column in enumerate(self._columns.features):
            cells = table.column(f"c{column}")
            if cells.null_count:
                row = compute.index(compute.is_null(cells), True).as_py()
                raise InputError(
                    f"{self.path}: row {first_row + row + 1}, column {self._columns.names[column]}: there is no number "
                    "(an empty cell, NA or NaN); fill it in or leave the row out"
                )
            features[:, place] = cells.to_numpy()
        return features

    def _labels(self, table: pa.Table, first_row: int) -> LabelColumn | None:
        if self._columns.label is None:
            return None
        cells = table.column(f"c{self._columns.label}")
        encoded = cells.combine_chunks().dictionary_encode()
        texts = tuple(encoded.dictionary.to_pylist())
        codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.intp)
        if "" in texts:
            row = int(np.flatnonzero(codes == texts.index(""))[0])
            name = self._columns.names[self._columns.label]
            raise InputError(f"{self.path}: row {first_row + row + 1}: the label in column {name} is missing")
        return LabelColumn(texts, codes)

    def _complaint(self, data: bytes, first_row: int, reason: str) -> InputError:
        """Find the cell that a parser stumbled over. Slow; for an error only."""
        columns = self._columns
        row = first_row
        try:
            text = data.decode("utf-8", errors="surrogateescape")
            for cells in csv.reader(io.StringIO(text, newline=""), strict=True):
                if not cells:
                    continue
                row += 1
                if not _is_utf8(cells):
                    return InputError(f"{self.path}: row {row}: {NOT_UTF8}")
                if len(cells) != len(columns.names):
                    return InputError(
                        f"{self.path}: row {row}: {len(cells)} columns, expected {len(columns.names)} "
                        "as in the first line"
                    )
                for column in columns.features:
                    if cells[column] and not is_number(cells[column]):
                        return InputError(
                            f"{self.path}: row {row}, column {columns.names[column]}: {cells[column]!r} is not a number"
                        )
        except csv.Error as error:
            return InputError(f"{self.path}: row {row + 1}: {error}")
        return InputError(f"{self.path}: rows {first_row + 1} and following: {reason}; quote fields as RFC 4180 says")


def _stray_quote(data: bytes) -> int:
    """Return where a quote opens within an unquoted field, which parsers understand differently; -1 if nowhere."""
    characters = np.frombuffer(data, dtype=np.uint8)
    opening = np.flatnonzero(characters == QUOTE)[::2]
    opening = opening[opening > 0]
    before = characters[opening - 1]
    stray = opening[(before != COMMA) & (before != NEWLINE) & (before != QUOTE)]
    return int(stray[0]) if stray.size else -1


def _is_utf8(cells: list[str]) -> bool:
    return not any("\udc80" <= char <= "\udcff" for cell in cells for char in cell)


def _parse(data: bytes, columns: Columns) -> pa.Table:
    """Parse whole records. Columns go by their numbers, c0, c1, ..., for a header may name two alike."""
    wanted = {f"c{column}": pa.float64() for column in columns.features}
    if columns.label is not None:
        wanted[f"c{columns.label}"] = pa.string()
    return arrow_csv.read_csv(
        pa.py_buffer(data),
        read_options=arrow_csv.ReadOptions(
            use_threads=False, block_size=len(data) + 1, column_names=[f"c{i}" for i in range(len(columns.names))]
        ),
        parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
        convert_options=arrow_csv.ConvertOptions(column_types=wanted, include_columns=list(wanted)),
    )
