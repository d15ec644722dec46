"""What the core computes from the samples of a shard: loss, gradient, probabilities, products with the hessian.

Conventions
-----------
features    (rows, n_features), C-contiguous, of a type in `STORAGE`; or the entries of compressed rows
classes     (rows,) int64, the class of each sample, 0 ... n_classes - 1
weights     (rows,) float64 or None, the weight of each sample; None: 1
parameters  (n_classes, n_features + 1) float64, the intercept last
loss        float64, the sum over samples of weight * cross-entropy
gradient    of that sum, (n_classes, n_features + 1); as integers in `Sums`

Derivation
----------
For one sample with scores z = coef x + intercept and class y, p = softmax(z):

    loss       = log sum_k exp(z_k) - z_y
    dloss/dz_k = exp(z_k) / sum_l exp(z_l) - [k = y] = p_k - [k = y]
    dloss/dcoef = (p - e_y) x^T,   dloss/dintercept = p - e_y

and along a direction v with u = v (x, 1), the derivative of p_k is p_k (u_k - sum_l p_l u_l): the hessian's product
with v is the sum of that times (x, 1)^T.

SPECIFICATION.md has the sequence of operations of each. None of the calls is collective; all of them let other threads
run.
"""

from __future__ import annotations

import copy
import ctypes
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distsoftmax.arithmetic import library
from distsoftmax.arithmetic.fixed_point import FixedPoint

Floats = NDArray[np.floating]
Integers = NDArray[np.int64]

STORAGE = {  # as in core/samples.h
    name: number
    for number, name in enumerate(["float32", "float64", "float16", "int8", "uint8", "int16", "uint16", "bool"])
}
FINE, NOT_FINITE = 0, 1  # what a kernel returns, as in core/samples.h; else it lacked memory
NARROW = 8  # classes, up to which a core with long registers has kernels of its own
CHAINS = 16  # of a sum over classes


class _Samples(ctypes.Structure):
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


class _Scorer(ctypes.Structure):
    _fields_ = (
        ("n_classes", ctypes.c_int64),
        ("n_features", ctypes.c_int64),
        ("coef", ctypes.c_void_p),
        ("intercept", ctypes.c_void_p),
    )


class _Totals(ctypes.Structure):
    _fields_ = (
        ("scale", ctypes.c_void_p),
        ("intercept_scale", ctypes.c_double),
        ("loss_scale", ctypes.c_double),
        ("coef", ctypes.c_void_p),
        ("intercept", ctypes.c_void_p),
        ("loss", ctypes.c_void_p),
    )


