"""Arrays in .npz archives: dense as numpy.savez writes them, sparse as scipy.sparse.save_npz does."""

from __future__ import annotations

import lzma
import os
import struct
import weakref
import zipfile
import zlib
from dataclasses import replace
from typing import IO

import numpy as np
from numpy.typing import NDArray

from distsoftmax.data.parts import FileState
from distsoftmax.data.readers.arrays.csr_rows import CsrRows
from distsoftmax.data.readers.arrays.files import (
    DAMAGE,
    Arrays,
    FileRows,
    Header,
    StoredRows,
    damage_in,
    in_native_order,
    open_by_name,
    read_header,
)
from distsoftmax.data.source import SourceSpec
from distsoftmax.errors import InputError

# What zipfile and its decompressors raise on damaged bytes besides.
ZIP_DAMAGE: tuple[type[Exception], ...] = (
    *DAMAGE,
    RuntimeError,
    LookupError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
)
SKIP_BYTES = 1 << 22  # Decompressed at a time to reach a later row.
# How many bytes one compressed byte may stand for. Deflate: two codes of one bit at least, for 258 bytes at most (RFC
# 1951, 3.2.5). Bzip2: some 40 bytes for a block of 900,000, each five of which may stand for 259. LZMA: far less.
MOST_EXPANSION = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: 1032}
MOST_EXPANSION_OF_OTHERS = 1 << 21
MATRIX = ("format", "shape", "data", "indices", "indptr")  # The arrays of a compressed matrix, as scipy names them.


def open_npz(part: FileState, spec: SourceSpec) -> Arrays:
    """Open the arrays of an archive: X, or the matrix that scipy.sparse.save_npz wrote; labels and weights.

    Raises
    ------
    InputError
        The archive is damaged, lacks an array, or holds a sparse matrix of another kind than CSR.
    """
    try:
        archive = _Archive(part)
    except ZIP_DAMAGE as error:
        raise InputError(f"{part.path}: is not a .npz archive: {error}") from None
    with archive.file:
        if archive.file.namelist() and not archive.held:
            raise InputError(
                f"{part.path}: has no array X: it is a zip archive without a numpy array, such as an Excel "
                "workbook; unpack it, or save its table as CSV"
            )
        sparse = "X" not in archive.held and {"format", "shape", "data"} <= set(archive.held)
        arrays = open_by_name(part, spec, archive.held, "array", archive.open, features="data" if sparse else "X")
        streamed = isinstance(arrays.features, StreamedRows)
        features = archive.open_matrix(arrays.features) if sparse else arrays.features
        return replace(arrays, features=features, sparse=sparse, streamed=streamed)


