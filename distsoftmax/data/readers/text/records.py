"""The bytes of a text file, and where records start in a range of them: one rank's work, without the others."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from distsoftmax.data.parts import FileState
from distsoftmax.errors import InputError

NEWLINE, RETURN, QUOTE, HASH = b'\n\r"#'
BLANKS = re.compile(rb"[ \t\r\v\f]*")
FIRST_OF_BLANK_LINE = np.frombuffer(b" \t\r\v\f", dtype=np.uint8)
SCAN_BYTES = 4 << 20  # large enough for a file system, small enough for a cache
PEEK_BYTES = 2  # beyond the bytes scanned at once: they tell whether a record that starts there is a blank line
READ_BYTES = 1 << 20  # of a line of many blanks

Read: TypeAlias = Callable[[int, int], bytes]  # (where, how many) -> exactly so many bytes
Starts: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True)
class Range:
    """Bytes of a part in which the starts of records are looked for.

    Attributes
    ----------
    is_first : bool
        Whether a record starts at `low`; else records start after newlines alone.
    part_bytes : int
        The size of the part.
    """

    part: int
    low: int
    high: int
    is_first: bool
    part_bytes: int


def scan_range(where: Range, quoted: bool, read: Read, keep: Callable[[int, bytes], None]) -> tuple[int, Starts]:
    """Find the quotes in a range, and the records that start after its newlines, blank lines left out.

    `keep` is given where bytes begin and the bytes, as they are read; a few of them twice.

    Returns
    -------
    quotes : int
        How many there are in the range.
    starts : tuple of two ndarray of int64
        The bytes at which records start if no quote is open before the range, and if one is.
    """
    quotes = 0
    empty = np.zeros(0, dtype=np.int64)
    outside, inside = [empty], [empty]
    for at in range(where.low, where.high, SCAN_BYTES):
        n_bytes = min(SCAN_BYTES, where.high - at)
        data = read(at, min(n_bytes + PEEK_BYTES, where.part_bytes - at))
        keep(at, data)
        characters = np.frombuffer(data, dtype=np.uint8)[:n_bytes]
        ends = np.flatnonzero(characters == NEWLINE)
        is_open = np.full(ends.size, quotes % 2 == 1)
        if quoted and data.find(b'"', 0, n_bytes) >= 0:
            marks = characters == QUOTE
            is_open ^= np.logical_xor.accumulate(marks)[ends]
            quotes += np.count_nonzero(marks)
        starts = ends + 1
        if where.is_first and at == where.low:
            starts, is_open = np.insert(starts, 0, 0), np.insert(is_open, 0, False)
        is_record = ~_are_blank(data, starts, at, where.part_bytes, quoted, read)
        outside.append(starts[is_record & ~is_open] + at)
        inside.append(starts[is_record & is_open] + at)
    return quotes, (np.concatenate(outside), np.concatenate(inside))


def _are_blank(
    data: bytes, starts: NDArray[np.int64], at: int, part_bytes: int, quoted: bool, read: Read
) -> NDArray[np.bool_]:
    """Return which of the lines that start at `starts` in `data` are no records; `data` stands at byte `at`."""
    characters = np.frombuffer(data, dtype=np.uint8)
    first = characters.take(starts, mode="clip")  # where the part ends that is its last newline: nothing starts there
    second = characters.take(starts + 1, mode="clip")
    blank: NDArray[np.bool_] = (first == NEWLINE) | ((first == RETURN) & (second == NEWLINE))
    if quoted:
        return blank
    blank |= first == HASH
    for line in np.flatnonzero(np.isin(first, FIRST_OF_BLANK_LINE) & ~blank):  # rare: a line that begins with a blank
        text, stop, text_at = data, int(starts[line]), at
        while (stop := _after_blanks(text, stop)) == len(text) and text_at + stop < part_bytes:
            text_at += stop
            text, stop = read(text_at, min(READ_BYTES, part_bytes - text_at)), 0
        blank[line] = stop == len(text) or text[stop] in (NEWLINE, HASH)
    return blank


def _after_blanks(text: bytes, start: int) -> int:
    blanks = BLANKS.match(text, start)
    return blanks.end() if blanks else start


@contextmanager
def opened(state: FileState) -> Iterator[Read]:
    """Open a file that must not have changed since it was found.

    Raises
    ------
    InputError
        It has changed or cannot be read; also from the function that reads.
    """
    state.require_unchanged()
    try:
        with open(state.path, "rb", buffering=0) as file:

            def read(start: int, n_bytes: int) -> bytes:
                data = os.pread(file.fileno(), n_bytes, start)
                while len(data) < n_bytes:  # a signal, a network, or more than the system reads at once
                    more = os.pread(file.fileno(), n_bytes - len(data), start + len(data))
                    if not more:
                        raise InputError(
                            f"{state.path}: is cut short: it had {state.size} bytes when it was found, and now ends at "
                            f"byte {start + len(data)}; start again once it is complete"
                        )
                    data += more
                return data

            yield read
    except OSError as error:
        raise InputError(f"{state.path}: cannot be read: {error.strerror}") from None


def decompress(state: FileState, compression: str, n_bytes: int | None = None) -> Iterator[bytes]:
    """Yield a compressed file's text, or its first bytes, a block at a time.

    Raises
    ------
    InputError
        The file has changed, cannot be read, or is no whole compressed stream.
    """
    import pyarrow as pa

    state.require_unchanged()
    rest = n_bytes
    try:
        with pa.input_stream(state.path, compression=compression) as stream:
            while block := stream.read(SCAN_BYTES if rest is None else min(SCAN_BYTES, rest)):
                yield block
                rest = None if rest is None else rest - len(block)
    except (OSError, pa.ArrowInvalid) as error:
        early = "; the compressed file ends too early" if "runcated" in str(error) else ""
        raise InputError(f"{state.path}: is cut short or damaged: {error}{early}") from None
