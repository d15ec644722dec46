"""Which format a file is in, found by its content, then by its name, and the reader for it."""

from __future__ import annotations

import re
from dataclasses import replace

from distsoftmax.config import Format
from distsoftmax.data.parts import FileState, find_parts
from distsoftmax.data.source import Exchange, Source, SourceSpec
from distsoftmax.errors import InputError

HEAD_BYTES = 1 << 16
BINARY: dict[bytes, Format] = {b"PAR1": "parquet", b"\x93NUMPY": "npy", b"PK\x03\x04": "npz", b"\x89HDF": "hdf5"}
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


def open_source(spec: SourceSpec, exchange: Exchange) -> Source:
    """Return the reader for a source, with its parts found and nothing read but their first bytes. Collective.

    Raises
    ------
    InputError
        On every rank: a part is missing, no format can be told, two parts differ in it, or an option does not fit it.
    """
    parts = find_parts(spec.paths, exchange)
    found = spec.format if spec.format != "auto" else _common_format(parts, exchange)
    with exchange.agreement():
        _refuse_options_of_other_formats(spec, found)
    if found == "csv":
        from distsoftmax.data.readers.csv import CsvSource

        return CsvSource(spec, parts)
    if found == "svmlight":
        from distsoftmax.data.readers.svmlight import SvmlightSource

        return SvmlightSource(spec, parts)
    if found == "parquet":
        from distsoftmax.data.readers.parquet import ParquetSource

        return ParquetSource(spec, parts)
    from distsoftmax.data.readers.archives import open_npz
    from distsoftmax.data.readers.array_files import open_npy
    from distsoftmax.data.readers.arrays import ArraySource
    from distsoftmax.data.readers.hdf5 import open_hdf5

    opened = {"npy": open_npy, "npz": open_npz, "hdf5": open_hdf5}[found]
    return ArraySource(replace(spec, format=found), parts, find_parts(spec.labels_paths, exchange), opened)


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
    import pyarrow as pa

    try:
        compression = compression_of(part.path)
        if compression is None:
            with open(part.path, "rb") as file:
                return file.read(HEAD_BYTES)
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


def _common_format(parts: tuple[FileState, ...], exchange: Exchange) -> Format:
    own: dict[int, Format | None] = {}
    with exchange.agreement():
        for number in range(exchange.rank, len(parts), exchange.size):
            own[number] = find_format(parts[number])
    kinds = {number: kind for some in exchange.allgather(own) for number, kind in some.items() if kind is not None}
    if not kinds:
        names = parts[0].path if len(parts) == 1 else f"{parts[0].path} and the other parts"
        raise InputError(f"{names}: {'is' if len(parts) == 1 else 'are'} empty").on_all_ranks()
    first = min(kinds)
    for number, kind in sorted(kinds.items()):
        if kind != kinds[first]:
            raise InputError(
                f"{parts[number].path}: is in the {kind} format, but {parts[first].path} in {kinds[first]}; give parts "
                "of one format, or say it with --format"
            ).on_all_ranks()
    return kinds[first]


def _refuse_options_of_other_formats(spec: SourceSpec, found: str) -> None:
    is_table = found in ("csv", "parquet")
    given = {
        "labels": (bool(spec.labels_paths), found in ("npy", "npz", "hdf5")),
        "label": (spec.label is not None, is_table or found in ("npz", "hdf5")),
        "weight": (spec.weight is not None, is_table or found in ("npz", "hdf5")),
        "features": (bool(spec.features), is_table),
        "one-hot": (bool(spec.one_hot) and spec.one_hot != ("auto",), is_table),
        "n-features": (spec.n_features is not None, found == "svmlight"),
    }
    for option, (is_given, fits) in given.items():
        if is_given and not fits:
            raise InputError(f"{' '.join(spec.paths)}: --{option} does not apply to files in the {found} format")
