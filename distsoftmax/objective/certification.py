"""The best proven bound on the distance to the optimum that a few steps from a point give.

A lower bound on the optimum is one wherever it was measured. Near the optimum the bound of `certificate.py` may be far
above the true distance, for two reasons, and a step helps against each:

- the intercepts' gradient is not 0. Newton's step of the intercepts alone makes it quadratically smaller, for the
  hessian with respect to them (n_classes, n_classes) and one more evaluation.
- ||grad||^2 / (2 l2) is the distance only where the curvature is l2 all over. Newton's step of all parameters leads to a
  point near the optimum, where the bound is small whatever the curvature.

The steps need not be exact, so they take the curvature in any type. What they lead to is evaluated in float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from distsoftmax.arithmetic.parameters import axpy, cholesky, cholesky_solve, squared_norm, total
from distsoftmax.config import ObjectiveConfig
from distsoftmax.objective.certificate import GapBound, bound_gap
from distsoftmax.objective.cross_entropy import Fit
from distsoftmax.objective.rounding import UNIT, ErrorBounds, RoundingModel, column_lengths, relative_error_of_sums
from distsoftmax.solvers.conjugate_gradients import steihaug
from distsoftmax.solvers.protocol import Certificate, Curvature, Preconditioner

Array = NDArray[np.float64]

MOST_STEPS = 10  # tried to raise the lower bound
TIGHT = 1.1  # a certified gap of so many times the true one is not worth a step
NOTICEABLE = 0.01  # the least decrease, as a share of the gap, of a step that leads down
RESIDUAL = 0.05  # what a Newton step may leave of the gap it removes
MOST_PRODUCTS = 100  # with the hessian in a Newton step
LEAST_CURVATURE = 2.0**-1000  # of an intercept, where it is divided by
DAMPING = 1e-12  # of the hessian with respect to the intercepts, brought to a diagonal of ones


NOTHING = Certificate(math.inf, math.inf, -math.inf, math.inf, math.inf)


class Certifiable(Protocol):
    """What `certify` needs of an objective. Every call but those of attributes may be collective."""

    @property
    def config(self) -> ObjectiveConfig:
        """The penalties, and whether the intercepts are free."""

    @property
    def class_means(self) -> Array:
        """mean_i of e_y(i) (x_i, 1)^T, (n_classes, n_features + 1), where there is a penalty."""

    @property
    def rounding_model(self) -> RoundingModel:
        """What the errors of `fit` follow from."""

    def fit(self, parameters: Array) -> Fit:
        """Evaluate the mean cross-entropy and its gradient in float64."""

    def curvature(self, parameters: Array) -> Curvature:
        """Return the hessian of the smooth part, in any type."""

    def preconditioner(self, parameters: Array) -> Preconditioner | None:
        """Return about the inverse of that."""

    def intercept_hessian(self, parameters: Array) -> Array:
        """Return the hessian with respect to the intercepts, (n_classes, n_classes), in any type."""


@dataclass(frozen=True)
class _Reached:
    """A point, what is proven there, and what the next step starts from."""

    point: Array
    certificate: Certificate
    bound: GapBound
    gradient: Array


def estimate(fit: Fit, parameters: Array, class_means: Array, config: ObjectiveConfig) -> GapBound:
    """Return what the bounds at a point would be if it was evaluated without errors."""
    n_classes, width = parameters.shape
    return bound_gap(fit, parameters, class_means, config, ErrorBounds.none(n_classes, width - 1))


def certify(objective: Certifiable, parameters: Array, enough: float = 0.0) -> Certificate:
    """Prove a bound on the distance of the objective to its optimum. Collective.

    The steps end when the gap is `enough`, or about as small as the true one or as rounding lets it be, or when two of
    them have neither led down nor halved the gap or what better intercepts would make of it.
    """
    config = objective.config
    first = reached = _evaluate(objective, parameters)
    start = first.certificate
    best, gap, lowest, within_reach = start.lower_bound, start.gap, start.value, math.inf
    seen, fell = [(math.inf, math.inf)] * 2, True  # both gaps after each step; whether the last one has led down
    for _ in range(MOST_STEPS if math.isfinite(gap) else 0):
        within_reach = min(within_reach, start.value - reached.certificate.value + reached.bound.reachable)
        near = max(enough, TIGHT * (start.value - lowest) + 2 * start.floor)
        seen.append((gap, within_reach))
        is_slow = gap > seen[-3][0] / 2 and within_reach > seen[-3][1] / 2
        if gap <= near or (is_slow and not fell):
            break
        by_intercepts = TIGHT * reached.bound.reachable < reached.bound.gap
        if config.intercept and by_intercepts and (within_reach <= near or config.sparse):
            step = _intercept_step(objective, reached)
        elif not config.sparse:
            step = _newton_step(objective, reached)
        else:
            break
        reached = _evaluate(objective, reached.point + step)
        value = reached.certificate.value
        fell = value < lowest - NOTICEABLE * min(gap, within_reach)
        best, lowest = max(best, reached.certificate.lower_bound), min(lowest, value)
        gap = min(gap, _outwards(start.value + start.error - best, start.value))
    return replace(start, lower_bound=best, gap=gap)


def certificate_of(
    fit: Fit, parameters: Array, class_means: Array, config: ObjectiveConfig, rounding: RoundingModel
) -> tuple[Certificate, GapBound]:
    """Return what an evaluation in float64 proves without any step. Not collective."""
    coef = parameters[:, :-1]
    with np.errstate(all="ignore"):
        penalty = config.l2 / 2 * squared_norm(coef) if config.l2 > 0 else 0.0
        penalty += config.l1 * total(np.abs(coef)) if config.l1 > 0 else 0.0
        penalty += config.group * total(column_lengths(coef)) if config.group > 0 else 0.0
        value = fit.loss + penalty
        shares = class_means[:, -1] if class_means.size else np.ones(len(coef))
        errors = rounding.error_bounds(fit, parameters, shares)
        of_penalty = 2 * relative_error_of_sums(coef) * penalty + (config.l2 + config.group) * coef.size * 2.0**-510
        error = _outwards(errors.loss + of_penalty, value)
    if not math.isfinite(error):
        return NOTHING, GapBound(math.inf, math.inf, math.inf)
    if not (config.l2 > 0 or config.sparse):
        return Certificate(value, error, -math.inf, math.inf, math.inf), GapBound(math.inf, math.inf, math.inf)
    bound = bound_gap(fit, parameters, class_means, config, errors)
    # the objective is a sum of terms that are none of them negative, so 0 is a bound, too
    lower_bound = max(0.0, value - _outwards(error + bound.gap, value))
    gap = min(bound.gap, _outwards(value + error, value))
    return Certificate(value, error, lower_bound, gap, bound.floor), bound


def _evaluate(objective: Certifiable, point: Array) -> _Reached:
    fit = objective.fit(point)
    if not math.isfinite(fit.loss):
        return _Reached(point, NOTHING, GapBound(math.inf, math.inf, math.inf), np.full_like(point, math.nan))
    config = objective.config
    certificate, bound = certificate_of(fit, point, objective.class_means, config, objective.rounding_model)
    axpy(config.l2, point[:, :-1], fit.gradient[:, :-1])
    if not config.intercept:
        fit.gradient[:, -1] = 0.0
    return _Reached(point, certificate, bound, fit.gradient)


def _intercept_step(objective: Certifiable, reached: _Reached) -> Array:
    """Return Newton's step of the intercepts alone. Collective: one Allreduce."""
    step = np.zeros_like(reached.point)
    hessian = objective.intercept_hessian(reached.point)
    scale = np.sqrt(np.maximum(np.diag(hessian), LEAST_CURVATURE))
    null = scale / math.sqrt(squared_norm(scale))  # intercepts that all rise together change nothing
    matrix = hessian / scale / scale[:, None] + null * null[:, None]
    matrix[np.diag_indices_from(matrix)] += DAMPING
    factor = cholesky(matrix)
    if factor is not None:
        alone = cholesky_solve(factor, reached.gradient[:, -1] / scale) / scale
        step[:, -1] = -alone / max(float(alone.max() - alone.min()), 1.0)
    return step


def _newton_step(objective: Certifiable, reached: _Reached) -> Array:
    """Return Newton's step, solved until the rest costs the bound little of what the step gains. Collective."""
    weak = 2 * RESIDUAL * objective.config.l2
    return steihaug(
        objective.curvature(reached.point),
        reached.gradient,
        objective.preconditioner(reached.point),
        math.inf,
        lambda residual, _, decrease: squared_norm(residual) <= weak * decrease,
        MOST_PRODUCTS,
    ).step


def _outwards(bound: float, value: float) -> float:
    """Return a bound with room for the rounding of a few sums with the value."""
    return bound * (1 + 16 * UNIT) + 8 * UNIT * abs(value)
