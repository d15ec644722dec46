"""Samples in HDF5 files: the datasets X and y, read a range of rows at a time with h5py."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distsoftmax.data.parts import FileState
from distsoftmax.data.readers.arrays.files import Arrays, in_native_order, open_by_name
from distsoftmax.data.source import SourceSpec
from distsoftmax.errors import InputError


class DatasetRows:
    """A dataset of an open HDF5 file; see `FileRows`.

    Raises
    ------
    InputError
        It is no dataset, its values lie in other files, or some were never written.
    """

    def __init__(self, path: str, file: Any, name: str) -> None:
        import h5py

        self._where = f"{path}: dataset {name}"
        is_elsewhere = isinstance(file.get(name, getlink=True), h5py.ExternalLink)
        dataset: Any = None if is_elsewhere else file[name]
        if not is_elsewhere and not isinstance(dataset, h5py.Dataset):
            raise InputError(f"{self._where}: is no dataset but a {type(dataset).__name__.lower()}")
        if is_elsewhere or dataset.is_virtual or dataset.external:
            # a file that is missing would read as zeros, and one that changes would not be seen
            raise InputError(f"{self._where}: its values lie in other files; give those as parts, or make a plain copy")
        if not _is_whole(dataset):
            raise InputError(f"{self._where}: is damaged or was never written whole; its shape is {dataset.shape}")
        self._dataset = dataset
        self.shape: tuple[int, ...] = dataset.shape or ()
        self._is_text = h5py.check_string_dtype(dataset.dtype) is not None
        self.dtype = np.dtype("U") if self._is_text else dataset.dtype.newbyteorder("=")

    def read(self, first: int, stop: int) -> NDArray:
        """See `FileRows.read`."""
        try:
            if self._is_text:
                return np.array(self._dataset.asstr()[first:stop].tolist(), dtype=str)
            return in_native_order(self._dataset[first:stop])
        except Exception as error:  # h5py raises about anything on a damaged file
            raise InputError(f"{self._where}: rows {first + 1} to {stop} cannot be read: {error}") from None


def _is_whole(dataset: Any) -> bool:
    """Return whether the file holds every value: those it lacks would read as zeros."""
    shape = dataset.shape or ()
    if dataset.chunks is None:
        missing = math.prod(shape) * dataset.dtype.itemsize - dataset.id.get_storage_size()
        # text of variable length takes more than h5py's type says
        return bool(missing <= 0 if dataset.dtype.hasobject else missing == 0) or dataset.shape is None
    n_chunks = math.prod(-(-length // chunk) for length, chunk in zip(shape, dataset.chunks, strict=True))
    return bool(dataset.id.get_num_chunks() == n_chunks)


def open_hdf5(part: FileState, spec: SourceSpec) -> Arrays:
    """Open the dataset X of a file; and those of the labels, y or the one named, and of the weights.

    Raises
    ------
    InputError
        The file is damaged, lacks a dataset, or h5py is missing.
    """
    try:
        import h5py
    except ImportError:
        raise InputError(f"{part.path}: reading HDF5 needs h5py: pip install 'distsoftmax[hdf5]'") from None
    try:
        file = h5py.File(part.path, "r")  # closes with the last of its datasets
        return open_by_name(
            part, spec, list(file), "dataset", lambda name: DatasetRows(part.path, file, name), features="X"
        )
    except InputError:
        raise
    except Exception as error:  # as above
        raise InputError(f"{part.path}: is damaged, or no HDF5 file: {error}") from None
