"""Newton's method for objectives F = f + r with a penalty r that is not smooth, where the hessian is a matrix at hand.

J. D. Lee, Y. Sun and M. A. Saunders, "Proximal Newton-type methods for minimizing composite functions", SIAM J. Optim.
24(3), 2014, algorithm 1: a step goes to a minimiser z of the model

    q(z) = <grad f(x), z - x> + <z - x, H (z - x)> / 2 + r(z),

or towards it, until F falls by a part of what the model says (their equation 2.22). All is in the units of the
hessian, in which no feature is larger than another or far from 0.

The model is minimised in rounds. A few sweeps take a proximal step in each feature's coefficients in turn (P. Tseng and
S. Yun, "A coordinate gradient descent method for nonsmooth separable minimization", Math. Programming 117, 2009), which
finds the entries that are 0; then a Newton step in the others goes as far as the model falls.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from distsoftmax.arithmetic.parameters import cholesky, cholesky_solve, dot, matrix_vector, norm
from distsoftmax.solvers.line_search import noise
from distsoftmax.solvers.protocol import Array, Evaluation, HessianModel, Objective, Penalty

MOST_ROUNDS, SWEEPS = 10, 3  # of the model's minimisation, and sweeps in a round
RESIDUAL_LEFT = 0.1  # the proximal residual of the model, relative to that at its start, with which it is left
SUFFICIENT = 1e-4  # fraction of the predicted decrease that a step needs
LEAST_SIZE = 1e-3  # of a step, as a part of the way to the model's minimiser
POLISHING = (1.0, 0.5, 0.25, 0.1)  # parts of a Newton step in the entries that are not 0, tried in turn
OF_THE_MEAN = (1e-9, 1e-6, 1e-3, 1.0)  # added to the diagonal, times the mean eigenvalue, until it is positive definite
NEGLIGIBLE = 1e-6  # multiple of what rounding may hide; small, as without L2 the certificate needs small gradients


class Reached(NamedTuple):
    """Where a step leads.

    Attributes
    ----------
    point : ndarray of float64
        In the objective's units.
    evaluation : Evaluation
    is_whole : bool
        Whether it goes all the way to the model's minimiser, and so has its zeros.
    """

    point: Array
    evaluation: Evaluation
    is_whole: bool


def proximal_newton(
    objective: Objective, penalty: Penalty, parameters: Array, here: Evaluation, model: HessianModel
) -> Reached | None:
    """Return where a step leads from the parameters; None where F falls by no more than rounding hides.

    As collective as the objective: one evaluation, seldom more.
    """
    units = model.units
    start, penalty = units.parameters(parameters), penalty.in_units(units.unit)
    gradient = units.gradient(here.gradient)
    target = penalty.reduced(_QuadraticModel(model, penalty, start, gradient).minimiser())
    way = target - start
    predicted = dot(gradient, way) + penalty.value(target) - penalty.value(start)
    if not -predicted > NEGLIGIBLE * noise(here, here):
        return None
    steepness, size = norm(penalty.least_subgradient(start, gradient)), 1.0
    while size >= LEAST_SIZE:
        own = target if size == 1.0 else start + size * way
        point = units.step(own)
        reached = objective(point)
        change = reached.value - here.value
        if change <= SUFFICIENT * size * predicted:
            return Reached(point, reached, size == 1.0)
        is_hidden = abs(change) <= noise(here, reached)
        if is_hidden and norm(penalty.least_subgradient(own, units.gradient(reached.gradient))) < steepness:
            return Reached(point, reached, size == 1.0)
        size /= 2
    return None


class _QuadraticModel:
    """q, and what its minimisation needs of the matrix: the parts of each column, and how long steps in it may be."""

    def __init__(self, model: HessianModel, penalty: Penalty, start: Array, gradient: Array) -> None:
        self._matrix, self._mean, self._penalty = model.matrix, model.mean, penalty
        self._start, self._gradient = start, gradient
        n_classes, width = start.shape
        columns = np.arange(width)
        by_column = model.matrix.reshape(n_classes, width, start.size).transpose(1, 2, 0)
        self._of_columns = np.ascontiguousarray(by_column)  # (width, size, n_classes)
        blocks = np.abs(model.matrix.reshape(n_classes, width, n_classes, width)[:, columns, :, columns])
        sums = matrix_vector(blocks.reshape(-1, n_classes), np.ones(n_classes))
        # no eigenvalue of a block is larger; a column that is constant has none at all
        self._steepness = np.maximum(sums.reshape(width, n_classes).max(axis=1), OF_THE_MEAN[0] * model.mean)

    def minimiser(self) -> Array:
        """Return about the minimiser."""
        point: Array = self._start.copy()
        gradient: Array = self._gradient.copy()
        first = self._residual(point, gradient)
        for _ in range(MOST_ROUNDS):
            for _ in range(SWEEPS):
                self._sweep(point, gradient)
            point, gradient = self._polished(point, gradient)
            if not self._residual(point, gradient) > RESIDUAL_LEFT * first:
                break
        return point

    def _residual(self, point: Array, gradient: Array) -> float:
        """Return the length of a proximal step of size 1 / mean, a measure of the distance to the minimiser."""
        size = 1 / self._mean
        return norm(self._penalty.prox(point - size * gradient, size) - point)

    def _sweep(self, point: Array, gradient: Array) -> None:
        """Take a proximal step in each column in turn, the intercepts first; in place."""
        flat, width = gradient.reshape(-1), point.shape[1]
        for column in (width - 1, *range(width - 1)):
            size = 1 / self._steepness[column]
            before = point[:, column]
            after = before - size * gradient[:, column]
            if column < width - 1:
                after = self._penalty.prox_column(after, column, size)
            change = after - before
            if change.any():
                flat += matrix_vector(self._of_columns[column], change)
                point[:, column] = after

    def _polished(self, point: Array, gradient: Array) -> tuple[Array, Array]:
        """Return a lower point, where a Newton step in the entries that are not 0 leads to one, and the gradient."""
        penalty, is_moved = self._penalty, point != 0
        is_moved[:, -1] = True
        (active,) = np.nonzero(is_moved.ravel())
        matrix, curvature = self._matrix, penalty.curvature(point)
        if curvature is not None:
            matrix = matrix + curvature
        way = np.zeros(point.size)
        slope = penalty.least_subgradient(point, gradient).ravel()[active]
        solve = _solver(matrix[np.ix_(active, active)], self._mean)
        if solve is None:
            return point, gradient
        way[active] = -solve(slope)
        lowest = self._value(point, gradient)
        for size in POLISHING:
            trial = point + size * way.reshape(point.shape)
            if penalty.has_kinks:
                crosses = trial * point < 0
                crosses[:, -1] = False
                trial[crosses] = 0.0
            there = self._gradient + matrix_vector(self._matrix, (trial - self._start).ravel()).reshape(point.shape)
            if self._value(trial, there) < lowest:
                return trial, there
        return point, gradient

    def _value(self, point: Array, gradient: Array) -> float:
        """Return q at a point with this gradient of its smooth part."""
        return dot(point - self._start, gradient + self._gradient) / 2 + self._penalty.value(point)


def _solver(matrix: Array, mean: float) -> Callable[[Array], Array] | None:
    """Return what multiplies by the inverse; None where the matrix is not finite."""
    diagonal = np.diag_indices(len(matrix))
    for damping in OF_THE_MEAN:
        matrix[diagonal] += damping * mean
        factor = cholesky(matrix)
        if factor is not None:
            return partial(cholesky_solve, factor)
    return None
