"""Models of the hessian made of a sample of the rows, whose inverses precondition the solvers.

    hessian = mean_i (diag(p_i) - p_i p_i^T) (x) (x_i, 1)(x_i, 1)^T + l2

- `SampleHessian` is this mean over the sampled rows as it stands, factorised.
- `KroneckerHessian` replaces it by a Kronecker product B (x) A of B = mean_i diag(p_i) - p_i p_i^T and
  A = mean_i (x_i, 1)(x_i, 1)^T, and B (x) A + l2 by (B + sqrt(l2) / pi) (x) (A + pi sqrt(l2)), whose factors are
  inverted each alone (J. Martens and R. Grosse, "Optimizing neural networks with Kronecker-factored approximate
  curvature", ICML 2015, section 6.3; pi there balances the traces). It takes as many steps as the exact inverse of
  B (x) A + l2, which needs eigenvectors.

l2 stands for coefficients alone: the intercept is not penalised. Where features have an offset, a small change of coef
goes with a large one of the intercept, and an intercept that is held back holds back both.

Features that occur in few rows may be missing from a sample, and a model without their curvature would send steps far
too long; what the sample lacks of each feature's mean square is added on the diagonal.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distsoftmax.arithmetic.arrays import Doubles, Singles
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
from distsoftmax.solvers.protocol import Preconditioner

DAMPINGS = (1e-9, 1e-6, 1e-3, 1.0)  # tried in turn, times the diagonal: the first is mostly above float64's rounding
UNPENALISED = 1e-3  # times the mean diagonal, stands for l2 = 0: without it, Newton's step may be far too long
LEAST_CURVATURE = 1e-12  # added to every curvature, times the mean
CONSTANT = 1e-24  # a column is constant, up to rounding, if its variance is below this part of its mean square
ROUNDING = 1e-6  # the least damping, times the trace: above the rounding of float32
TINY = float(np.finfo(np.float64).tiny)  # the least trace and the least largest curvature: both are divided by
ROWS_AT_ONCE = 1024  # rows whose sum is taken in float32, before it is added in float64


class SampleHessian:
    """The hessian of the sampled rows.

    It is computed and inverted in units of its own, in which no column is larger than another or far from 0, so that
    rounding and damping leave small curvatures what they are: with the columns' means m and deviations s, of
    (x - m) / s. A score is the same with coefficients s coef and intercept + <m, coef>; whatever m and s are, nothing
    is lost.

    Parameters
    ----------
    rows : ndarray, (n_rows, n_features + 1)
        The last column holds ones.
    weights : ndarray of float64, (n_rows,)
        Their sum is 1.
    missing : ndarray of float64, (n_features + 1,)
        What the rows lack of each feature's mean square.
    intercept : bool
        Whether one is fitted; else that column of the rows holds zeros.
    """

    def __init__(self, rows: Doubles, weights: Doubles, missing: Doubles, *, intercept: bool) -> None:
        rows = np.ascontiguousarray(rows, dtype=np.float64)
        self._weights, self._intercept = weights, intercept
        self._mean = matrix_vector(rows.T, weights) if intercept else np.zeros(len(missing))
        self._mean[-1] = 0.0
        squares, centred = _mean_squares(rows, weights), rows - self._mean
        squares = np.maximum(_mean_squares(centred, weights) + missing, CONSTANT * squares)
        squares[squares == 0] = 1.0
        self._deviation = np.sqrt(squares)
        self._rows, self._missing = centred / self._deviation, missing / squares

    def __call__(self, parameters: Doubles, l2: float) -> Preconditioner:
        """Return the inverse at a point, of the hessian with an L2 term of this weight."""
        n_classes, width = parameters.shape
        own = parameters * self._deviation
        own[:, -1] += matrix_vector(parameters, self._mean)
        hessian = self._hessian(own)
        diagonal = np.diag_indices(len(hessian))
        mean = total(hessian[diagonal]) / len(hessian)
        penalty = l2 / (self._deviation * self._deviation) if l2 else np.full(width, UNPENALISED * mean)
        if self._intercept:
            penalty[-1] = 0.0
            intercepts = hessian[width - 1 :: width, width - 1 :: width]
            # that all rise together changes nothing: that direction has the mean curvature of the others
            intercepts += total(np.diagonal(intercepts)) / (n_classes * n_classes)
        hessian[diagonal] += np.tile(penalty, n_classes) + LEAST_CURVATURE * max(mean, TINY)
        for damping in DAMPINGS:
            hessian[diagonal] += damping * np.abs(hessian[diagonal])
            factor = cholesky(hessian)
            if factor is not None:
                break
        else:
            return np.copy  # a hessian that is not finite tells nothing

        def apply(gradient: Doubles) -> Doubles:
            own = (gradient - gradient[:, -1:] * self._mean) / self._deviation
            step: Doubles = cholesky_solve(factor, own.ravel()).reshape(gradient.shape) / self._deviation
            step[:, -1] -= matrix_vector(step, self._mean)
            return step

        return apply

    def _hessian(self, parameters: Doubles) -> Doubles:
        """Return the mean over the rows, (n_classes * width, n_classes * width), with what they lack."""
        probabilities = _probabilities(self._rows, parameters)
        hessian = softmax_hessian(self._rows, probabilities, self._weights)
        spread = matrix_vector((probabilities * (1 - probabilities)).T, self._weights)
        hessian[np.diag_indices(len(hessian))] += np.outer(spread, self._missing).ravel()
        return hessian


class KroneckerHessian:
    """The Kronecker product of two means over the sampled rows; parameters as of `SampleHessian`."""

    def __init__(self, rows: NDArray, weights: Doubles, missing: Doubles, *, intercept: bool) -> None:
        self._rows, self._unit = _in_float32(rows)
        self._penalised = _penalised(rows.shape[1], intercept)
        self._weights = weights.astype(np.float32)
        self._of_features = _gram(self._rows, self._weights)
        self._of_features[np.diag_indices(len(missing))] += missing / self._unit
        self._inverse: tuple[float, Singles | None] = (0.0, None)

    def __call__(self, parameters: Doubles, l2: float) -> Preconditioner:
        """Return the inverse at a point, of the hessian with an L2 term of this weight."""
        of_features = self._of_features
        of_classes = self._between_classes(parameters)
        of_features_trace, of_classes_trace = _trace(of_features), _trace(of_classes)
        of_feature, of_class = of_features_trace / len(of_features), of_classes_trace / len(of_classes)
        strength = math.sqrt(l2 / self._unit or UNPENALISED * (of_feature * of_class))
        # pi, but rounded to a power of 2, so that the features' factor is seldom inverted anew
        balance = math.ldexp(1.0, math.frexp(of_feature / of_class)[1] // 2)
        features_damping = max(balance * strength, ROUNDING * of_features_trace)
        classes_damping = max(strength / balance, ROUNDING * of_classes_trace)
        if self._inverse[0] != features_damping:
            self._inverse = features_damping, _damped_inverse(of_features, features_damping, self._penalised)
        features_inverse = self._inverse[1]
        classes_inverse = _damped_inverse(of_classes, classes_damping, np.ones(len(of_classes)))
        if features_inverse is None or classes_inverse is None:
            return np.copy  # what is not finite tells nothing

        def apply(gradient: Doubles) -> Doubles:
            scale = float(np.abs(gradient).max()) or 1.0  # float32 has no room for the small gradients of the end
            rotated = product((gradient / scale).astype(np.float32), features_inverse)
            result: Doubles = product(classes_inverse, rotated).astype(np.float64)
            result *= scale / self._unit / features_damping / classes_damping
            return result

        return apply

    def _between_classes(self, parameters: Doubles) -> Doubles:
        """Return the mean of diag(p) - p p^T, (n_classes, n_classes): each row's sum is 0, so nothing cancels."""
        probabilities = _probabilities(self._rows, parameters * math.sqrt(self._unit))
        between = _gram(probabilities, self._weights)
        diagonal = np.diag_indices(len(between))
        between[diagonal] = 0.0
        sums = matrix_vector(between, np.ones(len(between)))
        between = -between
        between[diagonal] = sums
        return between


