"""Samples in numpy arrays: .npy files, .npz archives and scikit-learn's digits."""

from __future__ import annotations

import gzip
import importlib.util
import lzma
import math
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO, Literal, Protocol

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from distsoftmax.data.source import Exchange, LabelColumn, SourceSpec
from distsoftmax.errors import InputError

# what zipfile, its decompressors and numpy's reader of headers raise on bytes that are not what they should be
DAMAGE = (
    OSError,
    ValueError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    tokenize.TokenError,
)


class Rows(Protocol):
    """An array that is read a run of rows at a time: in memory, memory-mapped or streamed."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's shape."""

    @property
    def dtype(self) -> np.dtype:
        """The elements' type."""

    def __getitem__(self, rows: slice, /) -> NDArray:
        """Return a run of rows."""


class ArraySource:
    """A source whose features and labels are arrays; see `Source`.

    Raises
    ------
    InputError
        The arrays' shapes or types are not those of samples and labels.
    """

    headless_by_guess = False

    def __init__(self, path: str, features: Rows, labels: Rows | None) -> None:
        self.path = path
        self._features = features
        self._labels = labels
        _check_arrays(path, features, labels)
        self.n_rows = features.shape[0]
        self.feature_names = tuple(f"x{column}" for column in range(features.shape[1]))
        self._bounds = np.array([0, self.n_rows])

    def count_rows(self, exchange: Exchange) -> None:
        """See `Source.count_rows`. The arrays' headers have told already."""

    def divide(self, bounds: NDArray[np.int64], exchange: Exchange) -> None:
        """See `Source.divide`. No communication is needed."""
        self._bounds = bounds

    def read(self, shard: int) -> tuple[NDArray, LabelColumn | None]:
        """See `Source.read`."""
        rows = slice(int(self._bounds[shard]), int(self._bounds[shard + 1]))
        try:
            labels = None if self._labels is None else _label_column(self.path, self._labels[rows], rows.start)
            return np.asarray(self._features[rows]), labels
        except DAMAGE as error:
            raise InputError(f"{self.path}: cannot be read beyond row {rows.start}: {error}") from None


def digits() -> ArraySource:
    """Return scikit-learn's digits: 1,797 images of 8 x 8 pixels, 10 classes. The file comes with scikit-learn."""
    package = importlib.util.find_spec("sklearn")
    folder = package.submodule_search_locations[0] if package and package.submodule_search_locations else ""
    path = Path(folder, "datasets", "data", "digits.csv.gz")
    if path.is_file():  # importing scikit-learn for it takes every rank a second
        with gzip.open(path, "rt", encoding="ascii") as file:
            table = np.array([line.split(",") for line in file], dtype=np.float64)
        return ArraySource("digits", table[:, :-1], table[:, -1])
    from sklearn.datasets import load_digits

    return ArraySource("digits", *load_digits(return_X_y=True))


def open_npy(spec: SourceSpec) -> ArraySource:
    """Open a .npy file of features and the one of labels, both memory-mapped.

    Raises
    ------
    InputError
        A file is missing or damaged, or the labels are not named.
    """
    if spec.needs_labels and spec.labels_path is None:
        raise InputError(f"{spec.path}: holds features alone; name the .npy file of its labels with --labels FILE")
    labels = _map_npy(spec.labels_path) if spec.needs_labels and spec.labels_path else None
    return ArraySource(spec.path, _map_npy(spec.path), labels)


def open_npz(spec: SourceSpec) -> ArraySource:
    """Open the arrays X and y of a .npz archive: memory-mapped where stored plainly, streamed where compressed.

    Raises
    ------
    InputError
        The archive is damaged or lacks an array.
    """
    try:
        archive = zipfile.ZipFile(spec.path)
    except DAMAGE as error:
        raise InputError(f"{spec.path}: is not a .npz archive: {error}") from None
    with archive:
        held = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        for name in ("X", "y") if spec.needs_labels else ("X",):
            if name not in held:
                raise InputError(f"{spec.path}: has no array {name}; it holds {', '.join(held) or 'nothing'}")
    features = _open_member(spec.path, "X")
    return ArraySource(spec.path, features, _open_member(spec.path, "y") if spec.needs_labels else None)


def _map_npy(path: str) -> Rows:
    try:
        with open(path, "rb") as file:
            magic = file.read(len(npy_format.MAGIC_PREFIX))
        if magic and magic != npy_format.MAGIC_PREFIX:
            raise InputError(f"{path}: is not a .npy file")
        array: Rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except DAMAGE as error:
        raise InputError(f"{path}: {_reason(error)}") from None
    return array


