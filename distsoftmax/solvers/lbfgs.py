"""L-BFGS, for objectives without a penalty that has no gradient.

D. C. Liu and J. Nocedal, "On the limited memory BFGS method for large scale optimization", Math. Programming 45, 1989;
J. Nocedal and S. J. Wright, "Numerical Optimization", 2nd edition, 2006, algorithms 7.4 (the recursion) and 7.5. The
initial inverse hessian H_0 is gamma M, with M the objective's preconditioner, if it has one, else the identity, and
gamma = <s, y> / <y, M y> for the last pair (equation 7.20). M is fitted anew at steps 2, 4, 8, 16, ...: the hessian
moves most in the beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from distsoftmax.arithmetic.parameters import axpy, dot, norm
from distsoftmax.solvers.line_search import noise, strong_wolfe
from distsoftmax.solvers.protocol import Array, Preconditioned, State
from distsoftmax.solvers.state import first_state, moved

MEMORY = 10  # pairs kept
FIRST_MOVE = 1.0  # how far, in the parameters' norm, the first step may go where nothing is known of the curvature
NEGLIGIBLE = 1e-2  # times what rounding may hide: a smaller predicted decrease leads nowhere
LEAST_COSINE = 1e-12  # least <s, y> / (|s| |y|) of a pair that is kept


@dataclass(frozen=True, kw_only=True)
class LbfgsState(State):
    """The state of `Lbfgs`.

    Attributes
    ----------
    steps, changes : sequence of ndarray
        The last steps s and the gradient's changes y over them, the oldest first; at most `MEMORY`.
    anchor : ndarray of float64
        The parameters that the preconditioner is fitted at.
    """

    steps: Sequence[Array]
    changes: Sequence[Array]
    anchor: Array


class Lbfgs:
    """Limited-memory BFGS with a strong-Wolfe line search. One evaluation a step, seldom more."""

    state_type = LbfgsState

    def init(self, objective: Preconditioned, parameters: Array) -> LbfgsState:
        """See `Solver.init`."""
        return LbfgsState(**vars(first_state(objective, parameters)), steps=(), changes=(), anchor=parameters)

    def step(self, objective: Preconditioned, state: LbfgsState) -> LbfgsState:
        """See `Solver.step`."""
        if state.step & (state.step - 1) == 0 and state.step > 1:
            state = replace(state, anchor=state.parameters)
        precondition = objective.preconditioner(state.anchor)
        direction = -two_loop(state.steps, state.changes, state.gradient, precondition)
        slope = dot(direction, state.gradient)
        size = 1.0
        if precondition is None and not len(state.steps):
            size = min(1.0, FIRST_MOVE / norm(direction))
        if not -slope / 2 > NEGLIGIBLE * noise(state, state):
            return replace(state, step=state.step + 1, exhausted=True)
        trial = strong_wolfe(objective, state, direction, size)
        if trial is None:
            if len(state.steps):  # the pairs may mislead: start from the preconditioner alone
                return self.step(objective, replace(state, steps=(), changes=()))
            return replace(state, step=state.step + 1, exhausted=True)
        step, change = trial.point - state.parameters, trial.reached.gradient - state.gradient
        steps, changes = with_pair(state.steps, state.changes, step, change)
        return moved(
            state,
            trial.point,
            trial.reached,
            step_size=trial.size,
            exhausted=trial.reached.gradient_norm == 0,
            steps=steps,
            changes=changes,
        )


def with_pair(
    steps: Sequence[Array], changes: Sequence[Array], step: Array, change: Array
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """Return the pairs with one more, the oldest left out; as they are where it shows no curvature."""
    if dot(step, change) > LEAST_COSINE * norm(step) * norm(change):
        return (*steps, step)[-MEMORY:], (*changes, change)[-MEMORY:]
    return tuple(steps), tuple(changes)


def two_loop(
    steps: Sequence[Array],
    changes: Sequence[Array],
    gradient: Array,
    precondition: Callable[[Array], Array] | None = None,
) -> Array:
    """Return the approximate inverse hessian's product with the gradient: Nocedal and Wright's algorithm 7.4."""
    result: Array = gradient.copy()
    inverse_curvatures = [1 / dot(step, change) for step, change in zip(steps, changes, strict=True)]
    alphas = []
    for step, change, rho in reversed(list(zip(steps, changes, inverse_curvatures, strict=True))):
        alpha = rho * dot(step, result)
        axpy(-alpha, change, result)
        alphas.append(alpha)
    if precondition is not None:
        result = precondition(result)
    if len(steps):
        last = changes[-1]
        scaled = last if precondition is None else precondition(last)
        result *= 1 / (inverse_curvatures[-1] * dot(last, scaled))
    for step, change, rho, alpha in zip(steps, changes, inverse_curvatures, reversed(alphas), strict=True):
        axpy(alpha - rho * dot(change, result), step, result)
    return result
