"""What a solver needs of an objective, what it keeps between steps, and what it offers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from distsoftmax.errors import Diverged

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Evaluation:
    """An objective at one point.

    Attributes
    ----------
    value : float
        inf where the objective is not finite there.
    gradient : ndarray of float64
        Of the parameters' shape.
    lower_bound : float
        A proven bound that the optimum is not below; -inf where there is none.
    rounding : float
        How far rounding may have moved `value`.
    """

    value: float
    gradient: Array
    lower_bound: float = -math.inf
    rounding: float = 0.0

    @classmethod
    def not_finite(cls, parameters: Array) -> Evaluation:
        """Return what an objective says where it is not finite."""
        return cls(math.inf, np.full(parameters.shape, math.nan))


class Objective(Protocol):
    """A function to minimise; calling it may be collective, and gives the same on every rank."""

    def __call__(self, parameters: Array) -> Evaluation:
        """Return the objective at a point."""


@dataclass(frozen=True, kw_only=True)
class State:
    """What every solver keeps between two steps: replicated, equal on every rank.

    Attributes
    ----------
    step : int
        Steps taken.
    parameters : ndarray of float64
    value, gradient, rounding
        The objective at `parameters`; see `Evaluation`.
    lower_bound : float
        The highest lower bound on the optimum met so far.
    first_gradient_norm : float
        The gradient's norm before the first step.
    step_size : float
        The length of the last step.
    exhausted : bool
        Whether no further decrease can be measured in the arithmetic used.
    """

    step: int
    parameters: Array
    value: float
    gradient: Array
    rounding: float
    lower_bound: float
    first_gradient_norm: float
    step_size: float
    exhausted: bool

    @property
    def gradient_norm(self) -> float:
        """The Euclidean norm of the gradient."""
        return float(np.linalg.norm(self.gradient))

    @property
    def certified_gap(self) -> float | None:
        """A proven bound on the distance of `value` to the optimum; None where there is none.

        Both sides of the difference may be off by rounding, so that is added.
        """
        if math.isinf(self.lower_bound):
            return None
        return max(self.value - self.lower_bound, 0.0) + self.rounding


StateT = TypeVar("StateT", bound=State)


class Solver(Protocol[StateT]):
    """An update rule. Both calls are as collective as the objective is."""

    state_type: type[StateT]

    def init(self, objective: Objective, parameters: Array) -> StateT:
        """Return the state before the first step."""

    def step(self, objective: Objective, state: StateT) -> StateT:
        """Return the state after one more step; `state` is left as it was."""


def first_evaluation(objective: Objective, parameters: Array) -> Evaluation:
    """Evaluate where a run starts.

    Raises
    ------
    Diverged
        The objective is not finite there.
    """
    evaluation = objective(parameters)
    if math.isinf(evaluation.value):
        raise Diverged(
            "the objective is not finite at the first step: the features are too large for their type; use "
            "--standardize or --dtype float64"
        ).on_all_ranks()
    return evaluation


def stop_reason(state: State, tolerance: float, max_steps: int) -> str | None:
    """Say why a run ends with this state; None where it goes on.

    With a lower bound the test is on the certified gap, else on the gradient's norm relative to the first.
    """
    gap = state.certified_gap
    if tolerance > 0 and gap is not None and gap <= tolerance * state.value:
        return f"the certified gap is below {tolerance:g} of the objective"
    if tolerance > 0 and gap is None and state.gradient_norm <= tolerance * state.first_gradient_norm:
        return f"the gradient's norm is below {tolerance:g} of its first"
    if state.exhausted:
        return "no further decrease can be measured in this arithmetic"
    if state.step >= max_steps:
        return f"the limit of {max_steps} steps is reached"
    return None
