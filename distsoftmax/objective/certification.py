"""The best proven bound on the distance to the optimum that a few steps from a point give.

A lower bound on the optimum is one wherever it was measured. Near the optimum the bound of `certificate.py` may be far
above the true distance, for two reasons, and a step helps against each (`certification_steps.py`):

- the intercepts' gradient is not 0. Newton's step of the intercepts alone makes it quadratically smaller.
- ||grad||^2 / (2 l2) is the distance only where the curvature is l2 all over. Newton's step of all parameters leads to
  a point near the optimum, where the bound is small whatever the curvature. Without an L2 term the bound is even of
  first order in the gradient.

The steps need not be exact, so they take the curvature in any type. What they lead to is evaluated in float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from distsoftmax.arithmetic.arrays import Doubles
from distsoftmax.arithmetic.parameters import squared_norm, total
from distsoftmax.config import ObjectiveConfig
from distsoftmax.objective.certificate import GapBound, bound_gap
from distsoftmax.objective.certification_steps import Certifiable, after_intercept_step, after_newton_step
from distsoftmax.objective.cross_entropy import Fit
from distsoftmax.objective.outward_sums import UNIT, column_lengths, relative_error_of_sums
from distsoftmax.objective.penalty import Penalty
from distsoftmax.objective.rounding import ErrorBounds, RoundingModel
from distsoftmax.solvers.protocol import Certificate

MOST_STEPS = 10  # Newton steps tried to raise the lower bound
MOST_PRODUCTS = 300  # products with the hessian, in all of these steps
TIGHT = 1.1  # a certified gap of so many times the true one is not worth a step
NOTICEABLE = 0.01  # least decrease of a step that leads down, as a fraction of the gap
NOTHING = Certificate(math.inf, math.inf, -math.inf, math.inf, math.inf)


@dataclass(frozen=True)
class _Reached:
    """A point, what is proven there, and what the next step starts from."""

    point: Doubles
    certificate: Certificate
    bound: GapBound
    gradient: Doubles


def estimate(fit: Fit, parameters: Doubles, class_means: Doubles, config: ObjectiveConfig) -> GapBound:
    """Return what the bounds at a point would be if it was evaluated without errors."""
    n_classes, width = parameters.shape
    return bound_gap(fit, parameters, class_means, config, ErrorBounds.none(n_classes, width - 1))


@np.errstate(all="ignore")
def certify(objective: Certifiable, parameters: Doubles, enough: float = 0.0) -> Certificate:
    """Prove a bound on the distance of the objective to its optimum. Collective.

    The steps end when the gap is `enough`, or about as small as the true one or as rounding lets it be, or when two of
    them have neither led down nor halved the gap or what better intercepts would make of it.
    """
    config = objective.config
    first = reached = _evaluate(objective, parameters)
    start = first.certificate
    best, gap, lowest, within_reach = start.lower_bound, start.gap, start.value, math.inf
    products = MOST_PRODUCTS
    seen, fell = [(math.inf, math.inf)] * 2, True  # both gaps after each step; whether the last one has led down
    for _ in range(MOST_STEPS if math.isfinite(gap) else 0):
        within_reach = min(within_reach, start.value - reached.certificate.value + reached.bound.reachable)
        near = max(enough, TIGHT * (start.value - lowest) + 2 * start.floor)
        seen.append((gap, within_reach))
        is_slow = gap > seen[-3][0] / 2 and within_reach > seen[-3][1] / 2
        if gap <= near or (is_slow and not fell) or products <= 0:
            break
        by_intercepts = TIGHT * reached.bound.reachable < reached.bound.gap
        if config.intercept and by_intercepts and within_reach <= near:
            point = after_intercept_step(objective, reached.point, reached.gradient)
        else:
            value = reached.certificate.value
            point, n_products = after_newton_step(objective, reached.point, reached.gradient, value, products)
            products -= n_products
        reached = _evaluate(objective, point)
        value = reached.certificate.value
        fell = value < lowest - NOTICEABLE * min(gap, within_reach)
        best, lowest = max(best, reached.certificate.lower_bound), min(lowest, value)
        gap = min(gap, _outwards(start.value + start.error - best, start.value))
    return replace(start, lower_bound=best, gap=gap)


def certificate_of(
    fit: Fit, parameters: Doubles, class_means: Doubles, config: ObjectiveConfig, rounding: RoundingModel
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
        return NOTHING, GapBound()
    if not (config.l2 > 0 or config.sparse):
        return Certificate(value, error, -math.inf, math.inf, math.inf), GapBound()
    bound = bound_gap(fit, parameters, class_means, config, errors)
    # the objective is a sum of terms that are none of them negative, so 0 is a bound, too
    lower_bound = max(0.0, value - _outwards(error + bound.gap, value))
    gap = min(bound.gap, _outwards(value + error, value))
    return Certificate(value, error, lower_bound, gap, bound.floor), bound


def _evaluate(objective: Certifiable, point: Doubles) -> _Reached:
    fit = objective.fit(point)
    if not math.isfinite(fit.loss):
        return _Reached(point, NOTHING, GapBound(), np.full_like(point, math.nan))
    means, rounding = objective.class_means, objective.rounding_model
    certificate, bound = certificate_of(fit, point, means, objective.config, rounding)
    Penalty(objective.config).add_smooth_gradient(point, fit.gradient)
    return _Reached(point, certificate, bound, fit.gradient)


def _outwards(bound: float, value: float) -> float:
    """Return a bound with room for the rounding of a few sums with the value."""
    return bound * (1 + 16 * UNIT) + 8 * UNIT * abs(value)
