"""Models of the hessian made of a sample of the rows, whose inverses precondition the solvers.

    hessian = mean_i (diag(p_i) - p_i p_i^T) (x) (x_i, 1)(x_i, 1)^T + l2 D

in units of their own (`OwnUnits`), where the penalty is a diagonal matrix D: not 1, and 0 for the intercept. Where
features have an offset, a small change of coef goes with a large one of the intercept; one that is held back holds back
both.

- `SampleHessian` is this mean over the sampled rows as it stands, factorised.
- `KroneckerHessian` replaces it by a Kronecker product B (x) A of B = mean_i diag(p_i) - p_i p_i^T and
  A = mean_i (x_i, 1)(x_i, 1)^T, and B (x) A + l2 D by (B + sqrt(l2) / pi) (x) (A + pi sqrt(l2) D), whose factors are
  inverted each alone (J. Martens and R. Grosse, "Optimizing neural networks with Kronecker-factored approximate
  curvature", ICML 2015, section 6.3; pi there balances the traces). It takes as many steps as the exact inverse of
  B (x) A + l2 D, which needs eigenvectors.

Features that occur in few rows may be missing from a sample, and a model without their curvature would send steps far
too long; what the sample lacks of each feature's mean square is added on the diagonal.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distsoftmax.arithmetic.arrays import Doubles, Reals, Singles
from distsoftmax.arithmetic.kernels import Scorer
from distsoftmax.arithmetic.parameters import (
    cholesky,
    cholesky_solve,
    gram,
    inverse,
    matrix_vector,
    product,
    row_blocks,
    softmax_hessian,
    total,
)
from distsoftmax.arithmetic.samples import dense_rows
from distsoftmax.solvers.protocol import HessianModel, Preconditioner

DAMPINGS = (1e-9, 1e-6, 1e-3, 1.0)  # tried in turn, times the diagonal: the first is mostly above float64's rounding
UNPENALISED = 1e-3  # times the mean diagonal, stands for l2 = 0: without it, Newton's step may be far too long
LEAST_CURVATURE = 1e-12  # added to every curvature, times the mean
LARGEST_PENALTY = 1e200  # of a column that is next to nothing: finite, as are its products
CONSTANT = 1e-24  # a column is constant, up to rounding, if its variance is below this part of its mean square
ROUNDING = 1e-6  # the least damping, times the trace: above the rounding of float32
TINY = float(np.finfo(np.float64).tiny)  # the least trace, which is divided by, and the least mean curvature
ROWS_AT_ONCE = 1024  # rows whose sum is taken in float32, before it is added in float64


class OwnUnits:
    """Sampled rows in units in which no column is larger than another, or far from 0, and what that makes of the rest.

    With the columns' means m and deviations s these are (x - m) / s. A score is the same with coefficients s coef and
    intercept + <m, coef>: whatever m and s are, nothing is lost, and rounding and damping leave small curvatures what
    they are.

    Parameters
    ----------
    rows : ndarray of float32 or float64, (n_rows, n_features + 1)
        The last column holds ones, or zeros where no intercept is fitted.
    weights : ndarray of float64, (n_rows,)
        Their sum is 1.
    missing : ndarray of float64, (n_features + 1,)
        What the rows lack of each feature's mean square.
    intercept : bool
        Whether one is fitted; else no column is shifted.
    dtype : numpy.dtype, optional
        Of the result; that of the rows by default.

    Attributes
    ----------
    rows : ndarray, (n_rows, n_features + 1)
    missing : ndarray of float64, (n_features + 1,)
    penalty : ndarray of float64, (n_features + 1,)
        The curvature of an L2 term of weight 1.
    unit : ndarray of float64, (n_features + 1,)
        What coef is multiplied by.
    """

    def __init__(
        self, rows: Reals, weights: Doubles, missing: Doubles, *, intercept: bool, dtype: np.dtype | None = None
    ) -> None:
        dtype, largest = dtype or rows.dtype, max(float(rows.max()), -float(rows.min())) or 1.0
        own: Reals = np.divide(rows, largest, dtype=dtype)  # so that squares stay within float32
        of_rows = weights.astype(dtype)[None, :]
        mean, squares = (product(of_rows, a)[0].astype(np.float64) for a in (own, own * own))
        mean[-1 if intercept else slice(None)] = 0.0
        own -= mean.astype(dtype)
        variances = product(of_rows, own * own)[0].astype(np.float64)
        squares = np.maximum(variances + missing / largest / largest, CONSTANT * squares)
        squares[squares == 0] = 1.0
        deviation = np.sqrt(squares)
        own /= deviation.astype(dtype)
        self.rows = own
        self.missing = missing / largest / largest / squares
        self._mean, self._deviation = mean * largest, deviation * largest
        self.unit = self._deviation
        self.penalty = np.minimum(1 / self._deviation / self._deviation, LARGEST_PENALTY)
        if intercept:
            self.penalty[-1] = 0.0

    def parameters(self, parameters: Doubles) -> Doubles:
        """Return parameters in these units."""
        own: Doubles = parameters * self._deviation
        own[:, -1] += matrix_vector(parameters, self._mean)
        return own

    def gradient(self, gradient: Doubles) -> Doubles:
        """Return a gradient in these units."""
        own: Doubles = (gradient - gradient[:, -1:] * self._mean) / self._deviation
        return own

    def gradient_of(self, own: Doubles) -> Doubles:
        """Return a gradient in these units in those of the parameters."""
        gradient: Doubles = own * self._deviation + own[:, -1:] * self._mean
        return gradient

    def step(self, own: Doubles) -> Doubles:
        """Return a step in these units in those of the parameters."""
        step: Doubles = own / self._deviation
        step[:, -1] -= matrix_vector(step, self._mean)
        return step


class SampleHessian:
    """The hessian of the sampled rows, computed and inverted in units of their own; parameters as of `OwnUnits`."""

    def __init__(self, rows: NDArray, weights: Doubles, missing: Doubles, *, intercept: bool) -> None:
        self.units = OwnUnits(rows, weights, missing, intercept=intercept, dtype=np.dtype(np.float64))
        self._weights, self._intercept = weights, intercept

    def __call__(self, parameters: Doubles, l2: float) -> Preconditioner:
        """Return the inverse at a point, of the hessian with an L2 term of this weight."""
        units = self.units
        hessian, mean = self._whole(parameters)
        diagonal = np.diag_indices(len(hessian))
        penalty = l2 * units.penalty if l2 else UNPENALISED * mean * (units.penalty > 0)
        hessian[diagonal] += np.tile(penalty, len(parameters)) + LEAST_CURVATURE * max(mean, TINY)
        for damping in DAMPINGS:
            hessian[diagonal] += damping * np.abs(hessian[diagonal])
            factor = cholesky(hessian)
            if factor is not None:
                break
        else:
            return np.copy  # a hessian that is not finite tells nothing

        def apply(gradient: Doubles) -> Doubles:
            own = cholesky_solve(factor, units.gradient(gradient).ravel())
            return units.step(own.reshape(gradient.shape))

        return apply

    def model(self, parameters: Doubles, l2: float) -> HessianModel:
        """Return the hessian at a point, with an L2 term of this weight."""
        hessian, mean = self._whole(parameters)
        hessian[np.diag_indices(len(hessian))] += np.tile(l2 * self.units.penalty, len(parameters))
        return HessianModel(hessian, max(mean, TINY), self.units)

    def _whole(self, parameters: Doubles) -> tuple[Doubles, float]:
        """Return the hessian of the data fit with what it lacks, and the mean of its diagonal before that.

        That all intercepts rise together changes nothing: that direction has the mean curvature of the others.
        """
        n_classes, width = parameters.shape
        hessian = self._hessian(self.units.parameters(parameters))
        mean = total(hessian[np.diag_indices(len(hessian))]) / len(hessian)
        if self._intercept:
            intercepts = hessian[width - 1 :: width, width - 1 :: width]
            intercepts += total(np.diagonal(intercepts)) / (n_classes * n_classes)
        return hessian, mean

    def _hessian(self, parameters: Doubles) -> Doubles:
        """Return the mean over the rows, (n_classes * width, n_classes * width), with what they lack."""
        rows = self.units.rows
        probabilities = _probabilities(rows, parameters)
        hessian = softmax_hessian(rows, probabilities, self._weights)
        spread = matrix_vector((probabilities * (1 - probabilities)).T, self._weights)
        hessian[np.diag_indices(len(hessian))] += np.outer(spread, self.units.missing).ravel()
        return hessian


class KroneckerHessian:
    """The Kronecker product of two means over the sampled rows, in units of their own; parameters as of `OwnUnits`."""

    def __init__(self, rows: NDArray, weights: Doubles, missing: Doubles, *, intercept: bool) -> None:
        self.units = OwnUnits(rows, weights, missing, intercept=intercept)
        self._rows, self._weights = self.units.rows.astype(np.float32, copy=False), weights.astype(np.float32)
        self._of_features = _gram(self._rows, self._weights)
        self._of_features[np.diag_indices(len(missing))] += self.units.missing
        self._inverse: tuple[float, float, Singles | None] = (0.0, 0.0, None)

    def __call__(self, parameters: Doubles, l2: float) -> Preconditioner:
        """Return the inverse at a point, of the hessian with an L2 term of this weight."""
        units, of_features = self.units, self._of_features
        of_classes = self._between_classes(units.parameters(parameters))
        of_features_trace, of_classes_trace = _trace(of_features), _trace(of_classes)
        of_class = of_classes_trace / len(of_classes)
        is_penalised = units.penalty > 0
        penalty = units.penalty if l2 else np.where(is_penalised, 1.0, 0.0)
        # by the mean of the inverses: a column that hardly varies has a large penalty here, and counts for little
        of_feature = of_features_trace / len(of_features)
        if is_penalised.any():
            of_feature *= total(1 / penalty[is_penalised]) / int(np.count_nonzero(is_penalised))
        strength = math.sqrt(l2 or UNPENALISED * (of_feature * of_class))
        # pi, but rounded to a power of 2, so that the features' factor is seldom inverted anew
        balance = math.ldexp(1.0, math.frexp(of_feature / of_class)[1] // 2)
        if self._inverse[0] != balance * strength:
            dampings = np.maximum(balance * strength * penalty, ROUNDING * of_features_trace)
            scale = float(dampings.min())
            dampings[~is_penalised] = 0.0
            self._inverse = balance * strength, scale, _damped_inverse(of_features, dampings, scale)
        _, features_scale, features_inverse = self._inverse
        classes_damping = max(strength / balance, ROUNDING * of_classes_trace)
        classes_inverse = _damped_inverse(of_classes, np.full(len(of_classes), classes_damping), classes_damping)
        if features_inverse is None or classes_inverse is None:
            return np.copy  # what is not finite tells nothing

        def apply(gradient: Doubles) -> Doubles:
            own = units.gradient(gradient)
            scale = float(np.abs(own).max()) or 1.0  # float32 has no room for the small gradients of the end
            rotated = product((own / scale).astype(np.float32), features_inverse)
            result: Doubles = product(classes_inverse, rotated).astype(np.float64)
            result *= scale / features_scale / classes_damping
            return units.step(result)

        return apply

    def _between_classes(self, parameters: Doubles) -> Doubles:
        """Return the mean of diag(p) - p p^T, (n_classes, n_classes): each row's sum is 0, so nothing cancels."""
        probabilities = _probabilities(self._rows, parameters)
        between = _gram(probabilities, self._weights)
        diagonal = np.diag_indices(len(between))
        between[diagonal] = 0.0
        sums = matrix_vector(between, np.ones(len(between)))
        between = -between
        between[diagonal] = sums
        return between


