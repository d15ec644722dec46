"""The samples of a shard, as the core sees them: a record of where each array lies; nothing is copied."""

from __future__ import annotations

import copy
import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Integers = NDArray[np.int64]

STORAGE = {  # as in core/samples.h
    np.dtype(name): number
    for number, name in enumerate(["float32", "float64", "float16", "int8", "uint8", "int16", "uint16", "bool"])
}


class SamplesRecord(ctypes.Structure):
    """`samples` of core/samples.h."""

    _fields_ = (
        ("n_rows", ctypes.c_int64),
        ("n_features", ctypes.c_int64),
        ("storage", ctypes.c_int64),
        ("values", ctypes.c_void_p),
        ("mean", ctypes.c_void_p),
        ("inverse", ctypes.c_void_p),
        ("starts", ctypes.c_void_p),
        ("indices", ctypes.c_void_p),
        ("index_bytes", ctypes.c_int64),
        ("columns", ctypes.c_void_p),
        ("classes", ctypes.c_void_p),
        ("weights", ctypes.c_void_p),
        ("rows", ctypes.c_void_p),
        ("n_taken", ctypes.c_int64),
    )


class Rows:
    """The samples of a shard, as the core sees them; made by `dense_rows` or `sparse_rows`.

    Attributes
    ----------
    n_rows : int
        Those taken.
    n_features : int or None
        None where they are sparse: the columns of the parameters tell.
    dtype : numpy.dtype
        The type to compute in.
    record : SamplesRecord
    reference
        To the record, as functions of the core take it.
    largest_class : int
        -1 where the samples have no classes.
    """

    def __init__(
        self, record: SamplesRecord, kept: list[Any], n_features: int | None, dtype: np.dtype, largest: int
    ) -> None:
        self.record = record
        self.reference = ctypes.byref(record)
        self._kept = kept  # the arrays that the record points into
        self.largest_class = largest
        self.n_features = n_features
        self.dtype = dtype

    @property
    def n_rows(self) -> int:
        """The number of rows that are looked at."""
        return int(self.record.n_taken)

    @property
    def is_sparse(self) -> bool:
        """Whether the features are compressed rows."""
        return self.n_features is None

    def taking(self, rows: Integers) -> Rows:
        """Return some of the rows, by their numbers in the shard, in this order; nothing is copied."""
        taken = copy.copy(self)
        record = SamplesRecord.from_buffer_copy(self.record)
        record.rows, record.n_taken = rows.ctypes.data, rows.size
        taken.record, taken.reference, taken._kept = record, ctypes.byref(record), [*self._kept, rows]
        return taken


def dense_rows(
    features: NDArray,
    dtype: np.dtype,
    classes: Integers | None = None,
    weights: NDArray[np.float64] | None = None,
    mean: Floats | None = None,
    inverse: Floats | None = None,
) -> Rows:
    """Return the samples of a shard with dense features.

    Parameters
    ----------
    features : ndarray, (rows, n_features)
        C-contiguous, of a type in `STORAGE`.
    dtype : numpy.dtype
        float32 or float64: the type to compute in.
    mean, inverse : ndarray of `dtype`, (n_features,), or None
        Features are (value - mean) * inverse, each operation rounded; as they are where `inverse` is None.

    Raises
    ------
    ValueError
        Shapes or types do not fit.
    """
    n_rows, n_features = features.shape
    if not features.flags.c_contiguous or features.dtype not in STORAGE:
        raise ValueError(f"features must be C-contiguous and of a type in {[*map(str, STORAGE)]}, not {features.dtype}")
    if features.dtype == np.float64 and dtype == np.float32:
        raise ValueError("features in float64 are not computed in float32")
    if inverse is not None:
        mean = np.zeros_like(inverse) if mean is None else mean
        _check_array("mean", mean, dtype, n_features)
        _check_array("inverse", inverse, dtype, n_features)
    record = SamplesRecord(n_rows=n_rows, n_features=n_features, storage=STORAGE[features.dtype], n_taken=n_rows)
    record.values = features.ctypes.data
    if inverse is not None and mean is not None:
        record.mean, record.inverse = mean.ctypes.data, inverse.ctypes.data
    largest = _label(record, classes, weights)
    return Rows(record, [features, mean, inverse, classes, weights], n_features, dtype, largest)


def sparse_rows(
    starts: NDArray,
    indices: NDArray,
    values: Floats,
    columns: Integers,
    dtype: np.dtype,
    classes: Integers | None = None,
    weights: NDArray[np.float64] | None = None,
) -> Rows:
    """Return the samples of a shard with compressed rows.

    Parameters
    ----------
    starts : ndarray of int32 or int64, (rows + 1,)
    indices : ndarray of the same type, (n_entries,)
        Of each entry, its column among those that occur.
    values : ndarray of float32 or float64, (n_entries,)
    columns : ndarray of int64
        Of each column that occurs, its number among all.

    Raises
    ------
    ValueError
        Shapes or types do not fit.
    """
    if starts.dtype != indices.dtype or starts.dtype not in (np.int32, np.int64):
        raise ValueError(f"starts and indices must both be int32 or int64, not {starts.dtype} and {indices.dtype}")
    if values.dtype != dtype and values.dtype != np.float32:
        raise ValueError(f"values in {values.dtype} are not computed in {dtype}")
    _check_array("columns", columns, np.dtype(np.int64), columns.size)
    record = SamplesRecord(n_rows=starts.size - 1, n_features=columns.size, storage=STORAGE[values.dtype])
    record.n_taken, record.index_bytes = starts.size - 1, starts.itemsize
    for name, array in (("starts", starts), ("indices", indices), ("values", values), ("columns", columns)):
        setattr(record, name, array.ctypes.data)
    largest = _label(record, classes, weights)
    return Rows(record, [starts, indices, values, columns, classes, weights], None, dtype, largest)


def _label(record: SamplesRecord, classes: Integers | None, weights: NDArray[np.float64] | None) -> int:
    """Note the classes and weights of the rows, and return the largest class; -1 where they have none."""
    if weights is not None:
        _check_array("weights", weights, np.dtype(np.float64), record.n_rows)
        record.weights = weights.ctypes.data
    if classes is None:
        return -1
    _check_array("classes", classes, np.dtype(np.int64), record.n_rows)
    record.classes = classes.ctypes.data
    return int(classes.max(initial=0)) if classes.min(initial=0) >= 0 else -1


def _check_array(name: str, array: NDArray, dtype: np.dtype, size: int) -> None:
    if array.dtype != dtype or array.shape != (size,) or not array.flags.c_contiguous:
        raise ValueError(f"{name} must be {dtype}, contiguous, of shape ({size},), not {array.dtype} {array.shape}")