def _mean_squares(rows: Doubles, weights: Doubles) -> Doubles:
    return matrix_vector((rows * rows).T, weights)


def _penalised(width: int, intercept: bool) -> Doubles:
    """Return 1 for each column of the rows that is penalised, and 0 for an intercept, (width,)."""
    result = np.ones(width)
    result[-1] = 0.0 if intercept else 1.0
    return result


def _in_float32(rows: NDArray) -> tuple[Singles, float]:
    """Return rows of numbers near 1, and the square of what they were divided by: squares stay within float32."""
    largest = max(float(rows.max()), -float(rows.min()))
    return (rows / rows.dtype.type(largest)).astype(np.float32, copy=False), largest * largest


def _gram(rows: Singles, weights: Singles) -> Doubles:
    """Return rows^T diag(weights) rows: sums of `ROWS_AT_ONCE` rows in float32, and of these in order in float64."""
    result = np.zeros((rows.shape[1], rows.shape[1]))
    for block in row_blocks(rows, ROWS_AT_ONCE * rows.shape[1]):
        result += gram(rows[block], weights[block])
    return result


def _damped_inverse(matrix: Doubles, damping: float, damped_columns: Doubles) -> Singles | None:
    """Return damping * (matrix + damping * diag(damped_columns))^-1; None where the matrix is not finite."""
    for factor in (1.0, 1e3, 1e6):  # more than once only where rounding has made curvatures negative
        damped = matrix.copy()
        damped[np.diag_indices(len(damped))] += factor * damping * damped_columns
        root = cholesky(damped)
        if root is not None:
            return (damping * inverse(root)).astype(np.float32)
    return None


def _trace(matrix: Doubles) -> float:
    return max(total(np.diagonal(matrix)), TINY)


def _probabilities(rows: NDArray[Any], parameters: Doubles) -> NDArray[Any]:
    """Return softmax(rows @ parameters.T), (n_rows, n_classes), in the rows' type.

    The last column is a feature like the others, and there is no intercept beside it.
    """
    without = np.column_stack([parameters, np.zeros(len(parameters))])
    return Scorer(without, rows.dtype, sparse=False).probabilities(dense_rows(rows, rows.dtype))