def _gram(rows: Singles, weights: Singles) -> Doubles:
    """Return rows^T diag(weights) rows: sums of `ROWS_AT_ONCE` rows in float32, and of these in order in float64."""
    result = np.zeros((rows.shape[1], rows.shape[1]))
    for block in row_blocks(rows, ROWS_AT_ONCE * rows.shape[1]):
        result += gram(rows[block], weights[block])
    return result


def _damped_inverse(matrix: Doubles, dampings: Doubles, scale: float) -> Singles | None:
    """Return scale * (matrix + diag(dampings))^-1; None where the matrix is not finite."""
    for factor in (1.0, 1e3, 1e6):  # more than once only where rounding has made curvatures negative
        damped = matrix.copy()
        damped[np.diag_indices(len(damped))] += factor * dampings
        root = cholesky(damped)
        if root is not None:
            return (scale * inverse(root)).astype(np.float32)
    return None


def _trace(matrix: Doubles) -> float:
    return max(total(np.diagonal(matrix)), TINY)


def _probabilities(rows: NDArray[Any], parameters: Doubles) -> NDArray[Any]:
    """Return softmax(rows @ parameters.T), (n_rows, n_classes), in the rows' type.

    The last column is a feature like the others, and there is no intercept beside it.
    """
    without = np.column_stack([parameters, np.zeros(len(parameters))])
    return Scorer(without, rows.dtype, sparse=False).probabilities(dense_rows(rows, rows.dtype))