class _Archive:
    """An archive while its members are opened."""

    def __init__(self, part: FileState) -> None:
        self.path = part.path
        self.file = zipfile.ZipFile(part.path)
        self.held = [name.removesuffix(".npy") for name in self.file.namelist() if name.endswith(".npy")]

    def open(self, name: str) -> StoredRows | StreamedRows:
        """Open an array and read its header."""
        try:
            info = self.file.getinfo(f"{name}.npy")
            with self.file.open(info) as member:
                header = read_header(member, info.file_size)
            self._require_bytes(info, header)
            if info.compress_type != zipfile.ZIP_STORED:
                return StreamedRows(self.path, info, header)
            return StoredRows(self.path, self._data_offset(info) + header.n_bytes, header)
        except ZIP_DAMAGE as error:
            raise damage_in(f"{self.path}: array {name}", error) from None

    def open_matrix(self, values: FileRows) -> CsrRows:
        """Open the other arrays of a CSR matrix with these values."""
        kind = b"".join(self._small("format").astype("S").reshape(-1)[:1].tolist()).decode("latin1")
        if kind != "csr":
            raise InputError(
                f"{self.path}: holds a sparse matrix in {kind} format; save it as CSR, with "
                "scipy.sparse.save_npz(file, matrix.tocsr())"
            )
        for name in MATRIX:
            if name not in self.held:
                raise InputError(f"{self.path}: holds a CSR matrix without its array {name}")
        shape = tuple(self._small("shape").astype(np.int64).tolist())
        indices, indptr = self.open("indices"), self.open("indptr")
        is_csr = (
            len(shape) == 2
            and min(shape) >= 0
            and len(values.shape) == len(indices.shape) == 1
            and values.shape == indices.shape
            and indptr.shape == (shape[0] + 1,)
            and indices.dtype.kind in "iu"
            and indptr.dtype.kind in "iu"
        )
        if not is_csr:
            raise InputError(
                f"{self.path}: is damaged: arrays of shapes {values.shape}, {indices.shape} and {indptr.shape} are no "
                f"CSR matrix of shape {shape}"
            )
        return CsrRows(self.path, shape, values, indices, indptr)

    def _small(self, name: str) -> NDArray:
        """Read an array of a few bytes."""
        try:
            info = self.file.getinfo(f"{name}.npy")
            with self.file.open(info) as member:
                header = read_header(member, info.file_size)
                if header.array_bytes > 256:
                    raise ValueError(f"{header.array_bytes} bytes")
                array = np.frombuffer(member.read(), dtype=header.dtype).reshape(header.shape)
            if array.dtype.kind not in "iuSU":
                raise ValueError(f"type {array.dtype}")
        except ZIP_DAMAGE as error:
            raise damage_in(f"{self.path}: array {name}", error) from None
        return array

    def _require_bytes(self, info: zipfile.ZipInfo, header: Header) -> None:
        """Refuse an array that the archive's bytes cannot hold, before memory is taken for it.

        Raises
        ------
        ValueError
        """
        n_bytes = min(info.compress_size, os.path.getsize(self.path))
        if info.file_size > n_bytes * MOST_EXPANSION.get(info.compress_type, MOST_EXPANSION_OF_OTHERS):
            raise ValueError(
                f"{n_bytes} compressed bytes do not hold an array of shape {header.shape} and type {header.dtype}"
            )

    def _data_offset(self, info: zipfile.ZipInfo) -> int:
        """Return where a stored member's bytes begin: behind its local header, whose lengths are its own."""
        with open(self.path, "rb") as file:
            file.seek(info.header_offset)
            header = file.read(30)
        return (
            info.header_offset + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        )


class StreamedRows:
    """A compressed member of an archive, decompressed once as long as rows are asked for in order."""

    def __init__(self, path: str, info: zipfile.ZipInfo, header: Header) -> None:
        self.shape = header.shape
        self.dtype = header.dtype.newbyteorder("=")
        self._path = path
        self._info = info
        self._header = header
        self._archive: zipfile.ZipFile | None = None
        self._stream: IO[bytes] | None = None
        self._next = 0
        self._whole: NDArray | None = None  # where the rows are scattered over the stream

    def read(self, first: int, stop: int) -> NDArray:
        """See `FileRows.read`."""
        header = self._header
        try:
            if header.scatters_rows:
                if self._whole is None:
                    flat = np.frombuffer(self._open().read(header.array_bytes), dtype=header.dtype)
                    self._whole = flat.reshape(header.shape, order="F")
                return in_native_order(self._whole[first:stop])
            if self._stream is None or first < self._next:
                self._stream = self._open()
                self._next = 0
            while self._next < first:
                count = min(first - self._next, max(SKIP_BYTES // max(header.row_bytes, 1), 1))
                self._stream.read(count * header.row_bytes)
                self._next += count
            data = self._stream.read((stop - first) * header.row_bytes)
            self._next = stop
            if len(data) < (stop - first) * header.row_bytes:
                raise EOFError("the compressed array is cut short")
            return in_native_order(np.frombuffer(data, dtype=header.dtype).reshape(stop - first, *self.shape[1:]))
        except ZIP_DAMAGE as error:
            name = self._info.filename.removesuffix(".npy")
            raise damage_in(f"{self._path}: array {name}: rows {first + 1} and following", error) from None

    def _open(self) -> IO[bytes]:
        if self._archive is None:
            file = open(self._path, "rb")  # noqa: SIM115 (stays open between reads)
            weakref.finalize(self, file.close)  # whatever holds on to these rows last, the traceback of an error, say
            self._archive = zipfile.ZipFile(file)
        stream = self._archive.open(self._info)
        read_header(stream, self._info.file_size)
        return stream
