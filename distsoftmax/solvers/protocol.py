"""What solvers need of an objective, what they keep between steps, and what they offer.

An objective is F = f + r: f is smooth, r a penalty that need not be (L1, group), known by its proximal operator. A
solver asks for as little as it can use: `Objective`, or one of the larger protocols below it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from distsoftmax.errors import Diverged

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
        A proven bound that the optimum is not below; -inf where there is none.
    reachable_bound : float
        About the lower bound that `Certifying.certify` would give; -inf where it gives none.
    rounding : float
        How far rounding may have moved `value`.
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
        return cls(value, gradient, float(np.linalg.norm(gradient)), rounding=rounding)


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


class TwiceDifferentiable(Preconditioned, Protocol):
    """An objective whose smooth part has a hessian."""

    def curvature(self, parameters: Array) -> Curvature:
        """Return the hessian at a point."""


@dataclass(frozen=True)
class BatchGradient:
    """An unbiased estimate of f, inf where it is not finite, and of its gradient, from a mini-batch of `n_samples`."""

    value: float
    gradient: Array
    n_samples: int


class MiniBatches(Protocol):
    """The mini-batches of an objective: those of an epoch hold every sample once, and each is drawn at random.

    They depend on the objective's seed and on the arguments alone.
    """

    n_batches: int

    def gradient(self, parameters: Array, epoch: int, batch: int) -> BatchGradient:
        """Return the estimate from a mini-batch of an epoch, both counted from 0."""

    def smoothness(self) -> float:
        """Return L such that steps of 1 / (2 L) are safe, the expected smoothness of the estimates."""


class Sampled(Objective, Protocol):
    """An objective that is a mean over samples."""

    @property
    def n_samples(self) -> int:
        """The number of samples."""

    def mini_batches(self, size: int) -> MiniBatches:
        """Return the mini-batches of so many samples, the last of an epoch of those that are left."""


class Certifying(Objective, Protocol):
    """An objective that can do more for a certificate than each evaluation does."""

    def certify(self, parameters: Array, enough: float = 0.0) -> Evaluation:
        """Return the objective at a point with less rounding and a higher lower bound, for some more passes.

        No more of them are spent once the gap is `enough`.
        """


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
        The highest lower bound on the optimum met so far.
    first_gradient_norm : float
        The gradient's norm before the first step.
    step_size : float
        The length of the last step.
    exhausted : bool
        Whether no further decrease can be measured in the arithmetic used.
    proven_value, proven_gap : float or None
        The value and the certified gap that `certified` has found there. No step depends on them, as they depend on the
        tolerance.
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
    proven_gap: float | None = None

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
    def certified_gap(self) -> float | None:
        """A proven bound on the distance of `value` to the optimum; None where there is none.

        Both sides of the difference may be off by rounding, so that is added.
        """
        if self.proven_gap is not None:
            return self.proven_gap
        if math.isinf(self.lower_bound):
            return None
        return max(self.value - self.lower_bound, 0.0) + self.rounding

    @property
    def reachable_gap(self) -> float:
        """About what `certified_gap` would be after `Certifying.certify`."""
        return max(self.value - max(self.lower_bound, self.reachable_bound), 0.0)


class Solver(Protocol[StateT]):
    """An update rule. Both calls are as collective as the objective is."""

    state_type: type[StateT]

    def init(self, objective: Any, parameters: Array) -> StateT:
        """Return the state before the first step."""

    def step(self, objective: Any, state: StateT) -> StateT:
        """Return the state after one more step; `state` is left as it was."""


def first_state(objective: Objective, parameters: Array) -> State:
    """Evaluate where a run starts: the fields that every solver's state has.

    Raises
    ------
    Diverged
        The objective is not finite there.
    """
    first = objective(parameters)
    if math.isinf(first.value):
        raise Diverged(
            "the objective is not finite at the first step: the features are too large for their type; use "
            "--standardize or --dtype float64"
        ).on_all_ranks()
    return State(
        step=0,
        parameters=parameters,
        value=first.value,
        gradient=first.gradient,
        gradient_norm=first.gradient_norm,
        rounding=first.rounding,
        lower_bound=first.lower_bound,
        reachable_bound=first.reachable_bound,
        first_gradient_norm=first.gradient_norm,
        step_size=0.0,
        exhausted=first.gradient_norm == 0.0,
    )


def evaluated(state: StateT, reached: Evaluation, **changes: Any) -> StateT:
    """Return the state with another evaluation, and with further changes to its fields."""
    changes.setdefault("lower_bound", max(state.lower_bound, reached.lower_bound))
    return replace(
        state,
        value=reached.value,
        gradient=reached.gradient,
        gradient_norm=reached.gradient_norm,
        reachable_bound=reached.reachable_bound,
        rounding=reached.rounding,
        proven_value=None,
        proven_gap=None,
        **changes,
    )


def moved(state: StateT, parameters: Array, reached: Evaluation, **changes: Any) -> StateT:
    """Return the state one step later, at other parameters, with further changes to its fields."""
    return evaluated(state, reached, step=state.step + 1, parameters=parameters, **changes)


def proximal(objective: Objective, target: Array, size: float) -> Array:
    """Return the penalty's proximal operator at a target; the target itself where there is no penalty."""
    return target if objective.penalty is None else objective.penalty.prox(target, size)


def certified(objective: Certifying, state: StateT, tolerance: float) -> StateT:
    """Return the state with a better certificate where that may be all that a run still needs to end."""
    gap = state.certified_gap
    wanted = tolerance * state.value
    if gap is None or not state.is_current or gap <= wanted:
        return state
    if state.reachable_gap > wanted and not state.exhausted:
        return state
    found = objective.certify(state.measured, wanted)
    return proven(state, found)


def proven(state: StateT, found: Evaluation) -> StateT:
    """Return the state with what `Certifying.certify` has found.

    A lower bound of an earlier evaluation counts with a second allowance for that evaluation's rounding.
    """
    bound = max(found.lower_bound, state.lower_bound - state.rounding)
    gap = None if math.isinf(bound) else max(found.value - bound, 0.0) + found.rounding
    lower_bound = max(state.lower_bound, found.lower_bound)
    return replace(state, proven_value=found.value, proven_gap=gap, lower_bound=lower_bound)


def stop_reason(state: State, tolerance: float, max_steps: int, at_limit: str = "") -> str | None:
    """Say why a run ends with this state; None where it goes on.

    With a lower bound the test is on the certified gap, else on the gradient's norm relative to the first.

    Parameters
    ----------
    at_limit : str
        What is said after `max_steps`, where that is more than the limit itself.
    """
    gap = state.certified_gap
    tested = tolerance > 0 and state.is_current
    if tested and gap is not None and gap <= tolerance * state.value:
        return f"the certified gap is below {tolerance:g} of the objective"
    if tested and gap is None and state.gradient_norm <= tolerance * state.first_gradient_norm:
        return f"the gradient's norm is below {tolerance:g} of its first"
    if state.exhausted:
        return "no further decrease can be measured in this arithmetic"
    if state.step >= max_steps:
        return at_limit or f"the limit of {max_steps} steps is reached"
    return None
