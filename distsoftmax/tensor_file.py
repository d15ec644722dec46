"""Files of named tensors, in the safetensors format, that say of themselves whether they are whole."""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from distsoftmax.errors import DamagedFile, InputError

TENSOR_TYPES = {"float64": "F64", "float32": "F32", "float16": "F16", "bool": "BOOL"}
TENSOR_TYPES |= {f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)} | {f"uint{bits}": f"U{bits}" for bits in (8, 16)}
DTYPES = {word: np.dtype(name).newbyteorder("<") for name, word in TENSOR_TYPES.items()}
Buffer: TypeAlias = "bytes | memoryview"
Digest: TypeAlias = "Callable[[bytes], Any]"  # such as hashlib.sha256


def tensor_file_content(
    kind: str, tensors: Mapping[str, NDArray], metadata: Mapping[str, str], digest: Digest = hashlib.sha256
) -> list[Buffer]:
    """Return the content of a file in several buffers, without a copy of the tensors.

    The library's own `save` returns a copy of everything in one buffer, and its `save_file` neither syncs nor says
    which error the system gave. The format: the header's length as 8 bytes, the header as JSON padded to a multiple of
    8, the tensors' bytes.

    Parameters
    ----------
    kind : str
        What the file is, such as "model".
    tensors : mapping of str to ndarray
        Of any shape; of a type in `TENSOR_TYPES`.
    metadata : mapping of str to str
        Without the keys "format" and "checksum", which are added.
    digest : callable
        Of hashlib: makes the checksum.

    Examples
    --------
    >>> buffers = tensor_file_content("model", {"coef": np.zeros((2, 3))}, {"classes": "[]"})
    >>> [len(buffer) for buffer in buffers]
    [8, 216, 48]
    """
    little_endian = {
        name: tensor.astype(tensor.dtype.newbyteorder("<"), copy=False) for name, tensor in tensors.items()
    }
    metadata = {"format": f"distsoftmax {kind}", **metadata, "checksum": _checksum(tensors, metadata, digest)}
    header: dict[str, object] = {"__metadata__": metadata}
    ordered = sorted(little_endian, key=lambda name: (-little_endian[name].itemsize, name))  # so that all are aligned
    end = 0
    for name in ordered:
        tensor = little_endian[name]
        start, end = end, end + tensor.nbytes
        dtype = TENSOR_TYPES[tensor.dtype.name]
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return [len(text).to_bytes(8, "little"), text, *(_bytes_of(little_endian[name]) for name in ordered)]


def read_tensor_file(kind: str, path: Path, *, needs_checksum: bool = True) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the tensors (ndarray by name, which may be written to) and the metadata of a file.

    Parameters
    ----------
    needs_checksum : bool
        Whether a file without a checksum is damaged. With one that does not fit, it always is.

    Raises
    ------
    InputError
        It is not there, or may not be read.
    DamagedFile
        It is of another kind, or some byte of it is not the one that was written.

    Examples
    --------
    >>> from distsoftmax.durable import write_atomically
    >>> path = Path("numbers.safetensors")
    >>> write_atomically(path, *tensor_file_content("list", {"numbers": np.arange(3)}, {"unit": "m"}))
    >>> read_tensor_file("list", path)
    ({'numbers': array([0, 1, 2])}, {'unit': 'm'})
    """
    return tensors_in(kind, path, bytearray(read_whole(path)), needs_checksum=needs_checksum)


def read_whole(path: Path) -> bytes:
    """Return the content of a regular file.

    Raises
    ------
    InputError
        It is not there, or may not be read.
    DamagedFile
        It is no regular file.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise DamagedFile(f"{path}: is no regular file")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def map_file(path: Path) -> mmap.mmap:
    """Return the content of a file as it lies in the system's cache, to be read only.

    Raises
    ------
    InputError
        It is not there, or may not be read.
    DamagedFile
        It is empty, or no regular file.
    """
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise DamagedFile(f"{path}: is no regular file")
            return mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    except ValueError:
        raise DamagedFile(f"{path}: is empty") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def tensors_in(
    kind: str,
    path: Path,
    content: bytes | bytearray | mmap.mmap,
    digest: Digest | None = hashlib.sha256,
    *,
    needs_checksum: bool = True,
) -> tuple[dict[str, NDArray], dict[str, str]]:
    """Return the tensors and the metadata of a file with this content. They lie in it: nothing is copied.

    Parameters
    ----------
    path : Path
        What an error calls it.
    digest : callable or None
        What has made the checksum; None: it is not looked at.
    needs_checksum : bool
        See `read_tensor_file`.

    Raises
    ------
    DamagedFile
        It is of another kind, or some byte of it is not the one that was written.

    Examples
    --------
    >>> content = b"".join(tensor_file_content("list", {"numbers": np.arange(3)}, {"unit": "m"}))
    >>> tensors_in("list", Path("numbers.safetensors"), content)
    ({'numbers': array([0, 1, 2])}, {'unit': 'm'})
    """
    start = 8 + int.from_bytes(content[:8], "little")
    try:
        header = json.loads(bytes(content[8:start]))  # no longer than the file, whatever its length claims
        metadata = {str(key): str(text) for key, text in header.pop("__metadata__", {}).items()}
        tensors = {}
        for name, entry in header.items():
            dtype, shape, (begin, end) = DTYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
            if not 0 <= begin <= end <= len(content) - start or end - begin != math.prod(shape) * dtype.itemsize:
                raise ValueError(f"the tensor {name} is not where it should be")
            tensors[name] = (
                np.frombuffer(content, dtype, math.prod(shape), start + begin).reshape(shape)
                if begin < end
                else np.empty(shape, dtype)
            )
        if sum(tensor.nbytes for tensor in tensors.values()) != len(content) - start:
            raise ValueError("some of its bytes belong to no tensor")
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise DamagedFile(f"{path}: is damaged or unreadable, or no {kind} of distsoftmax: {error}") from None
    if metadata.pop("format", None) != f"distsoftmax {kind}":
        raise DamagedFile(f"{path}: is not a {kind} of distsoftmax")
    checksum = metadata.pop("checksum", None)
    if digest is None or (checksum is None and not needs_checksum):
        return tensors, metadata
    if checksum != _checksum(tensors, metadata, digest):
        raise DamagedFile(f"{path}: is damaged: its bytes are not the ones that were written")
    return tensors, metadata


def _checksum(tensors: Mapping[str, NDArray], metadata: Mapping[str, str], function: Digest) -> str:
    """Return a digest over the metadata's texts, and each tensor's name, type, shape and bytes."""
    digest = function("\n".join(metadata[key] for key in sorted(metadata)).encode())
    for name in sorted(tensors):
        tensor = tensors[name].astype(tensors[name].dtype.newbyteorder("<"), copy=False)
        digest.update(f"\n{name} {tensor.dtype.str} {tensor.shape}\n".encode())
        digest.update(_bytes_of(tensor))
    return str(digest.hexdigest())


def _bytes_of(tensor: NDArray) -> memoryview:
    buffer: memoryview = np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data
    return buffer
