"""Which format a file is in, found by its content, then by its name."""

from __future__ import annotations

import re

from distsoftmax.config import Format
from distsoftmax.data.parts import FileState
from distsoftmax.errors import InputError

HEAD_BYTES = 1 << 16  # Read of a file to tell its format.
BINARY: dict[bytes, Format] = {b"PAR1": "parquet", b"\x93NUMPY": "npy", b"PK\x03\x04": "npz", b"\x89HDF": "hdf5"}
UNREAD = {  # what files begin with that are often taken for tables, what they are, and what helps
    b"BZh[1-9]1AY&SY": "is compressed by bzip2; decompress it, or compress it by gzip or zstd",
    b"\xfd7zXZ\\0": "is compressed by xz; decompress it, or compress it by gzip or zstd",
    rb"ARROW1\0\0": "is an Arrow (Feather) file; write it as Parquet",
    b"\xd0\xcf\x11\xe0": "is an old Excel workbook, or the like; save its table as CSV",
    rb'\s*[\[{][\[{\s]*"': "is JSON; write its table as CSV or Parquet",
}
COMPRESSED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
ENDINGS: dict[str, Format] = {
    "csv": "csv",
    "tsv": "csv",
    "tab": "csv",
    "svm": "svmlight",
    "svmlight": "svmlight",
    "libsvm": "svmlight",
    "parquet": "parquet",
    "pq": "parquet",
    "npy": "npy",
    "npz": "npz",
    "h5": "hdf5",
    "hdf5": "hdf5",
}
SVMLIGHT_LINE = re.compile(rb"[^\s:,;]+([ \t]+qid:\d+)?([ \t]+-?\d+:[^\s:]+)+[ \t]*(#.*)?")


def compression_of(path: str) -> str | None:
    """Return "gzip" or "zstd" as a file's first bytes say, None for neither."""
    with open(path, "rb") as file:
        head = file.read(4)
    return next((name for magic, name in COMPRESSED.items() if head.startswith(magic)), None)


def find_format(part: FileState) -> Format | None:
    """Return the format of a file; None for an empty one.

    Raises
    ------
    InputError
        Neither its content nor its name tells.
    """
    head = _head(part)
    if not head:
        return None
    for magic, kind in BINARY.items():
        if head.startswith(magic):
            return kind
    for beginning, complaint in UNREAD.items():
        if re.match(beginning, head):
            raise InputError(f"{part.path}: {complaint}")
    if b"\0" not in head and any(SVMLIGHT_LINE.fullmatch(line) for line in _whole_lines(head)[:1]):
        return "svmlight"
    stem = re.sub(r"\.(gz|gzip|zst|zstd)$", "", part.path.lower())
    by_name = ENDINGS.get(stem.rpartition(".")[2]) if "." in stem else None
    if by_name in ("csv", "svmlight"):
        return by_name
    if by_name is not None:
        raise InputError(f"{part.path}: the content is not that of a {by_name} file: it is damaged, or misnamed")
    if b"\0" in head:
        raise InputError(f"{part.path}: neither its content nor its name tells a format; say it with --format")
    return "csv"


def _head(part: FileState) -> bytes:
    try:
        compression = compression_of(part.path)
        if compression is None:
            with open(part.path, "rb") as file:
                return file.read(HEAD_BYTES)
        import pyarrow as pa

        with pa.input_stream(part.path, compression=compression) as stream:
            return bytes(stream.read(HEAD_BYTES))
    except OSError as error:
        raise InputError(f"{part.path}: cannot be read: {error.strerror or error}") from None


def _whole_lines(head: bytes) -> list[bytes]:
    """Return the lines with something in them, comments left out; the last may be cut off and is kept only alone."""
    lines = head.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").split(b"\n")
    if len(lines) > 1:
        lines = lines[:-1]
    elif len(head) >= HEAD_BYTES:
        lines = [lines[0].rpartition(b" ")[0]]  # one long line: judge it without its last, cut word
    return [line for line in lines if line.strip() and not line.startswith(b"#")]
