"""Accelerated gradient descent that needs no tuning: one evaluation a step, backtracking, restart, monotone.

The step is Nesterov's, in the form of A. Beck and M. Teboulle, "A fast iterative shrinkage-thresholding algorithm",
SIAM J. Imaging Sciences 2(1), 2009, equations (4.1)-(4.3):

    x+ = prox(y - t grad(y), t),   m+ = (1 + sqrt(1 + 4 m^2)) / 2,   y+ = x+ + (m - 1)/m+ (x+ - x),

with grad that of the smooth part and prox the penalty's proximal operator. The objective is evaluated at y+ alone:
where two x in a row are 0, so is y+, exactly.

Three things are made adaptive, each from numbers that the evaluation at y+ gives anyway:

- The step size t. Where the gradient of a convex function changes by d over the way s, the largest curvature is at
  least |d|^2 / <d, s> (Y. Nesterov, "Introductory Lectures on Convex Optimization", 2004, theorem 2.1.5); t follows its
  inverse, and grows by at most `GROWTH` a step.
- Restart, where the momentum points uphill: <grad(y+), y+ - y> > 0 (B. O'Donoghue and E. Candes, "Adaptive restart for
  accelerated gradient schemes", Found. Comput. Math. 15, 2015, section 3.2).
- Monotonicity, up to rounding. A point that does not lower the objective is refused; the momentum is dropped, then t
  is cut, until one does. Where even a short plain step, half of 1 / curvature, fails, and the decrease predicted for it
  is below the rounding of the objective, the state is exhausted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from distsoftmax.arithmetic.parameters import dot, norm
from distsoftmax.solvers.protocol import Array, Evaluation, Objective
from distsoftmax.solvers.state import Solver, State, ahead, first_state, moved, proximal

GROWTH = 1.2  # largest factor of the step size in a step; 1.1 to 1.5 need within 10 % of the same number of steps
CUT = 0.5  # factor of the step size where a plain step fails
NEGLIGIBLE = 1e-9  # multiple of the objective's rounding; a smaller predicted decrease leads nowhere
LEAST_CURVATURE = 1e-150  # taken where none is measured: its inverse is a step size beyond all others, and still finite
FIRST_MOVE = 1e-3  # how far, in the parameters' norm, the first step may go before any curvature is known


@dataclass(frozen=True, kw_only=True)
class AcceleratedState(State):
    """The state of `AcceleratedGradient`; `parameters` is the paper's y.

    Attributes
    ----------
    last_plain : ndarray of float64
        The paper's x: where the last plain gradient step led.
    momentum : float
        The paper's t_k, here m; 1 after a restart.
    next_size : float
        The step size to try next.
    """

    last_plain: Array
    momentum: float
    next_size: float


class AcceleratedGradient(Solver[AcceleratedState]):
    """Nesterov's method with automatic step sizes, adaptive restart and a monotone objective."""

    state_type = AcceleratedState

    def init(self, objective: Objective, parameters: Array) -> AcceleratedState:
        """See `Solver.init`."""
        first = first_state(objective, parameters)
        length = norm(first.evaluation.gradient)
        return AcceleratedState(
            **vars(first), last_plain=parameters, momentum=1.0, next_size=FIRST_MOVE / length if length else 0.0
        )

    def step(self, objective: Objective, state: AcceleratedState) -> AcceleratedState:
        """See `Solver.step`. One evaluation, and one more for each point refused."""
        size, momentum, last_plain = state.next_size, state.momentum, state.last_plain
        here, lower_bound = state.evaluation, state.lower_bound
        while True:
            plain = proximal(objective, ahead(state.parameters, -size, here.gradient), size)
            next_momentum = (1 + math.sqrt(1 + 4 * momentum * momentum)) / 2
            point = ahead(plain, (momentum - 1) / next_momentum, plain - last_plain)
            reached = objective(point)
            lower_bound = max(lower_bound, reached.lower_bound)
            curvature = curvature_between(state, point, reached)
            if _is_lower(objective, state, point, reached):
                break
            if momentum > 1.0:
                momentum, last_plain = 1.0, state.parameters
                size = min(size, 1 / curvature)
                continue
            if size * curvature <= CUT and _decrease(size, here) <= here.rounding:
                return replace(state, step=state.step + 1, lower_bound=lower_bound, exhausted=True)
            size = min(CUT * size, 1 / curvature)
        uphill = _slope(objective, reached.gradient, state.parameters, point) > 0
        return moved(
            state,
            point,
            reached,
            lower_bound=lower_bound,
            step_size=size,
            exhausted=_decrease(size, reached) <= NEGLIGIBLE * reached.rounding,
            last_plain=point if uphill else plain,
            momentum=1.0 if uphill else next_momentum,
            next_size=1 / curvature if state.step == 0 else min(GROWTH * size, 1 / curvature),
        )


def _decrease(size: float, at: Evaluation) -> float:
    """Return the decrease predicted for half a plain step of a size."""
    return size * at.gradient_norm * at.gradient_norm / 2


def _slope(objective: Objective, gradient: Array, start: Array, end: Array) -> float:
    """Return the slope from start to end, at the end where `gradient` is the one there."""
    slope = dot(gradient, end - start)
    return slope if objective.penalty is None else slope + objective.penalty.value(end) - objective.penalty.value(start)


def _is_lower(objective: Objective, state: State, point: Array, reached: Evaluation) -> bool:
    """Return whether the objective at a point is below the state's.

    Where rounding hides the difference of the values, that of the slopes at both ends of the way tells: their mean is
    the difference up to third order (W. W. Hager and H. Zhang, "A new conjugate gradient method with guaranteed descent
    and an efficient line search", SIAM J. Optim. 16(1), 2005, section 4).
    """
    here = state.evaluation
    if abs(reached.value - here.value) > here.rounding + reached.rounding:
        return reached.value < here.value
    return _slope(objective, (here.gradient + reached.gradient) / 2, state.parameters, point) < 0


def curvature_between(state: State, point: Array, reached: Evaluation) -> float:
    """Return the curvature met on the way to a point; `LEAST_CURVATURE` where none can be measured."""
    if math.isinf(reached.value):
        return LEAST_CURVATURE
    change = reached.gradient - state.evaluation.gradient
    along = dot(change, point - state.parameters)
    measured = dot(change, change) / along if along > 0 else 0.0
    return max(measured, LEAST_CURVATURE)
