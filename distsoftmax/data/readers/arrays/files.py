"""Arrays in files, read a range of rows at a time: .npy files, and what is the same for all files of arrays."""

from __future__ import annotations

import io
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Protocol, TypeAlias

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from distsoftmax.data.parts import FileState
from distsoftmax.data.source import Features, SourceSpec
from distsoftmax.errors import InputError

DAMAGE: tuple[type[Exception], ...] = (OSError, ValueError, EOFError, MemoryError)  # What reading damaged bytes raises.
MOST_HEADER_BYTES = 10_000  # of a .npy header; numpy takes no longer one
MOST_BYTES = (1 << 63) - 1  # of an array; no machine addresses more
ONE_AT_A_TIME = threading.Lock()  # numpy has Python parse headers, which at times fails in several threads at once.
NOT_READ = "holds Python objects, which are not read for safety; save it as numbers or fixed-width text"


class FileRows(Protocol):
    """An array in a file, whose rows are read a range at a time.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype
        In the machine's byte order.
    """

    shape: tuple[int, ...]
    dtype: np.dtype

    def read(self, first: int, stop: int) -> Features:
        """Return the rows first to stop, C-contiguous, or a csr_array.

        Raises
        ------
        InputError
            Names the file and what is wrong with it.
        """


@dataclass(frozen=True)
class Arrays:
    """The arrays of one part, opened.

    Attributes
    ----------
    labels, weights : FileRows or None
        None where they are not in this file, or were not asked for.
    sparse : bool
        Whether the features come as csr_array.
    streamed : bool
        Whether the rows before those asked for must be read, too.
    """

    features: FileRows
    labels: FileRows | None = None
    weights: FileRows | None = None
    sparse: bool = False
    streamed: bool = False


Opener: TypeAlias = Callable[[FileState, SourceSpec], Arrays]


@dataclass(frozen=True)
class Header:
    """What the header of a .npy file, or of an archive's member, says; n_bytes is its own length."""

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool
    n_bytes: int

    @property
    def scatters_rows(self) -> bool:
        """Whether a row's elements do not lie side by side."""
        return self.fortran and len(self.shape) > 1

    @property
    def array_bytes(self) -> int:
        """The bytes of the array behind it."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def row_bytes(self) -> int:
        """The bytes of one row."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize


class StoredRows:
    """An array that lies in a file as it is: its rows are read where they lie, and nothing else."""

    def __init__(self, path: str, start: int, header: Header) -> None:
        self.shape = header.shape
        self.dtype = header.dtype.newbyteorder("=")
        self._path = path
        self._start = start
        self._header = header

    def read(self, first: int, stop: int) -> NDArray:
        """See `FileRows.read`."""
        header = self._header
        try:
            with open(self._path, "rb", buffering=0) as file:
                if not header.scatters_rows:
                    rows = np.empty((stop - first, *self.shape[1:]), dtype=header.dtype)
                    self._fill(file, rows, first * header.row_bytes)
                    return in_native_order(rows)
                columns = np.empty((self.shape[1], stop - first), dtype=header.dtype)
                for number, column in enumerate(columns):
                    self._fill(file, column, (number * self.shape[0] + first) * header.dtype.itemsize)
                return in_native_order(columns.T)
        except DAMAGE as error:
            raise damage_in(self._path, error) from None

    def _fill(self, file: io.FileIO, array: NDArray, start: int) -> None:
        unread = array.reshape(-1).view(np.uint8).data
        file.seek(self._start + start)
        while unread:
            count = file.readinto(unread)
            if not count:
                raise InputError(f"{self._path}: is cut short, or has changed since it was scanned")
            unread = unread[count:]


def in_native_order(array: NDArray) -> NDArray:
    """Return an array C-contiguous and in the machine's byte order; the same one where it is so already."""
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))


