"""Lines in the svmlight format, parsed a chunk at a time with array operations.

A line is ``label[ qid:N] index:value ... [# comment]``. Its words stand between blanks, and each word but the label has
one colon, so two sorted arrays, where the blanks are and where the colons, tell where every number starts and ends.
Numbers in a spelling that Arrow does not read, and everything wrong, go through `_parse_slowly`, which fixes what a
line means.

scikit-learn's `load_svmlight_file` takes 4 to 5 times as long, on real text and on random rows of 70 entries. It also
reads labels as numbers alone and indices of 32 bits alone, takes 1_0 for 10, and names no row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from distsoftmax.data.bad_cell import BadCell, rows_before
from distsoftmax.data.readers.columns import join_columns, text_column
from distsoftmax.data.source import TextColumn

BLANK, TAB, NEWLINE, RETURN, COLON = b" \t\n\r:"
CHUNK_BYTES = 1 << 19  # Worked on at once: the arrays made of it stay in cache.
LARGEST_INDEX = 2**63 - 2  # With it the number of columns is an int64 as well.
# Each pattern begins with a literal, for a quick search, and then looks at what stands before it.
COMMENT = re.compile(rb"#(?<!\S#)[^\n]*")
QUERY_ID = re.compile(rb"qid:(?<!\Sqid:)\d+(?=\s)")
INTEGER = re.compile(rb"[+-]?\d+")
NUMBER = re.compile(rb"[+-]?(?:(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?|inf(?:inity)?|nan)", re.IGNORECASE)
NAN = re.compile(rb"[+-]?nan", re.IGNORECASE)


@dataclass(frozen=True)
class Lines:
    """The samples in some lines; the rows of a matrix in compressed rows.

    Attributes
    ----------
    labels : TextColumn or None
        None where no labels were asked for.
    indptr : ndarray of int64, (rows + 1,)
    indices : ndarray of int32, or of int64 where one needs it, (nnz,)
        As in the file; ascending in each row.
    values : ndarray of float64, (nnz,)
    """

    labels: TextColumn | None
    indptr: NDArray[np.int64]
    indices: NDArray[np.int32] | NDArray[np.int64]
    values: NDArray[np.float64]

    def row_of(self, entry: int) -> int:
        """Return the row of one of the values."""
        return int(np.searchsorted(self.indptr, entry, side="right")) - 1


def parse_lines(data: bytes, *, needs_labels: bool = True) -> Lines:
    """Parse whole lines. Blank lines and comments are no samples; the last line may lack its newline.

    Without ``needs_labels`` a line may begin with a label or not.

    Raises
    ------
    BadCell
        A line is no sample.
    """
    no_labels = TextColumn((), np.zeros(0, dtype=np.intp)) if needs_labels else None
    blocks = [Lines(no_labels, np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int32), np.zeros(0))]
    n_rows, has_query_ids = 0, False
    for chunk in _chunks(data):
        if b"#" in chunk:
            chunk = COMMENT.sub(b"", chunk)
        if has_query_ids:
            chunk = QUERY_ID.sub(b"", chunk)
        with rows_before(n_rows):
            lines = _parse_quickly(chunk, needs_labels)
            if lines is None and not has_query_ids:
                chunk, n_query_ids = QUERY_ID.subn(b"", chunk)
                has_query_ids = n_query_ids > 0
                lines = _parse_quickly(chunk, needs_labels) if has_query_ids else None
            blocks.append(_parse_slowly(chunk, needs_labels) if lines is None else lines)
        n_rows += blocks[-1].indptr.size - 1
    return join_lines(blocks)


def join_lines(blocks: Sequence[Lines]) -> Lines:
    """Return the samples of one or several blocks, one after the other."""
    if len(blocks) == 1:
        return blocks[0]
    counts = [np.diff(block.indptr) for block in blocks]
    labels = [block.labels for block in blocks if block.labels is not None]
    return Lines(
        join_columns(labels) if labels else None,
        np.concatenate([[0], np.cumsum(np.concatenate(counts), dtype=np.int64)]),
        np.concatenate([block.indices for block in blocks]),
        np.concatenate([block.values for block in blocks]),
    )


def _chunks(data: bytes) -> Iterator[bytes]:
    """Cut data into chunks of whole lines."""
    start = 0
    while start < len(data):
        stop = data.find(b"\n", start + CHUNK_BYTES) + 1 or len(data)
        yield data[start:stop] if data[stop - 1] == NEWLINE else data[start:stop] + b"\n"
        start = stop


def _parse_quickly(chunk: bytes, needs_labels: bool) -> Lines | None:
    """Parse lines without comments and query ids; None where something is wrong, or rare."""
    if (b"x" in chunk or b"X" in chunk) and re.search(rb"0[xX]", chunk):
        return None  # 0x1F is an integer to Arrow
    characters = np.frombuffer(chunk, dtype=np.uint8)
    ends = np.flatnonzero(characters <= BLANK)
    colons = np.flatnonzero(characters == COLON)
    marks = characters[ends]
    last = np.flatnonzero(marks == NEWLINE)  # in ends, the last word of each line
    if not _are_blanks(characters, ends, marks, last.size):
        return None
    starts = np.concatenate([[0], ends[:-1] + 1])
    stops = ends[last]
    is_word = ends > starts
    n_words = np.diff(last, prepend=-1)  # in each line
    counts = np.diff(np.searchsorted(colons, stops), prepend=0)
    if not is_word.all():
        starts, ends = starts[is_word], ends[is_word]
        n_words = np.diff(np.cumsum(is_word, dtype=np.int64)[last], prepend=0)
        n_words, counts = n_words[n_words > 0], counts[n_words > 0]
    labelled = n_words - counts
    if not ((labelled == 1) | ((labelled == 0) & (not needs_labels))).all():
        return None
    labels = (np.cumsum(n_words, dtype=np.int64) - n_words)[labelled == 1]
    is_feature = np.ones(ends.size, dtype=bool)
    is_feature[labels] = False
    label_starts, label_ends = starts[labels], ends[labels]
    starts, ends = starts[is_feature], ends[is_feature]
    if (colons <= starts).any() or (ends - colons <= 1).any():
        return None  # a word with no colon or several, or nothing on one side of it
    try:
        indices = _numbers(chunk, starts, colons, np.int64)
        values = _numbers(chunk, colons + 1, ends, np.float64)
    except pa.ArrowInvalid:
        return None
    if not _ascend(indices, counts) or (b"(" in chunk and not np.isfinite(values).all()):
        return None  # nan(...) is a number to Arrow
    texts = _label_column(*_distinct(chunk, label_starts, label_ends)) if needs_labels else None
    return _lines(texts, counts, indices, values)


def _are_blanks(characters: NDArray[np.uint8], ends: NDArray[np.intp], marks: NDArray[np.uint8], n_lines: int) -> bool:
    """Return whether no control characters are there but tabs, newlines, and returns before those."""
    others = ends.size - n_lines - np.count_nonzero(marks == BLANK)
    if not others:
        return True
    returns = ends[marks == RETURN]
    is_end = characters[returns + 1] == NEWLINE  # the last character is a newline
    return bool(is_end.all()) and others == returns.size + np.count_nonzero(marks == TAB)


def _words_at(chunk: bytes, starts: NDArray[np.int64], ends: NDArray[np.int64], kind: pa.DataType) -> pa.Array:
    """Return an array whose odd elements are the words between starts and ends; what is between them is null."""
    offsets = np.empty(2 * starts.size + 1, dtype=np.int64)
    offsets[0], offsets[1::2], offsets[2::2] = 0, starts, ends
    valid = np.full((offsets.size + 7) // 8, 0b10101010, dtype=np.uint8)
    buffers = [pa.py_buffer(valid), pa.py_buffer(offsets), pa.py_buffer(chunk)]
    return pa.Array.from_buffers(kind, offsets.size - 1, buffers, starts.size)


def _numbers(chunk: bytes, starts: NDArray[np.int64], ends: NDArray[np.int64], dtype: type) -> NDArray:
    """Parse the words between starts and ends; raise ArrowInvalid where one is no number."""
    parsed = _words_at(chunk, starts, ends, pa.large_string()).cast(pa.from_numpy_dtype(dtype))
    numbers: NDArray = np.frombuffer(parsed.buffers()[1], dtype=dtype, count=len(parsed))[1::2].copy()
    return numbers


def _distinct(chunk: bytes, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> tuple[list[bytes], NDArray[np.intp]]:
    """Return the distinct words between starts and ends, and for each word its number among them."""
    encoded = _words_at(chunk, starts, ends, pa.large_binary()).dictionary_encode()
    codes = np.frombuffer(encoded.indices.buffers()[1], dtype=np.int32, count=len(encoded))[1::2]
    return encoded.dictionary.to_pylist(), codes.astype(np.intp)


def _ascend(indices: NDArray[np.int64], counts: NDArray[np.int64]) -> bool:
    """Return whether indices ascend in each row, from 0 on."""
    if not indices.size:
        return True
    ascends = indices[1:] > indices[:-1]
    stops = np.cumsum(counts, dtype=np.int64)
    ascends[stops[(stops > 0) & (stops < indices.size)] - 1] = True
    return bool(ascends.all() and indices.min() >= 0 and indices.max() <= LARGEST_INDEX)


def _parse_slowly(chunk: bytes, needs_labels: bool) -> Lines:
    """Parse lines without comments and query ids one by one, as the format says; raise BadCell for no sample."""
    labels: list[bytes] = []
    counts: list[int] = []
    indices: list[int] = []
    values: list[float] = []
    for line in chunk.split(b"\n"):
        if not line.strip():
            continue
        words = [word for word in re.split(rb"[ \t]+", line.removesuffix(b"\r")) if word]
        try:
            label = words.pop(0) if b":" not in words[0] else None
            if needs_labels:
                labels.append(_checked_label(label, words))
            indices += _features(words, values)
        except ValueError as error:
            raise BadCell(len(counts), str(error)) from None
        counts.append(len(words))
    return _lines(
        _label_column(labels, np.arange(len(labels))) if needs_labels else None,
        np.array(counts, dtype=np.int64),
        np.array(indices, dtype=np.int64),
        np.array(values, dtype=np.float64),
    )


def _lines(
    labels: TextColumn | None, counts: NDArray[np.int64], indices: NDArray[np.int64], values: NDArray[np.float64]
) -> Lines:
    """Return the samples of which row r has counts[r] features."""
    fits = not indices.size or int(indices.max()) < 2**31
    ends = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    return Lines(labels, ends, indices.astype(np.int32 if fits else np.int64), values)


def _checked_label(label: bytes | None, words: list[bytes]) -> bytes:
    if label is None:
        raise ValueError(f"the label is missing: the line starts with {_shown(words[0])}; write the label before it")
    _label_text(label)
    return label


def _features(words: list[bytes], values: list[float]) -> list[int]:
    """Return the indices of a line's words, and add their values to a list; raise ValueError where a word is wrong."""
    indices: list[int] = []
    for word in words:
        index, colon, value = word.partition(b":")
        if not colon:
            raise ValueError(f"{_shown(word)} stands where index:value is expected")
        if not INTEGER.fullmatch(index):
            raise ValueError(f"the index {_shown(index)} in {_shown(word)} is not an integer")
        digits = index.lstrip(b"+-").lstrip(b"0") or b"0"
        if index.startswith(b"-") and digits != b"0":
            raise ValueError(f"the index in {_shown(word)} is negative; indices count from 0 or 1")
        number = int(digits) if len(digits) < 20 else 2**63
        if number > LARGEST_INDEX:
            raise ValueError(f"the index in {_shown(word)} is too large; at most {LARGEST_INDEX} is possible")
        if indices and number <= indices[-1]:
            raise ValueError(f"index {number} stands after index {indices[-1]}; indices must ascend, each at most once")
        if not NUMBER.fullmatch(value):
            end = "; end lines in LF, not in CR alone" if b"\r" in value else ""
            raise ValueError(f"the value {_shown(value)} of index {number} is not a number{end}")
        indices.append(number)
        values.append(float(value))
    return indices


def _label_column(words: list[bytes], codes: NDArray[np.intp]) -> TextColumn:
    """Return the labels words[codes], of which NaN is missing as in other formats; raise BadCell where one is none."""
    texts: list[str | None] = []
    try:
        for word in words:
            texts.append(None if NAN.fullmatch(word) else _label_text(word))
    except ValueError as error:  # labels are in the order in which they first appear
        raise BadCell(np.flatnonzero(codes == len(texts))[0], str(error)) from None
    return text_column(texts, codes)


def _label_text(word: bytes) -> str:
    """Return a label as it stands; raise ValueError where it is none."""
    if b"," in word:
        raise ValueError(f"the label is {_shown(word)}; one label a sample is expected, without a comma")
    try:
        text = word.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("the label is not UTF-8 text; convert the file to UTF-8") from None
    if any(character < " " for character in text):
        raise ValueError(
            f"the label {_shown(word)} holds a control character; the file is damaged, or no svmlight file"
        )
    return text


def _shown(word: bytes) -> str:
    text = word.decode("utf-8", errors="backslashreplace")
    return repr(text if len(text) <= 40 else text[:40] + "...")
