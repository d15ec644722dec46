"""What CSV files begin with: the first record, the separator, columns of numbers or text, the same in all parts."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from distsoftmax.data.readers.text.files import BYTE_ORDER_MARK, TextFiles
from distsoftmax.data.source import SourceSpec
from distsoftmax.errors import InputError

NEWLINE, QUOTE = b'\n"'
NOT_UTF8 = "the bytes are not UTF-8 text; convert the file to UTF-8"
NUL = "a NUL byte stands here: the file is UTF-16, damaged or no text; convert the file to UTF-8"
RETURN_ALONE = (
    "a carriage return (CR) stands alone, as where an old Mac ends lines; end every line in LF, as "
    "tr '\\r' '\\n' < old.csv > new.csv does, or quote the cell"
)
STRAY_QUOTE = "a quote stands within an unquoted field; put the field in quotes, and write the quote inside it twice"
OPEN_QUOTE = "a quote is opened and never closed; write a quote inside a field twice"
HEAD_BYTES = (1 << 16, 1 << 20, 16 << 20)  # A first record longer than the last is taken for no CSV.
SAMPLE_BYTES = HEAD_BYTES[1:]
SAMPLE_ROWS = 1000  # Looked at to tell columns of numbers from columns of text.
BLANK_LINES = re.compile(rb"(\r?\n)*")
LONE_RETURN = re.compile(rb"\r(?!\n)")
QUOTED = re.compile(rb'"[^"]*"')
SEPARATORS = {"comma": ",", "tab": "\t", "semicolon": ";", "pipe": "|", "space": " ", "\\t": "\t"}
CANDIDATES = (",", "\t", ";", "|")
NOTHING = ("", "#N/A", "#N/A N/A", "#NA", "N/A", "NA", "NULL", "NaN", "n/a", "nan", "null", "-NaN", "-nan")
NULL_TEXTS = frozenset((*NOTHING, "1.#IND", "1.#QNAN", "-1.#IND", "-1.#QNAN"))  # The parser's own list.


@dataclass(frozen=True)
class Head:
    """The first record of a part, as bytes without its line end; empty where the part holds nothing.

    Attributes
    ----------
    start, stop : int
        The bytes to leave out where the record is a row (a byte order mark), and where it is a header.
    has_more : bool
        Whether something follows the record.
    """

    record: bytes
    start: int
    stop: int
    has_more: bool


def find_head(files: TextFiles, part: int) -> Head:
    """Return the first record of a part. Not collective.

    Raises
    ------
    InputError
        The part cannot be read, or the record does not end.
    """
    for n_bytes in HEAD_BYTES:
        data = files.head(part, n_bytes)
        is_whole = len(data) < n_bytes
        start = len(BYTE_ORDER_MARK) if data.startswith(BYTE_ORDER_MARK) else 0
        blank = BLANK_LINES.match(data, start)
        begin = blank.end() if blank else start
        stop, n_quotes = begin, 0
        while stop == begin or n_quotes % 2:
            newline = data.find(b"\n", stop)
            end = newline + 1 if newline >= 0 else len(data)
            n_quotes += data.count(b'"', stop, end)
            stop = end
            if newline < 0:
                break
        if n_quotes % 2 == 0 and (is_whole or newline >= 0):
            record = data[begin:stop].removesuffix(b"\n").removesuffix(b"\r")
            if not record:
                return Head(b"", stop, stop, False)
            return Head(record, start, stop, not is_whole or bool(data[stop:].strip(b"\r\n")))
        if is_whole:
            break
    path = files.parts[part].path
    if n_quotes % 2:
        raise InputError(f"{path}: {OPEN_QUOTE}")
    if LONE_RETURN.search(data):
        raise InputError(f"{path}: the first line: {RETURN_ALONE}")
    raise InputError(f"{path}: the first line is longer than {HEAD_BYTES[-1] >> 20} MiB; is it a CSV file?")


def find_separator(spec: SourceSpec, path: str, record: bytes) -> str:
    """Return the separator that was asked for, or the likeliest by the file's name and its first record.

    Raises
    ------
    InputError
        It is no single character, or one that a number may hold.
    """
    if spec.decimal not in (".", ","):
        raise InputError(f"{path}: --decimal {spec.decimal}: the mark before decimals is either . or ,")
    if spec.separator == "auto":
        return _likeliest_separator(path, record, spec.decimal)
    separator = SEPARATORS.get(spec.separator, spec.separator)
    is_usable = len(separator) == 1 and separator.isascii() and (separator.isprintable() or separator == "\t")
    if not is_usable or separator.isalnum() or separator in '"+-.':
        raise InputError(
            f"{path}: --separator {spec.separator!r}: give one character that stands in no number, or one of "
            "tab, space, comma, semicolon, pipe"
        )
    if separator == spec.decimal:
        raise InputError(
            f"{path}: a comma cannot both separate columns and stand in numbers; change --separator or --decimal"
        )
    return separator


def _likeliest_separator(path: str, record: bytes, decimal: str) -> str:
    if re.search(r"\.(tsv|tab)(\.\w+)?$", path.lower()):
        return "\t"
    unquoted = QUOTED.sub(b"", record)
    candidates = [mark for mark in CANDIDATES if mark != decimal]
    fallback = "," if decimal != "," else ";"
    best = max(candidates, key=lambda mark: (unquoted.count(mark.encode()), mark == fallback))
    return best if best.encode() in unquoted else fallback


def split_record(path: str, record: bytes, separator: str) -> list[str]:
    """Return the cells of a part's first record, without the blanks around them.

    Raises
    ------
    InputError
        It is no CSV, or no UTF-8.
    """
    try:
        text = record.decode("utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{path}: the first line: {NUL if 0 in record else NOT_UTF8}") from None
    for is_wrong, complaint in (
        ("\0" in text, NUL),
        (stray_quote(record, separator) >= 0, STRAY_QUOTE),
        (LONE_RETURN.search(QUOTED.sub(b"", record)) is not None, RETURN_ALONE),
    ):
        if is_wrong:
            raise InputError(f"{path}: the first line: {complaint}")
    try:  # a return alone ends no line, neither here nor in the scan
        (cells,) = csv.reader(io.StringIO(text, newline="\n"), strict=True, delimiter=separator)
    except (csv.Error, ValueError) as error:
        raise InputError(
            f"{path}: the first record cannot be read as CSV: {error}; close every quote, and end lines in LF or CRLF"
        ) from None
    return [cell.strip() for cell in cells]


def require_same_columns(
    spec: SourceSpec, first: tuple[str, Sequence[str]], later: tuple[str, Sequence[str]], has_header: bool
) -> None:
    """Compare the first records of two parts, each given as path and cells.

    Raises
    ------
    InputError
        One has a header and the other none, or they differ in their columns.
    """
    (path, cells), (other_path, other_cells) = first, later
    pairs = list(zip(cells, other_cells, strict=False))
    if has_header:
        has_numbers = any(is_number(cell, spec.decimal) for cell in other_cells)
        is_unlike, begins, expected = has_numbers and not set(cells) & set(other_cells), "a row", "the columns' names"
    else:
        beside_numbers = [other_cell for cell, other_cell in pairs if is_number(cell, spec.decimal)]
        nothing = null_texts(spec)
        are_names = [cell not in nothing and not is_number(cell, spec.decimal) for cell in beside_numbers]
        is_unlike, begins, expected = bool(are_names) and all(are_names), "the columns' names", "a row"
    if is_unlike:
        raise InputError(
            f"{other_path}: begins with {begins}, but {path} with {expected}; give every part the same header, or none"
        )
    differing = next((column for column, (cell, other_cell) in enumerate(pairs) if cell != other_cell), None)
    where = ""
    if has_header and differing is not None:
        where = f": column number {differing} is {other_cells[differing]!r}, but {cells[differing]!r} in {path}"
    if len(cells) != len(other_cells):
        raise InputError(
            f"{other_path}: has {len(other_cells)} columns, but {path} has {len(cells)}{where}; every part must have "
            "the same columns"
        )
    if where:
        order = ": has its columns in another order" if sorted(cells) == sorted(other_cells) else ""
        raise InputError(f"{other_path}{order}{where}; every part must have the same columns in the same order")


def first_rows(files: TextFiles, part: int, start: int, separator: str) -> list[list[str]]:
    """Return the cells of a part's first rows, up to 1000 of them, from byte `start`. Not collective; for a look.

    It stops at a row that is no CSV.
    """
    rows: list[list[str]] = []
    for n_bytes in SAMPLE_BYTES:
        data = files.head(part, start + n_bytes)
        text = data[start:].decode("utf-8", errors="replace")
        rows = list(islice(rows_until_damage(text, separator), SAMPLE_ROWS + 1))
        if len(data) == start + n_bytes and len(rows) <= SAMPLE_ROWS:
            rows = rows[:-1]  # the last may be cut off
        if rows or len(data) < start + n_bytes:
            break
    return rows[:SAMPLE_ROWS]


def rows_until_damage(text: str, separator: str) -> Iterator[list[str]]:
    """Yield the cells of each record that is not blank, until one that is no CSV."""
    try:
        for cells in csv.reader(io.StringIO(text, newline=""), delimiter=separator):
            if cells:
                yield cells
    except csv.Error:
        return


def stray_quote(data: bytes, separator: str) -> int:
    """Return where a quote opens within an unquoted field, which parsers understand differently; -1 if nowhere."""
    if data.find(b'"') < 0:
        return -1
    characters = np.frombuffer(data, dtype=np.uint8)
    opening = np.flatnonzero(characters == QUOTE)[::2]
    opening = opening[opening > 0]
    before = characters[opening - 1]
    stray = opening[(before != ord(separator)) & (before != NEWLINE) & (before != QUOTE)]
    return int(stray[0]) if stray.size else -1


def is_number(cell: str, decimal: str = ".") -> bool:
    """Return whether a cell reads as a number, infinities and NaN among them."""
    if decimal != ".":
        cell = cell.replace(".", "_").replace(decimal, ".")
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell and cell.isascii()  # Python's own separator and digits


def remedy_for_commas(cell: str, decimal: str) -> str:
    """Return the end of an error on a cell that is a number but for its commas; nothing for other texts."""
    if decimal != "." or not is_number(cell.replace(",", "")):
        return ""
    return "; if it is a number, say --decimal , for a comma before decimals, or take out commas before thousands"


def null_texts(spec: SourceSpec) -> frozenset[str]:
    """Return what a cell without a value says; a blank may stand before what --missing names."""
    return NULL_TEXTS.union(spec.missing, (f" {text}" for text in spec.missing))


def columns_of_text(rows: list[list[str]], decimal: str, nothing: Collection[str]) -> set[int]:
    """Return the columns in which a cell holds something that is no number."""
    columns: set[int] = set()
    for cells in rows:
        for column, cell in enumerate(cells):
            if column not in columns and cell not in nothing and not is_number(cell, decimal):
                columns.add(column)
    return columns
