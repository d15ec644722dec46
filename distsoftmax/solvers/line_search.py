"""A step length that satisfies the strong Wolfe conditions.

J. Nocedal and S. J. Wright, "Numerical Optimization", 2nd edition, 2006, algorithms 3.5 and 3.6, with cubic
interpolation (3.59). Where rounding hides the decrease, the slopes decide: the approximate Wolfe conditions of W. W.
Hager and H. Zhang, "A new conjugate gradient method with guaranteed descent and an efficient line search", SIAM J.
Optim. 16(1), 2005, equation (4.1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from distsoftmax.arithmetic.parameters import dot
from distsoftmax.solvers.protocol import Array, Evaluation, Objective
from distsoftmax.solvers.state import State, ahead

DECREASE = 1e-4  # c1: the value must fall by this fraction of what the first slope predicts
CURVATURE = 0.9  # c2: the slope must fall to this fraction of the first
GROWTH = 2.0  # factor of a step length that is too short
MARGIN = 0.1  # fraction of an interval that is kept from its ends
EVALUATIONS = 30  # evaluations in a search, at most
UNITS = 4  # units in the last place of a value in float64 that may always be rounding
USUAL = 1e-2  # fraction of the bound on rounding that is seldom exceeded: the errors of many samples cancel


@dataclass(frozen=True)
class Trial:
    """A point on the line, `size` directions from the start; `slope` is the objective's along the direction."""

    size: float
    point: Array
    evaluation: Evaluation
    slope: float

    @property
    def value(self) -> float:
        """The objective there."""
        return self.evaluation.value


def strong_wolfe(objective: Objective, state: State, direction: Array, first_size: float) -> Trial | None:
    """Search along a direction of descent. As collective as the objective.

    Parameters
    ----------
    direction : ndarray of float64
        Of the parameters' shape.
    first_size : float
        The step length to try first, above 0.

    Returns
    -------
    Trial or None
        The step to take; None where none is better than the start.
    """
    low = start = Trial(0.0, state.parameters, state.evaluation, dot(state.evaluation.gradient, direction))
    high: Trial | None = None
    best: Trial | None = None
    size = first_size
    for _ in range(EVALUATIONS):
        point = ahead(state.parameters, size, direction)
        reached = objective(point)
        slope = dot(reached.gradient, direction) if math.isfinite(reached.value) else math.inf
        trial = Trial(size, point, reached, slope)
        is_decrease = _is_decrease(start, trial)
        if is_decrease:
            if abs(slope) <= -CURVATURE * start.slope:
                return trial
            best = trial if best is None or trial.value < best.value else best
        # `low` is the best end of an interval that holds a good size, `high` its other end
        hidden = noise(start.evaluation, reached)
        if not is_decrease or (low.size > 0 and trial.value > low.value + hidden):
            high = trial
        else:
            outwards = 1.0 if high is None else high.size - low.size
            if slope * outwards >= 0:
                high = low
            low = trial
        size = GROWTH * size if high is None else _between(low, high)
        if abs(size - low.size) <= 1e-12 * size:
            break
    return best


def _is_decrease(start: Trial, trial: Trial) -> bool:
    """Return whether the value has fallen enough or, within rounding, the slopes say so."""
    if not math.isfinite(trial.value):
        return False
    if trial.value <= start.value + DECREASE * trial.size * start.slope:
        return True
    hidden = abs(trial.value - start.value) <= noise(start.evaluation, trial.evaluation)
    return hidden and trial.slope <= (2 * DECREASE - 1) * start.slope


def noise(first: Evaluation, second: Evaluation) -> float:
    """Return how much of the difference of two values may be rounding: much less than their proven bounds."""
    units = UNITS * float(np.spacing(max(abs(first.value), abs(second.value)))) if math.isfinite(second.value) else 0.0
    return max(USUAL * (first.rounding + second.rounding), units)


def _between(low: Trial, high: Trial) -> float:
    """Return the minimiser of the cubic through both ends, kept inside; the middle where there is none."""
    width = high.size - low.size
    middle = low.size + width / 2
    if not (math.isfinite(high.value) and math.isfinite(high.slope)):
        return low.size + MARGIN * width
    first = low.slope + high.slope - 3 * (low.value - high.value) / (low.size - high.size)
    square = first * first - low.slope * high.slope
    if square < 0:
        return middle
    second = math.copysign(math.sqrt(square), width)
    divisor = high.slope - low.slope + 2 * second
    if divisor == 0:
        return middle
    size = high.size - width * (high.slope + second - first) / divisor
    inner, outer = sorted((low.size + MARGIN * width, high.size - MARGIN * width))
    return min(max(size, inner), outer) if math.isfinite(size) else middle
