"""Newton's method in a trust region, each step by conjugate gradients on products with the hessian.

J. Nocedal and S. J. Wright, "Numerical Optimization", 2nd edition, 2006, algorithm 4.1 for the region; for the step see
`conjugate_gradients.py`. Conjugate gradients end where the residual has fallen below min(1/2, |gradient|^(1/2)) of the
gradient: superlinear convergence (theorem 7.2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from distsoftmax.arithmetic.parameters import dot
from distsoftmax.solvers.conjugate_gradients import steihaug
from distsoftmax.solvers.line_search import noise
from distsoftmax.solvers.protocol import Array, Objective
from distsoftmax.solvers.state import Solver, State, first_state, moved

ACCEPTED = 1e-4  # eta: the least ratio of actual to predicted reduction that a step needs
SHRINK, GROW = 0.25, 2.0  # factors of the trust radius
POOR, GOOD = 0.25, 0.75  # ratios below and above which the trust radius changes
LOOSEST_SQUARED = 0.25  # the squared norm of the residual, relative to the gradient's, is never left above this
NEGLIGIBLE = 1e-2  # multiple of what rounding may hide; a smaller predicted reduction leads nowhere


@dataclass(frozen=True, kw_only=True)
class TrustRegionState(State):
    """The state of `TrustRegion`.

    Attributes
    ----------
    radius : float
        The trust radius, in the norm of the preconditioner; inf before the first step.
    """

    radius: float


class TrustRegion(Solver[TrustRegionState]):
    """Newton steps in a trust region. One evaluation and several products with the hessian a step.

    For objectives without a penalty that has no hessian.
    """

    state_type = TrustRegionState

    def init(self, objective: Objective, parameters: Array) -> TrustRegionState:
        """See `Solver.init`."""
        return TrustRegionState(**vars(first_state(objective, parameters)), radius=math.inf)

    def step(self, objective: Objective, state: TrustRegionState) -> TrustRegionState:
        """See `Solver.step`. A point that is refused leaves the parameters and shrinks the region."""
        here = state.evaluation
        relative_norm = here.gradient_norm / state.first_gradient_norm if state.first_gradient_norm > 0 else 1.0
        tolerance = min(LOOSEST_SQUARED, relative_norm)
        model = steihaug(
            objective.curvature(state.parameters),
            here.gradient,
            objective.preconditioner(state.parameters),
            state.radius,
            lambda residual, relative, predicted_reduction: relative <= tolerance,
        )
        if not model.predicted_reduction > NEGLIGIBLE * noise(here, here):
            return replace(state, step=state.step + 1, exhausted=True)
        point: Array = state.parameters + model.step
        reached = objective(point)
        reduction, hidden_reduction = here.value - reached.value, noise(here, reached)
        is_hidden = abs(reduction) <= hidden_reduction
        if is_hidden:  # by rounding: the slopes tell it (see `line_search`)
            reduction = -dot(here.gradient + reached.gradient, model.step) / 2
        ratio = reduction / model.predicted_reduction if math.isfinite(reached.value) else -math.inf
        radius = state.radius
        if ratio < POOR:
            radius = SHRINK * model.length
        elif ratio > GOOD and model.at_edge:
            radius = GROW * radius
        lower_bound = max(state.lower_bound, reached.lower_bound)
        if not ratio > ACCEPTED:
            stuck = is_hidden and model.predicted_reduction <= hidden_reduction
            return replace(
                state, step=state.step + 1, radius=radius, lower_bound=lower_bound, step_size=0.0, exhausted=stuck
            )
        return moved(
            state,
            point,
            reached,
            radius=radius,
            step_size=model.length,
            exhausted=reached.gradient_norm == 0,
        )