def _open_member(path: str, name: str) -> Rows:
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(f"{name}.npy")
            with archive.open(info) as member:
                shape, fortran, dtype = _read_header(member)
                header_bytes = member.tell()
                if dtype.hasobject:
                    raise ValueError("Object arrays")
                if info.file_size != header_bytes + math.prod(shape) * dtype.itemsize:
                    raise ValueError(f"{info.file_size} bytes do not hold an array of shape {shape}")
                if fortran and len(shape) > 1 and info.compress_type != zipfile.ZIP_STORED:
                    flat = np.frombuffer(member.read(), dtype=dtype)  # its rows are scattered over the stream
                    return flat.reshape(shape, order="F")
        if info.compress_type == zipfile.ZIP_STORED:
            if not math.prod(shape):
                return np.empty(shape, dtype)
            offset = _data_offset(path, info) + header_bytes
            order: Literal["C", "F"] = "F" if fortran else "C"
            mapped: Rows = np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape, order=order)
            return mapped
    except DAMAGE as error:
        raise InputError(f"{path}: array {name}: {_reason(error)}") from None
    return _StreamedRows(path, info, shape, dtype)


class _StreamedRows:
    """A compressed member of an archive, decompressed once as long as rows are asked for in order."""

    def __init__(self, path: str, info: zipfile.ZipInfo, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.shape = shape
        self.dtype = dtype
        self._path = path
        self._info = info
        self._row_bytes = dtype.itemsize * math.prod(shape[1:])
        self._stream: IO[bytes] | None = None
        self._next = 0

    def __getitem__(self, rows: slice, /) -> NDArray:
        if self._stream is None or rows.start < self._next:
            self._stream = zipfile.ZipFile(self._path).open(self._info)  # noqa: SIM115 (stays open between reads)
            _read_header(self._stream)
            self._next = 0
        while self._next < rows.start:
            count = min(rows.start - self._next, max((1 << 22) // max(self._row_bytes, 1), 1))
            self._stream.read(count * self._row_bytes)
            self._next += count
        wanted = (rows.stop - rows.start) * self._row_bytes
        data = self._stream.read(wanted)
        self._next = rows.stop
        if len(data) < wanted:
            raise EOFError("the compressed array is cut short")
        return np.frombuffer(data, dtype=self.dtype).reshape(-1, *self.shape[1:])


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = npy_format.read_magic(file)
    if version == (1, 0):
        return npy_format.read_array_header_1_0(file)
    return npy_format.read_array_header_2_0(file)


def _data_offset(path: str, info: zipfile.ZipInfo) -> int:
    """Return where a stored member's bytes begin: behind its local header, whose lengths are its own."""
    with open(path, "rb") as file:
        file.seek(info.header_offset)
        header = file.read(30)
    return info.header_offset + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")


def _reason(error: Exception) -> str:
    text = str(error)
    if "Object arrays" in text or "Python objects" in text or "allow_pickle" in text:
        return "holds Python objects, which are not read for safety; save it as numbers or fixed-width text"
    return f"is damaged or cut short: {text}"


def _check_arrays(path: str, features: Rows, labels: Rows | None) -> None:
    if len(features.shape) != 2:
        raise InputError(f"{path}: the features have shape {features.shape}; expected (n_samples, n_features)")
    if features.dtype.kind not in "fiub":
        raise InputError(f"{path}: the features are of type {features.dtype}; expected numbers")
    if features.shape[1] == 0:
        raise InputError(f"{path}: the features have shape {features.shape}: there is no feature to learn from")
    if labels is None:
        return
    if len(labels.shape) != 1:
        raise InputError(f"{path}: the labels have shape {labels.shape}; expected (n_samples,)")
    if labels.shape[0] != features.shape[0]:
        raise InputError(f"{path}: {features.shape[0]} samples but {labels.shape[0]} labels; give one label a sample")
    if labels.dtype.kind not in "fiubU":
        raise InputError(f"{path}: the labels are of type {labels.dtype}; expected integers or text")


def _label_column(path: str, labels: NDArray, first_row: int) -> LabelColumn:
    if labels.dtype.kind == "f":
        odd = np.flatnonzero(~((labels == np.rint(labels)) & (np.abs(labels.astype(np.float64)) < 2**63)))
        if odd.size:
            raise InputError(
                f"{path}: row {first_row + odd[0] + 1}: the label is {labels[odd[0]]}; a class is an integer or text"
            )
        labels = labels.astype(np.int64)
    distinct, codes = np.unique(labels, return_inverse=True)
    return LabelColumn(tuple(str(value) for value in distinct.tolist()), codes.reshape(-1).astype(np.intp))
