"""What solvers need of an objective, what they keep between steps, and what they offer.

An objective is F = f + r: f is smooth, r a penalty that need not be (L1, group), known by its proximal operator. A
solver asks for as little as it can use: `Objective`, a larger protocol below it, or one that stands beside the solver.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from distsoftmax.arithmetic.parameters import norm

Array = NDArray[np.float64]
Preconditioner: TypeAlias = Callable[[Array], Array]
"""Maps a gradient to nearly (hessian)^-1 gradient: linear, symmetric, positive definite."""


@dataclass(frozen=True)
class Evaluation:
    """An objective at one point.

    Attributes
    ----------
    value : float
        F; inf where it is not finite there.
    gradient : ndarray of float64
        Of the smooth part f, of the parameters' shape.
    gradient_norm : float
        The Euclidean norm of the least subgradient of F: that of `gradient` where r is 0.
    lower_bound : float
        An estimate of the optimum from below, which `Certifying.certify` can prove; -inf where there is none. It would
        be a proof if nothing was rounded.
    reachable_bound : float
        About the lower bound that `Certifying.certify` would give; -inf where it gives none.
    rounding : float
        An estimate of how far rounding may have moved `value`.
    """

    value: float
    gradient: Array
    gradient_norm: float
    lower_bound: float = -math.inf
    reachable_bound: float = -math.inf
    rounding: float = 0.0

    @classmethod
    def not_finite(cls, parameters: Array) -> Evaluation:
        """Return what an objective says where it is not finite."""
        return cls(math.inf, np.full(parameters.shape, math.nan), math.nan)

    @classmethod
    def smooth(cls, value: float, gradient: Array, rounding: float = 0.0) -> Evaluation:
        """Return the evaluation of an objective without a penalty."""
        return cls(value, gradient, norm(gradient), rounding=rounding)


class Penalty(Protocol):
    """A convex function r of the parameters that need not be smooth."""

    def value(self, parameters: Array) -> float:
        """Return r at the parameters."""

    def prox(self, parameters: Array, size: float) -> Array:
        """Return the proximal operator: argmin over x of |x - parameters|^2 / 2 + size * r(x), as a new array."""

    def least_subgradient(self, parameters: Array, gradient: Array) -> Array:
        """Return the element of least norm of gradient + (the subdifferential of r at the parameters)."""


class Objective(Protocol):
    """A function to minimise; calling it may be collective, and gives the same on every rank."""

    @property
    def penalty(self) -> Penalty | None:
        """r; None where it is 0."""

    def __call__(self, parameters: Array) -> Evaluation:
        """Return the objective at a point."""


class Preconditioned(Objective, Protocol):
    """An objective that knows roughly how it is curved."""

    def preconditioner(self, parameters: Array) -> Preconditioner | None:
        """Return a preconditioner that fits f around the parameters; None where there is none.

        It depends on the parameters alone, and the last one is kept, so asking again is cheap.
        """


class Curvature(Protocol):
    """The hessian of f at one point."""

    def product(self, direction: Array) -> Array:
        """Return the hessian's product with a direction."""


@dataclass(frozen=True)
class BatchGradient:
    """An unbiased estimate of f, inf where it is not finite, and of its gradient, from a mini-batch of `n_samples`."""

    value: float
    gradient: Array
    n_samples: int


@dataclass(frozen=True)
class Certificate:
    """What is proven of an objective F at one point, rounding included.

    Attributes
    ----------
    value, error : float
        |F - value| <= error.
    lower_bound : float
        No value of F anywhere is below it; -inf where there is no bound.
    gap : float
        F is at most so far above its optimum; inf where there is no bound. It may be much less than
        value - lower_bound + error, as the errors of the value need not enter it.
    floor : float
        About the least gap that can be proven there in this arithmetic.
    """

    value: float
    error: float
    lower_bound: float
    gap: float
    floor: float


class Certifying(Objective, Protocol):
    """An objective that can prove how far above its optimum it is."""

    def certify(self, parameters: Array, enough: float = 0.0) -> Certificate:
        """Return what can be proven at a point, for a few more passes; no more of them once the gap is `enough`."""


StateT = TypeVar("StateT", bound="State")


