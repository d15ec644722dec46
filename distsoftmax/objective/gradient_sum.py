"""The exact sum of the gradient over all shards: bounds known beforehand, so one Allreduce of int64 is enough.

|p - y| <= 1, so sum_i weight_i |x_ij| bounds column j of the gradient once and for all.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from distsoftmax.cluster.exact_sum import FixedPoint
from distsoftmax.objective.linear import Floats, Part
from distsoftmax.objective.softmax import Gradient

CHUNK = 1 << 15  # numbers that are scaled, rounded and added while they stay in cache


class GradientSum:
    """Gradients of shards as int64, with one power of two a column.

    Parameters
    ----------
    magnitudes : ndarray of float64, (n_features + 1,)
        The sum over all samples of weight * |feature|, and of the weights.
    n_classes : int
    by_column : bool
        The layout of a total: (n_features, n_classes), which sparse shards add to; else (n_classes, n_features).
    """

    def __init__(self, magnitudes: NDArray[np.float64], n_classes: int, *, by_column: bool) -> None:
        self._fixed = FixedPoint(magnitudes)
        self._n_features = magnitudes.size - 1
        self._n_classes = n_classes
        self._by_column = by_column
        self.size = n_classes * (self._n_features + 1)

    def add(self, gradient: Gradient, total: NDArray[np.int64]) -> bool:
        """Add a shard's gradient to a flat total of `size` numbers. False where it is not finite.

        The total is of no use then.
        """
        scale, n_classes = self._fixed.scale, self._n_classes
        with_intercept = gradient.intercept * scale[-1]
        if not np.isfinite(with_intercept).all():
            return False
        coef, intercept = self._split(total)
        intercept += np.rint(with_intercept).astype(np.int64)
        values, columns = gradient.coef.values, gradient.coef.columns
        step = max(CHUNK // max(values.shape[1], 1), 1)
        buffer = np.empty((min(step, len(values)), values.shape[1]))
        for start in range(0, len(values), step):
            run = slice(start, min(start + step, len(values)))
            of_run = buffer[: run.stop - start]
            # one factor a number is faster than one a row, where rows are short
            factors = scale[:-1] if columns is None else scale[columns[run]].repeat(n_classes).reshape(of_run.shape)
            np.multiply(values[run], factors, out=of_run)
            if not np.isfinite(np.vdot(of_run, of_run)):  # one pass; numbers below 2^62 cannot overflow
                return False
            np.rint(of_run, out=of_run)
            if columns is None:
                np.add(coef[run], of_run, out=coef[run], casting="unsafe", dtype=np.int64)
            else:
                # places in the flat array: adding whole rows by their numbers takes twice as long
                places = (columns[run, None] * n_classes + np.arange(n_classes)).ravel()
                total[places] += of_run.astype(np.int64).ravel()
        return True

    def add_stack(self, coef: Floats, intercept: NDArray[np.float64], total: NDArray[np.int64]) -> bool:
        """Add the gradients of several shards to a flat total, with few calls; see `add`.

        Parameters
        ----------
        coef : ndarray, (n_shards, n_classes, n_features)
            It is overwritten.
        intercept : ndarray of float64, (n_shards, n_classes)
        """
        if coef[0].size > CHUNK:  # one that does not stay in cache as a whole
            return all(self.add(Gradient(Part(one), other), total) for one, other in zip(coef, intercept, strict=True))
        with_intercept = intercept * self._fixed.scale[-1]
        scale = self._fixed.scale[:-1].astype(coef.dtype)
        if not np.isfinite(scale).all() or not scale.all():
            coef, scale = coef.astype(np.float64), self._fixed.scale[:-1]
        coef *= scale  # exact: by powers of two
        np.rint(coef, out=coef)
        # one pass: the sum of numbers below 2^62 is finite in any type
        if not np.isfinite(with_intercept).all() or not np.isfinite(coef.sum()):
            return False
        of_coef, of_intercept = self._split(total)
        of_coef += coef.astype(np.int64).sum(axis=0)
        of_intercept += np.rint(with_intercept).astype(np.int64).sum(axis=0)
        return True

    def value(self, total: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return a total as float64, (n_classes, n_features + 1), the intercept last."""
        coef, intercept = self._split(total)
        result = np.empty((self._n_classes, self._n_features + 1))
        result[:, :-1] = coef.T if self._by_column else coef
        result[:, -1] = intercept
        result *= self._fixed.inverse_scale
        return result

    def _split(self, total: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        coef = total[: self._n_classes * self._n_features]
        shape = (self._n_features, self._n_classes) if self._by_column else (self._n_classes, self._n_features)
        return coef.reshape(shape), total[coef.size : self.size]
