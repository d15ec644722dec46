"""L-BFGS, for objectives without a penalty that has no gradient.

D. C. Liu and J. Nocedal, "On the limited memory BFGS method for large scale optimization", Math. Programming 45, 1989;
J. Nocedal and S. J. Wright, "Numerical Optimization", 2nd edition, 2006, algorithms 7.4 (the recursion) and 7.5. The
initial inverse hessian H_0 is gamma M, with M the objective's preconditioner, if it has one, else the identity, and
gamma = <s, y> / <y, M y> for the last pair (equation 7.20). M is fitted anew where that is worth its time (`Refits`).
Where a fit is exact the pairs from before it are dropped; where it is also cheap, and so made at every step, this is
Newton's method.

M comes from a sample, and may mislead where the sample lacks what counts. So it is put to the test, where the run is
long: from step 81 on, and again from 243, 729, ..., the steps go on from the other first matrix, the identity, for a
third as many steps as were taken, and stay with it if the objective has fallen by more than in as many steps before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from distsoftmax.arithmetic.parameters import axpy, dot, norm
from distsoftmax.solvers.line_search import noise, strong_wolfe
from distsoftmax.solvers.protocol import Array, Objective, Preconditioner, is_power_of_three
from distsoftmax.solvers.state import Solver, State, first_state, moved

MEMORY = 10  # pairs of a step and a change that are kept
FIRST_MOVE = 1.0  # how far, in the parameters' norm, the first step may go where nothing is known of the curvature
NEGLIGIBLE = 1e-2  # multiple of what rounding may hide; a smaller predicted decrease leads nowhere
FIRST_TEST = 81  # the step from which the preconditioner is first put to the test
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
    misled : bool
        Whether the last test was in favour of the identity.
    plain : bool
        Whether the first matrix is the identity now, though there may be a preconditioner.
    mark, fall : float
        The objective where a test, or the steps it is compared with, began; how far it fell in the latter.
    """

    steps: Sequence[Array]
    changes: Sequence[Array]
    anchor: Array
    misled: bool
    plain: bool
    mark: float
    fall: float

    @property
    def remark(self) -> str:
        """See `State.remark`."""
        return "the preconditioner misleads: lbfgs goes on without it" if self.misled else ""


class Lbfgs(Solver[LbfgsState]):
    """Limited-memory BFGS with a strong-Wolfe line search. One evaluation a step, seldom more."""

    state_type = LbfgsState

    def init(self, objective: Objective, parameters: Array) -> LbfgsState:
        """See `Solver.init`."""
        first = first_state(objective, parameters)
        return LbfgsState(
            **vars(first),
            steps=(),
            changes=(),
            anchor=parameters,
            misled=False,
            plain=False,
            mark=first.value,
            fall=0.0,
        )

    def step(self, objective: Objective, state: LbfgsState) -> LbfgsState:
        """See `Solver.step`."""
        refits = objective.refits
        if refits is not None and refits.is_due(state.step):
            state = replace(state, anchor=state.parameters)
            if refits.exact:
                state = replace(state, steps=(), changes=())
        precondition = objective.preconditioner(
            state.anchor, refined=refits is not None and state.step >= refits.interval
        )
        return self._attempt(objective, state if precondition is None else tested(state), precondition)

    def _attempt(self, objective: Objective, state: LbfgsState, precondition: Preconditioner | None) -> LbfgsState:
        """Return the state one step later; what misleads, the pairs or the first matrix, is dropped before it ends."""
        here, first_matrix = state.evaluation, None if state.plain else precondition
        direction = -two_loop(state.steps, state.changes, here.gradient, first_matrix)
        size = 1.0
        if first_matrix is None and not len(state.steps):
            size = min(1.0, FIRST_MOVE / norm(direction))
        predicted = -dot(direction, here.gradient) / 2 > NEGLIGIBLE * noise(here, here)
        trial = strong_wolfe(objective, state, direction, size) if predicted else None
        if trial is None:
            if state.plain:
                return self._attempt(objective, replace(state, plain=False, misled=False), precondition)
            if predicted and len(state.steps):
                return self._attempt(objective, replace(state, steps=(), changes=()), precondition)
            return replace(state, step=state.step + 1, exhausted=True)
        reached = trial.evaluation
        step, change = trial.point - state.parameters, reached.gradient - here.gradient
        steps, changes = with_pair(state.steps, state.changes, step, change)
        exhausted = reached.gradient_norm == 0
        return moved(
            state, trial.point, reached, step_size=trial.size, exhausted=exhausted, steps=steps, changes=changes
        )


def tested(state: LbfgsState) -> LbfgsState:
    """Return the state with the test of the preconditioner begun or decided, at the steps where that is due.

    For n = 81, 243, ...: at 2 n / 3 the steps to compare with begin, at n the other first matrix has its turn, and at
    4 n / 3 the one of the two stays under which the objective fell by more.
    """
    if 3 * state.step >= 2 * FIRST_TEST and state.step % 2 == 0 and is_power_of_three(state.step // 2):
        return replace(state, mark=state.value)
    if state.step >= FIRST_TEST and is_power_of_three(state.step):
        return replace(state, plain=not state.misled, mark=state.value, fall=state.mark - state.value)
    if 3 * state.step >= 4 * FIRST_TEST and state.step % 4 == 0 and is_power_of_three(state.step // 4):
        misled = state.plain if state.mark - state.value > state.fall else state.misled
        return replace(state, misled=misled, plain=misled)
    return state


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
