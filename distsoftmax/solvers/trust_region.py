"""Newton's method in a trust region, each step by conjugate gradients on products with the hessian.

T. Steihaug, "The conjugate gradient method and trust regions in large scale optimization", SIAM J. Numer. Anal. 20(3),
1983; J. Nocedal and S. J. Wright, "Numerical Optimization", 2nd edition, 2006, algorithms 4.1 (the region) and 7.2 (the
step). Lengths are measured in the norm of the preconditioner, as in A. R. Conn, N. I. M. Gould and Ph. L. Toint,
"Trust-Region Methods", 2000, section 7.5.1. Conjugate gradients end where the residual has fallen below
min(1/2, |gradient|^(1/2)) of the gradient: superlinear convergence (Nocedal and Wright, theorem 7.2).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from distsoftmax.solvers.line_search import noise
from distsoftmax.solvers.protocol import (
    Array,
    Curvature,
    Preconditioner,
    State,
    TwiceDifferentiable,
    first_state,
    moved,
)

ACCEPTED = 1e-4  # eta: the least share of the promised decrease
SHRINK, GROW = 0.25, 2.0  # of the region
POOR, GOOD = 0.25, 0.75  # shares of the promised decrease below and above which it changes
LOOSEST = 0.5  # residual, as a share of the gradient
MOST_PRODUCTS = 250  # in a step
NEGLIGIBLE = 1e-2  # of what rounding may hide: a step that promises less leads nowhere


@dataclass(frozen=True, kw_only=True)
class TrustRegionState(State):
    """The state of `TrustRegion`.

    Attributes
    ----------
    radius : float
        The region's, in the norm of the preconditioner; inf before the first step.
    """

    radius: float


@dataclass(frozen=True)
class ModelStep:
    """A step, the decrease of the quadratic model over it, its length, and whether the region's edge ended it."""

    step: Array
    promised: float
    length: float
    at_edge: bool


class TrustRegion:
    """Newton steps in a trust region. One evaluation and some products with the hessian a step."""

    state_type = TrustRegionState

    def init(self, objective: TwiceDifferentiable, parameters: Array) -> TrustRegionState:
        """See `Solver.init`."""
        return TrustRegionState(**vars(first_state(objective, parameters)), radius=math.inf)

    def step(self, objective: TwiceDifferentiable, state: TrustRegionState) -> TrustRegionState:
        """See `Solver.step`. A point that is refused leaves the parameters and shrinks the region."""
        precondition = objective.preconditioner(state.parameters)
        share = state.gradient_norm / state.first_gradient_norm if state.first_gradient_norm > 0 else 1.0
        found = steihaug(
            objective.curvature(state.parameters),
            state.gradient,
            precondition,
            state.radius,
            lambda _, left, __: left <= min(LOOSEST**2, share),
        )
        if not found.promised > NEGLIGIBLE * noise(state, state):
            return replace(state, step=state.step + 1, exhausted=True)
        point = state.parameters + found.step
        reached = objective(point)
        hidden = abs(state.value - reached.value) <= noise(state, reached)
        if hidden:  # rounding hides the decrease: the slopes tell it (see `line_search`)
            decrease = -float(np.vdot(state.gradient + reached.gradient, found.step)) / 2
        else:
            decrease = state.value - reached.value
        quality = decrease / found.promised if math.isfinite(reached.value) else -math.inf
        radius = state.radius
        if quality < POOR:
            radius = SHRINK * found.length
        elif quality > GOOD and found.at_edge:
            radius = GROW * radius
        lower_bound = max(state.lower_bound, reached.lower_bound)
        if not quality > ACCEPTED:
            stuck = hidden and found.promised <= noise(state, reached)
            return replace(
                state, step=state.step + 1, radius=radius, lower_bound=lower_bound, step_size=0.0, exhausted=stuck
            )
        return moved(
            state,
            point,
            reached,
            radius=radius,
            step_size=found.length,
            exhausted=reached.gradient_norm == 0,
        )


def steihaug(
    curvature: Curvature,
    gradient: Array,
    precondition: Preconditioner | None,
    radius: float,
    is_enough: Callable[[Array, float, float], bool],
    most_products: int = MOST_PRODUCTS,
) -> ModelStep:
    """Minimise <gradient, s> + <s, H s> / 2 over s in the region, about; Nocedal and Wright's algorithm 7.2.

    Parameters
    ----------
    is_enough : callable
        Whether to stop: (residual, its squared norm in the preconditioner's dual norm as a share of the first one's,
        the decrease that the model promises so far) -> bool.
    most_products : int
    """
    step = np.zeros_like(gradient)
    left = -gradient  # the residual, -(gradient + H step)
    scaled = left if precondition is None else precondition(left)
    energy = float(np.vdot(left, scaled))
    first = energy
    direction = scaled
    # squared lengths in the preconditioner's norm, by recurrence: M itself is not at hand, only its inverse
    length, along, of_direction = 0.0, 0.0, energy
    promised = 0.0
    for _ in range(most_products):
        if not energy > 0:
            break
        product = curvature.product(direction)
        bend = float(np.vdot(direction, product))
        if not math.isfinite(bend):
            break
        size = energy / bend if bend > 0 else math.inf
        longer = length + 2 * size * along + size * size * of_direction if math.isfinite(size) else math.inf
        if longer >= radius * radius or math.isinf(size):
            edge = radius if math.isfinite(radius) else 1.0 + math.sqrt(length)  # no curvature and no region yet
            size = (-along + math.sqrt(along * along + of_direction * (edge * edge - length))) / of_direction
            promised += size * energy - size * size * bend / 2
            return ModelStep(step + size * direction, promised, edge, True)
        step = step + size * direction
        promised += size * energy - size * size * bend / 2
        length = longer
        left = left - size * product
        scaled = left if precondition is None else precondition(left)
        next_energy = float(np.vdot(left, scaled))
        if is_enough(left, next_energy / first, promised):
            break
        ratio = next_energy / energy
        along = ratio * (along + size * of_direction)
        of_direction = next_energy + ratio * ratio * of_direction
        direction = scaled + ratio * direction
        energy = next_energy
    return ModelStep(step, promised, math.sqrt(length), False)