@dataclass(frozen=True, kw_only=True)
class State:
    """What every solver keeps between two steps: replicated, equal on every rank.

    Attributes
    ----------
    step : int
        Steps taken.
    parameters : ndarray of float64
    value, gradient, gradient_norm, reachable_bound, rounding
        The objective at `parameters`; see `Evaluation`.
    lower_bound : float
        The highest estimate of the optimum from below met so far.
    first_gradient_norm : float
        The gradient's norm before the first step.
    step_size : float
        The length of the last step.
    exhausted : bool
        Whether no further decrease can be measured in the arithmetic used.
    proven_value, certified_gap, least_gap : float or None
        The value, the gap and the floor of the `Certificate` there; None where nothing is proven. No step depends on
        them, as they depend on the tolerance.
    """

    step: int
    parameters: Array
    value: float
    gradient: Array
    gradient_norm: float
    rounding: float
    lower_bound: float
    reachable_bound: float
    first_gradient_norm: float
    step_size: float
    exhausted: bool
    proven_value: float | None = None
    certified_gap: float | None = None
    least_gap: float | None = None

    @property
    def solution(self) -> Array:
        """The parameters that the run would give if it ended here."""
        return self.parameters

    @property
    def measured(self) -> Array:
        """The parameters that `value` and what goes with it were measured at."""
        return self.parameters

    @property
    def is_current(self) -> bool:
        """Whether `value` and what goes with it are those of `solution`, not of an earlier one."""
        return True

    @property
    def latest_value(self) -> float:
        """The newest that is known of the objective: `value`, or a mini-batch's estimate."""
        return self.value

    @property
    def n_sampled(self) -> int | None:
        """The samples that the last step has looked at; None: all."""
        return None

    def brought_up_to_date(self: StateT, objective: Objective) -> StateT:
        """Return the state with the objective evaluated at `solution`, where that is not done. As collective as it is.

        Raises
        ------
        Diverged
            It is not finite there.
        """
        return self

    @property
    def remark(self) -> str:
        """What a user should know of how the steps go on; empty where there is nothing."""
        return ""

    def check_end(self) -> None:
        """Refuse to end here for want of steps.

        Raises
        ------
        Diverged
            The steps have led far above the start.
        """

    @property
    def estimated_gap(self) -> float | None:
        """About the distance of `value` to the optimum, rounding left out; None where nothing is known of it."""
        return None if math.isinf(self.lower_bound) else max(self.value - self.lower_bound, 0.0)

    @property
    def reachable_gap(self) -> float:
        """About the gap that `Certifying.certify` would prove."""
        return max(self.value - max(self.lower_bound, self.reachable_bound), 0.0)


class Solver(Protocol[StateT]):
    """An update rule. Both calls are as collective as the objective is."""

    state_type: type[StateT]

    def init(self, objective: Any, parameters: Array) -> StateT:
        """Return the state before the first step."""

    def step(self, objective: Any, state: StateT) -> StateT:
        """Return the state after one more step; `state` is left as it was."""


def certified(objective: Certifying, state: StateT, tolerance: float) -> StateT:
    """Return the state with a certificate where that may be all that a run still needs to end."""
    wanted = tolerance * state.value
    if state.estimated_gap is None or not state.is_current:
        return state
    if state.certified_gap is not None and state.certified_gap <= wanted:
        return state
    if state.reachable_gap > wanted and not state.exhausted:
        return state
    return proven(state, objective.certify(state.measured, wanted))


def proven(state: StateT, certificate: Certificate) -> StateT:
    """Return the state with a certificate."""
    return replace(state, proven_value=certificate.value, certified_gap=certificate.gap, least_gap=certificate.floor)


def stop_reason(state: State, tolerance: float, max_steps: int, at_limit: str = "") -> str | None:
    """Say why a run ends with this state (after `max_steps`: `at_limit`, if given); None where it goes on.

    Where a gap can be certified the test is on that, else on the gradient's norm relative to the first.

    Raises
    ------
    Diverged
        The steps are used up, and have led far above the start.
    """
    tested = tolerance > 0 and state.is_current
    wanted = tolerance * state.value
    if tested and state.certified_gap is not None and state.least_gap is not None:
        if state.certified_gap <= wanted:
            return f"the certified gap is below {tolerance:g} of the objective"
        if state.least_gap > wanted:
            least = state.least_gap / state.value if state.value > 0 else math.inf
            return f"this arithmetic can prove no gap below {least:.1g} of the objective"
    if tested and state.estimated_gap is None and state.gradient_norm <= tolerance * state.first_gradient_norm:
        return f"the gradient's norm is below {tolerance:g} of its first"
    if state.exhausted:
        return "no further decrease can be measured in this arithmetic"
    if state.step >= max_steps:
        state.check_end()
        return at_limit or f"the limit of {max_steps} steps is reached"
    return None