def read_header(file: IO[bytes], n_bytes: int) -> Header:
    """Return what a .npy header says, and see that the array fits a file of `n_bytes`.

    Raises
    ------
    ValueError
        It is no such header; or the array is of Python objects, or does not fill the file.
    """
    version: tuple[int, int] = npy_format.read_magic(file)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"version {version} of the .npy format is unknown")
    read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    length = file.read(2 if version == (1, 0) else 4)
    if int.from_bytes(length, "little") > MOST_HEADER_BYTES:  # numpy would read it first, in an archive out of nothing
        raise ValueError(f"its header is said to have {int.from_bytes(length, 'little')} bytes")
    text = io.BytesIO(length + file.read(int.from_bytes(length, "little")))
    try:
        with ONE_AT_A_TIME:
            shape, fortran, dtype = read(text)
    except Exception as error:  # it evaluates what it finds, and lets through what Python's parser raises
        raise ValueError(f"its header is none: {error}") from None
    header = Header(tuple(int(length) for length in shape), dtype, bool(fortran), file.tell())
    if dtype.hasobject:
        raise ValueError(NOT_READ)
    if (
        min(header.shape, default=0) < 0
        or header.array_bytes > MOST_BYTES
        or n_bytes != header.n_bytes + header.array_bytes
    ):
        raise ValueError(f"{n_bytes} bytes do not hold an array of shape {shape} and type {dtype}")
    return header


def open_by_name(
    part: FileState, spec: SourceSpec, held: list[str], kind: str, open_rows: Callable[[str], FileRows], features: str
) -> Arrays:
    """Open the features of a file of named arrays, and those labels and weights that are read from it.

    Raises
    ------
    InputError
        One is not there, or the labels are in files of their own besides.
    """
    _require_held(part, features, held, kind)
    label = _find_labels(part, spec, held, kind) if spec.needs_labels else None
    if spec.weight is not None:
        _require_held(part, spec.weight, held, kind)
    return Arrays(
        open_rows(features),
        open_rows(label) if label is not None else None,
        open_rows(spec.weight) if spec.weight is not None else None,
    )


def _find_labels(part: FileState, spec: SourceSpec, held: list[str], kind: str) -> str | None:
    """Return the name of the array of labels among those that a file holds; None where labels are not read from it."""
    name = spec.label or "y"
    if spec.label is None and spec.known_label in held and not spec.labels_paths:
        name = str(spec.known_label)
    if name in held and spec.labels_paths:
        raise InputError(f"{part.path}: holds labels of its own, in {kind} {name}; leave --labels out")
    if spec.labels_paths and spec.label is None:
        return None
    _require_held(part, name, held, kind)
    return name


def _require_held(part: FileState, name: str, held: list[str], kind: str) -> None:
    if name not in held:
        raise InputError(f"{part.path}: has no {kind} {name}; it holds {', '.join(held) or 'nothing'}")


def damage_in(where: str, error: Exception) -> InputError:
    """Return the error to raise for what reading or numpy raised on a damaged file."""
    if NOT_READ in str(error):
        return InputError(f"{where}: {NOT_READ}")
    if isinstance(error, OSError) and error.strerror:
        return InputError(f"{where}: cannot be read: {error.strerror}")
    return InputError(f"{where}: is damaged or cut short: {error}")


def open_array(part: FileState) -> StoredRows:
    """Open a .npy file and read its header.

    Raises
    ------
    InputError
        It cannot be read, is damaged, or is no such file.
    """
    try:
        with open(part.path, "rb") as file:
            magic = file.read(len(npy_format.MAGIC_PREFIX))
            if magic != npy_format.MAGIC_PREFIX:
                raise InputError(f"{part.path}: is not a .npy file")
            file.seek(0)
            header = read_header(file, part.size)
    except DAMAGE as error:
        raise damage_in(part.path, error) from None
    return StoredRows(part.path, header.n_bytes, header)


def open_npy(part: FileState, spec: SourceSpec) -> Arrays:
    """Open a .npy file of features. Its labels are in files of their own.

    Raises
    ------
    InputError
        It is damaged, or the labels are not named.
    """
    if spec.needs_labels and not spec.labels_paths:
        raise InputError(f"{part.path}: holds features alone; name the .npy file of its labels with --labels FILE")
    return Arrays(open_array(part))
