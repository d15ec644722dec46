"""What the core computes from the samples of a shard: loss, gradient, probabilities, products with the hessian.

Conventions
-----------
features    (rows, n_features), C-contiguous, of a type in `samples.STORAGE`; or the entries of compressed rows
classes     (rows,) int64, the class of each sample, 0 ... n_classes - 1
weights     (rows,) float64 or None, the weight of each sample; None: 1
parameters  (n_classes, n_features + 1) float64, the intercept last
loss        float64, the sum over samples of weight * cross-entropy
gradient    of that sum, (n_classes, n_features + 1); as integers in `Sums`

`objective/__init__.py` derives the gradient and the hessian; SPECIFICATION.md has the sequence of operations of each.
None of the calls is collective; all of them let other threads run.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np

from distsoftmax.arithmetic.arrays import Doubles, Integers, Reals
from distsoftmax.arithmetic.library import address, core, function
from distsoftmax.arithmetic.samples import CoreRows
from distsoftmax.arithmetic.sums import Totals

FINE, NOT_FINITE = 0, 1  # what a kernel returns, as in core/samples.h; else it lacked memory
NARROW = 8  # classes, up to which a core with long registers has kernels of its own
CHAINS = 16  # of a sum over classes


class _Scorer(ctypes.Structure):
    _fields_ = (
        ("n_classes", ctypes.c_int64),
        ("n_features", ctypes.c_int64),
        ("coef", ctypes.c_void_p),
        ("intercept", ctypes.c_void_p),
    )


def padded(n_classes: int) -> int:
    """Return how many numbers a row of scores takes in the core."""
    return NARROW if n_classes <= NARROW else -(-n_classes // CHAINS) * CHAINS


class _Packed:
    """Parameters, packed for the core; never changed, so threads may share them."""

    BEYOND = 0.0  # the intercept where a row of scores goes on beyond the classes

    def __init__(self, parameters: Doubles, dtype: np.dtype, *, sparse: bool) -> None:
        parameters = np.ascontiguousarray(parameters, dtype=np.float64)
        self.n_classes, self.n_features = parameters.shape[0], parameters.shape[1] - 1
        self.dtype, self.is_sparse = np.dtype(dtype), sparse
        self._shape_of_sums = self.n_classes, self.n_features, sparse
        self._suffix = "f32" if self.dtype == np.float32 else "f64"
        if self._suffix == "f32" and self.n_classes <= NARROW and hasattr(core(), "ds_pack_f32_narrow"):
            self._suffix = "f32_narrow"
        width = -(-self.n_classes // 4) * 4 if sparse else padded(self.n_classes)
        self._coef = np.empty(width * self.n_features, dtype=dtype)
        self._intercept = np.empty(padded(self.n_classes), dtype=dtype)
        numbers = self.n_classes, self.n_features, sparse
        arrays = address(self._coef), address(self._intercept)
        self._call("pack", "nnnpxpp", *numbers, address(parameters), self.BEYOND, *arrays)
        record = _Scorer(self.n_classes, self.n_features, *arrays)
        self._reference = ctypes.byref(record)

    def _check(self, rows: CoreRows, totals: Totals | None = None, *, labelled: bool = False) -> None:
        if rows.dtype != self.dtype or rows.is_sparse != self.is_sparse:
            raise ValueError(f"rows to compute in {rows.dtype} and parameters in {self.dtype}, or of another kind")
        if not rows.is_sparse and rows.n_features != self.n_features:
            raise ValueError(f"rows of {rows.n_features} features and parameters of {self.n_features}")
        if labelled and not 0 <= rows.largest_class < self.n_classes and rows.n_rows:
            raise ValueError(f"classes must be from 0 to {self.n_classes - 1}")
        if totals is not None and totals.shape != self._shape_of_sums:
            raise ValueError("the sums are of another shape")

    def _call(self, name: str, parameters: str, *arguments: Any) -> int:
        """Call a kernel, whose parameters are as in `library.function`; return whether a number was not finite."""
        status: int = function(f"ds_{name}_{self._suffix}", parameters, "i")(*arguments)
        if status not in (FINE, NOT_FINITE):
            raise MemoryError("there is no memory for the work on a shard; cut the data finer with --shards")
        return status

    def _add(self, totals: Totals, name: str, parameters: str, *arguments: Any) -> None:
        """Call a kernel that adds to totals, which are its last argument."""
        if self._call(name, parameters, *arguments, totals.reference) == NOT_FINITE:
            totals.array[-1] += 1


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

    def add_loss_and_gradient(self, rows: CoreRows, totals: Totals) -> None:
        """Add the loss of samples and its gradient to totals."""
        self._check(rows, totals, labelled=True)
        self._add(totals, "loss_and_gradient", "ppp", self._reference, rows.reference)

    def loss_and_prediction(self, rows: CoreRows) -> tuple[float, Integers]:
        """Return the sum of the losses, unweighted, and the class of the largest score of each sample, (rows,)."""
        self._check(rows, labelled=True)
        loss, predicted = ctypes.c_double(), np.empty(rows.n_rows, dtype=np.int64)
        to = ctypes.byref(loss), address(predicted)
        self._call("loss_and_prediction", "pppp", self._reference, rows.reference, *to)
        return loss.value, predicted

    def probabilities(self, rows: CoreRows) -> Reals:
        """Return the probability of each class for each sample, (rows, n_classes), in the type computed in."""
        return self._probabilities(rows, self.n_classes)

    def padded_probabilities(self, rows: CoreRows) -> Reals:
        """Return the same for `add_hessian_product`: (rows, padded(n_classes)), the rest 0."""
        return self._probabilities(rows, padded(self.n_classes))

    def intercept_hessian(self, rows: CoreRows) -> Doubles:
        """Return the sum over samples of weight * (diag(p) - p p^T), (n_classes, n_classes)."""
        self._check(rows)
        hessian = np.empty((self.n_classes, self.n_classes))
        self._call("intercept_hessian", "ppp", self._reference, rows.reference, address(hessian))
        return hessian

    def _probabilities(self, rows: CoreRows, width: int) -> Reals:
        self._check(rows)
        result: Reals = np.empty((rows.n_rows, width), dtype=self.dtype)
        self._call("probabilities", "pppn", self._reference, rows.reference, address(result), width)
        return result


class Direction(_Packed):
    """A direction in the parameters' space, which the hessian is multiplied with; see `Scorer`."""

    def add_hessian_product(self, at: Scorer, kept: Reals | None, rows: CoreRows, totals: Totals) -> None:
        """Add the product of the loss's hessian at a point with the direction to totals.

        Parameters
        ----------
        at : Scorer
            The point.
        kept : ndarray or None
            The samples' `padded_probabilities` at the point, where they are at hand.
        """
        self._check(rows, totals)
        probabilities = None if kept is None else address(kept)
        self._add(totals, "hessian_product", "ppppp", self._reference, at._reference, probabilities, rows.reference)
