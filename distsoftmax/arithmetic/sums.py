"""Losses and gradients of shards as integers, which any order of additions sums to the same bits."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np

from distsoftmax.arithmetic.arrays import Doubles, Integers
from distsoftmax.arithmetic.fixed_point import FixedPoint
from distsoftmax.arithmetic.library import address


class TotalsRecord(ctypes.Structure):
    """`totals` of core/samples.h."""

    _fields_ = (
        ("scale", ctypes.c_void_p),
        ("intercept_scale", ctypes.c_double),
        ("loss_scale", ctypes.c_double),
        ("coef", ctypes.c_void_p),
        ("intercept", ctypes.c_void_p),
        ("loss", ctypes.c_void_p),
    )


class Totals:
    """A sum of shards in the making: an array of `Sums`, to which the core adds.

    Attributes
    ----------
    array : ndarray of int64
        See `Sums`.
    shape : tuple
        n_classes, n_features and by_column of the sums.
    reference
        To the record of it, as functions of the core take it.
    """

    def __init__(self, sums: Sums) -> None:
        self.shape = sums.n_classes, sums.n_features, sums.by_column
        n_coef = sums.n_classes * sums.n_features
        self.array = np.zeros(n_coef + sums.n_classes + 3, dtype=np.int64)
        self._scale = sums.gradient.scale  # the record points into it
        start = address(self.array)
        record = TotalsRecord(
            address(self._scale),
            float(self._scale[-1]),
            float(sums.loss.scale),
            start,
            start + 8 * n_coef,
            start + 8 * (n_coef + sums.n_classes),
        )
        self.reference: Any = ctypes.byref(record)


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

    def empty(self) -> Totals:
        """Return the sum of no shard."""
        return Totals(self)

    def value(self, array: Integers) -> tuple[float, Doubles] | None:
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
        return float(self.loss.value(array[-3:-1])), gradient