def padded(n_classes: int) -> int:
    """Return how many numbers a row of scores takes in the core."""
    return NARROW if n_classes <= NARROW else -(-n_classes // CHAINS) * CHAINS


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
    """

    def __init__(
        self, record: _Samples, kept: list[Any], n_features: int | None, dtype: np.dtype, largest: int
    ) -> None:
        self._record = record
        self._kept = kept  # the arrays that the record points into
        self._largest_class = largest
        self.n_features = n_features
        self.dtype = dtype

    @property
    def n_rows(self) -> int:
        """The number of rows that are looked at."""
        return int(self._record.n_taken)

    @property
    def is_sparse(self) -> bool:
        """Whether the features are compressed rows."""
        return self.n_features is None

    def taking(self, rows: Integers) -> Rows:
        """Return some of the rows, by their numbers in the shard, in this order; nothing is copied."""
        taken = copy.copy(self)
        record = _Samples.from_buffer_copy(self._record)
        record.rows, record.n_taken = rows.ctypes.data, rows.size
        taken._record, taken._kept = record, [*self._kept, rows]
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
    if not features.flags.c_contiguous or features.dtype.name not in STORAGE:
        raise ValueError(f"features must be C-contiguous and of a type in {list(STORAGE)}, not {features.dtype}")
    if features.dtype == np.float64 and dtype == np.float32:
        raise ValueError("features in float64 are not computed in float32")
    if inverse is not None:
        mean = np.zeros_like(inverse) if mean is None else mean
        _check_array("mean", mean, dtype, n_features)
        _check_array("inverse", inverse, dtype, n_features)
    record = _Samples(n_rows=n_rows, n_features=n_features, storage=STORAGE[features.dtype.name], n_taken=n_rows)
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
    record = _Samples(n_rows=starts.size - 1, n_features=columns.size, storage=STORAGE[values.dtype.name])
    record.n_taken, record.index_bytes = starts.size - 1, starts.itemsize
    for name, array in (("starts", starts), ("indices", indices), ("values", values), ("columns", columns)):
        setattr(record, name, array.ctypes.data)
    largest = _label(record, classes, weights)
    return Rows(record, [starts, indices, values, columns, classes, weights], None, dtype, largest)


@dataclass(frozen=True)
class Sums:
    """Losses and gradients of shards as one array of int64, which any order of additions sums to the same bits.

    The array holds the gradient of coef, that of the intercepts, the loss in two limbs, and the number of shards whose
    numbers were not finite, or larger than their bounds.

    Attributes
    ----------
    gradient : FixedPoint
        Of the sum over all samples of weight * magnitude of each feature, and of the weights: (n_features + 1,). As
        |p - y| <= 1, they bound every gradient once and for all.
    loss : FixedPoint
        Of a bound on the sum of the losses.
    n_classes : int
    by_column : bool
        The layout of coef: (n_features, n_classes), as sparse shards need it; else (n_classes, n_features).
    """

    gradient: FixedPoint
    loss: FixedPoint
    n_classes: int
    by_column: bool

    @property
    def n_features(self) -> int:
        """The number of features."""
        return self.gradient.scale.size - 1

    def empty(self) -> Integers:
        """Return the sum of no shard."""
        return np.zeros(self.n_classes * (self.n_features + 1) + 3, dtype=np.int64)

    def value(self, array: Integers) -> tuple[float, NDArray[np.float64]] | None:
        """Return the loss, and the gradient (n_classes, n_features + 1); None where a shard was not finite.

        Each integer is rounded to float64 once, and multiplied by a power of two.
        """
        if array[-1]:
            return None
        n_coef = self.n_classes * self.n_features
        coef = array[:n_coef].reshape((-1, self.n_classes) if self.by_column else (self.n_classes, -1))
        gradient = np.empty((self.n_classes, self.n_features + 1))
        gradient[:, :-1] = coef.T if self.by_column else coef
        gradient[:, -1] = array[n_coef:-3]
        gradient *= self.gradient.inverse_scale
        return float(self.loss.value(array[-3], array[-2])), gradient

    def _record(self, array: Integers) -> _Totals:
        n_coef, start = self.n_classes * self.n_features, array.ctypes.data
        return _Totals(
            self.gradient.scale.ctypes.data,
            float(self.gradient.scale[-1]),
            float(self.loss.scale),
            start,
            start + 8 * n_coef,
            start + 8 * (n_coef + self.n_classes),
        )


class _Packed:
    """Parameters, packed for the core; never changed, so threads may share them."""

    BEYOND = 0.0  # the intercept where a row of scores goes on beyond the classes

    def __init__(self, parameters: NDArray[np.float64], dtype: np.dtype, *, sparse: bool) -> None:
        parameters = np.ascontiguousarray(parameters, dtype=np.float64)
        self.n_classes, self.n_features = parameters.shape[0], parameters.shape[1] - 1
        self.dtype, self.is_sparse = np.dtype(dtype), sparse
        width = -(-self.n_classes // 4) * 4 if sparse else padded(self.n_classes)
        self._coef = np.empty(width * self.n_features, dtype=dtype)
        self._intercept = np.empty(padded(self.n_classes), dtype=dtype)
        self._function("pack")(
            *(ctypes.c_int64(number) for number in (self.n_classes, self.n_features, sparse)),
            ctypes.c_void_p(parameters.ctypes.data),
            ctypes.c_double(self.BEYOND),
            *(ctypes.c_void_p(array.ctypes.data) for array in (self._coef, self._intercept)),
        )
        self._record = _Scorer(self.n_classes, self.n_features, self._coef.ctypes.data, self._intercept.ctypes.data)

    def _check(self, rows: Rows, sums: Sums | None = None, *, labelled: bool = False) -> None:
        if rows.dtype != self.dtype or rows.is_sparse != self.is_sparse:
            raise ValueError(f"rows to compute in {rows.dtype} and parameters in {self.dtype}, or of another kind")
        if not rows.is_sparse and rows.n_features != self.n_features:
            raise ValueError(f"rows of {rows.n_features} features and parameters of {self.n_features}")
        if labelled and not 0 <= rows._largest_class < self.n_classes and rows.n_rows:
            raise ValueError(f"classes must be from 0 to {self.n_classes - 1}")
        if sums is not None and (sums.n_classes, sums.n_features, sums.by_column) != (
            self.n_classes,
            self.n_features,
            self.is_sparse,
        ):
            raise ValueError("the sums are of another shape")

    def _function(self, name: str) -> Any:
        core, suffix = library.core(), "f32" if self.dtype == np.float32 else "f64"
        if suffix == "f32" and self.n_classes <= NARROW and hasattr(core, f"ds_{name}_f32_narrow"):
            suffix = "f32_narrow"
        return getattr(core, f"ds_{name}_{suffix}")

    def _call(self, name: str, *arguments: Any) -> int:
        """Call a kernel; return whether its numbers were not finite."""
        references = (
            ctypes.byref(value) if isinstance(value, (ctypes.Structure, ctypes.c_double)) else value
            for value in arguments
        )
        status = int(self._function(name)(*references))
        if status not in (FINE, NOT_FINITE):
            raise MemoryError("there is no memory for the work on a shard; cut the data finer with --shards")
        return status


class Scorer(_Packed):
    """Parameters that score samples.

    Parameters
    ----------
    parameters : ndarray of float64, (n_classes, n_features + 1)
        Rounded to `dtype`.
    dtype : numpy.dtype
        float32 or float64: the type to compute in.
    sparse : bool
        Whether it scores compressed rows.
    """

    BEYOND = -math.inf

    def add_loss_and_gradient(self, rows: Rows, sums: Sums, array: Integers) -> None:
        """Add the loss of samples and its gradient to an array of `sums`."""
        self._check(rows, sums, labelled=True)
        record = sums._record(array)
        array[-1] += self._call("loss_and_gradient", self._record, rows._record, record)

    def loss_and_prediction(self, rows: Rows) -> tuple[float, Integers]:
        """Return the sum of the losses, unweighted, and the class of the largest score of each sample, (rows,)."""
        self._check(rows, labelled=True)
        loss, predicted = ctypes.c_double(), np.empty(rows.n_rows, dtype=np.int64)
        where = ctypes.c_void_p(predicted.ctypes.data)
        self._call("loss_and_prediction", self._record, rows._record, loss, where)
        return loss.value, predicted

    def probabilities(self, rows: Rows) -> Floats:
        """Return the probability of each class for each sample, (rows, n_classes), in the type computed in."""
        return self._probabilities(rows, self.n_classes)

    def padded_probabilities(self, rows: Rows) -> Floats:
        """Return the same for `add_hessian_product`: (rows, padded(n_classes)), the rest 0."""
        return self._probabilities(rows, padded(self.n_classes))

    def intercept_hessian(self, rows: Rows) -> NDArray[np.float64]:
        """Return the sum over samples of weight * (diag(p) - p p^T), (n_classes, n_classes)."""
        self._check(rows)
        hessian = np.empty((self.n_classes, self.n_classes))
        self._call("intercept_hessian", self._record, rows._record, ctypes.c_void_p(hessian.ctypes.data))
        return hessian

    def _probabilities(self, rows: Rows, width: int) -> Floats:
        self._check(rows)
        result: Floats = np.empty((rows.n_rows, width), dtype=self.dtype)
        where = ctypes.c_void_p(result.ctypes.data)
        self._call("probabilities", self._record, rows._record, where, ctypes.c_int64(width))
        return result


class Direction(_Packed):
    """A direction in the parameters' space, which the hessian is multiplied with; see `Scorer`."""

    def add_hessian_product(self, at: Scorer, kept: Floats | None, rows: Rows, sums: Sums, array: Integers) -> None:
        """Add the product of the loss's hessian at a point with the direction to an array of `sums`.

        Parameters
        ----------
        at : Scorer
            The point.
        kept : ndarray or None
            The samples' `padded_probabilities` at the point, where they are at hand.
        """
        self._check(rows, sums)
        probabilities = None if kept is None else ctypes.c_void_p(kept.ctypes.data)
        record = sums._record(array)
        array[-1] += self._call("hessian_product", self._record, at._record, probabilities, rows._record, record)


def _label(record: _Samples, classes: Integers | None, weights: NDArray[np.float64] | None) -> int:
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
