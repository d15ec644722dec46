"""The samples of a shard, as the core sees them: a record of where each array lies; nothing is copied."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distsoftmax.arithmetic.arrays import Doubles, Integers, Reals
from distsoftmax.arithmetic.library import address

STORAGE = {  # as in core/samples.h
    np.dtype(name): number
    for number, name in enumerate(["float32", "float64", "float16", "int8", "uint8", "int16", "uint16", "bool"])
}


class SamplesRecord(ctypes.Structure):
    """`samples` of core/samples.h."""

    held: Any
    _fields_ = (
        ("n_rows", ctypes.c_int64),
        ("n_features", ctypes.c_int64),
        ("storage", ctypes.c_int64),
        ("row_bytes", ctypes.c_int64),
        ("is_single", ctypes.c_int64),
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

    @classmethod
    def of(cls, arrays: dict[str, NDArray | None], **numbers: int) -> SamplesRecord:
        """Return a record of numbers, and of where arrays lie: it holds on to them."""
        record = cls(**numbers, **{name: address(array) for name, array in arrays.items() if array is not None})
        record.held = arrays
        return record


class CoreRows:
    """The samples of a shard, as the core sees them; made by `dense_rows` or `sparse_rows`.

    Attributes
    ----------
    n_rows : int
        Those that are looked at.
    n_features : int
        Of sparse rows, those that occur in them.
    is_sparse : bool
        Whether the features are compressed rows.
    dtype : numpy.dtype
        The type to compute in.
    largest_class : int
        -1 where the samples have no classes.
    reference
        To the record, as functions of the core take it.
    """

    def __init__(self, record: SamplesRecord, dtype: np.dtype, largest_class: int) -> None:
        self.n_rows, self.n_features, self.is_sparse = record.n_taken, record.n_features, bool(record.starts)
        self.dtype, self.largest_class = dtype, largest_class
        self.reference: Any = ctypes.byref(record)
        self._record = record

    def taking(self, rows: Integers) -> CoreRows:
        """Return only these rows, by their numbers in the shard, in this order; nothing is copied."""
        record = SamplesRecord.from_buffer_copy(self._record)
        record.rows, record.n_taken = address(rows), rows.size
        record.held = self._record, rows
        return CoreRows(record, self.dtype, self.largest_class)


def dense_rows(
    features: NDArray,
    dtype: np.dtype,
    classes: Integers | None = None,
    weights: Doubles | None = None,
    mean: Reals | None = None,
    inverse: Reals | None = None,
) -> CoreRows:
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
    if inverse is None:
        mean = None
    else:
        mean = np.zeros_like(inverse) if mean is None else mean
        _check_array("mean", mean, dtype, n_features)
        _check_array("inverse", inverse, dtype, n_features)
    arrays: dict[str, NDArray | None] = {
        "values": features,
        "mean": mean,
        "inverse": inverse,
        "classes": classes,
        "weights": weights,
    }
    record = SamplesRecord.of(
        arrays,
        n_rows=n_rows,
        n_taken=n_rows,
        n_features=n_features,
        storage=STORAGE[features.dtype],
        row_bytes=n_features * features.itemsize,
        is_single=dtype == np.float32,
    )
    return CoreRows(record, dtype, _largest_class(n_rows, classes, weights))


def sparse_rows(
    starts: NDArray,
    indices: NDArray,
    values: Reals,
    columns: Integers,
    dtype: np.dtype,
    classes: Integers | None = None,
    weights: Doubles | None = None,
) -> CoreRows:
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
    n_rows = starts.size - 1
    arrays: dict[str, NDArray | None] = {"starts": starts, "indices": indices, "values": values, "columns": columns}
    arrays |= {"classes": classes, "weights": weights}
    record = SamplesRecord.of(
        arrays,
        n_rows=n_rows,
        n_taken=n_rows,
        n_features=columns.size,
        storage=STORAGE[values.dtype],
        index_bytes=starts.itemsize,
    )
    return CoreRows(record, dtype, _largest_class(n_rows, classes, weights))


def _largest_class(n_rows: int, classes: Integers | None, weights: Doubles | None) -> int:
    """Check the classes and weights of the rows, and return the largest class; -1 where they have none."""
    if weights is not None:
        _check_array("weights", weights, np.dtype(np.float64), n_rows)
    if classes is None:
        return -1
    _check_array("classes", classes, np.dtype(np.int64), n_rows)
    return int(classes.max(initial=0)) if classes.min(initial=0) >= 0 else -1


def _check_array(name: str, array: NDArray, dtype: np.dtype, size: int) -> None:
    if array.dtype != dtype or array.shape != (size,) or not array.flags.c_contiguous:
        raise ValueError(f"{name} must be {dtype}, contiguous, of shape ({size},), not {array.dtype} {array.shape}")
