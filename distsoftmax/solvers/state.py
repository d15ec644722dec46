"""What a solver keeps between two steps, what it offers, and how states follow from evaluations."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from distsoftmax.arithmetic.parameters import axpy
from distsoftmax.errors import Diverged
from distsoftmax.solvers.protocol import Array, Certificate, Evaluation, Objective

StateT = TypeVar("StateT", bound="State")


@dataclass(frozen=True, kw_only=True)
class State:
    """What every solver keeps between two steps: replicated, equal on every rank.

    Attributes
    ----------
    step : int
        Steps taken.
    parameters : ndarray of float64
    evaluation : Evaluation
        The objective at `measured`.
    lower_bound : float
        The highest estimate of the optimum from below met so far.
    first_value, first_gradient_norm : float
        The objective and its gradient's norm before the first step.
    step_size : float
        The length of the last step.
    exhausted : bool
        Whether no further decrease can be measured in the arithmetic used.
    certificate : Certificate or None
        Of the objective at `solution`; None where nothing is proven. No step depends on it, as it depends on the
        tolerance.
    """

    step: int
    parameters: Array
    evaluation: Evaluation
    lower_bound: float
    first_value: float
    first_gradient_norm: float
    step_size: float
    exhausted: bool
    certificate: Certificate | None = None

    @property
    def value(self) -> float:
        """The objective at `measured`."""
        return self.evaluation.value

    @property
    def solution(self) -> Array:
        """The parameters that the run would give if it ended here."""
        return self.parameters

    @property
    def measured(self) -> Array:
        """The parameters that `evaluation` was made at."""
        return self.parameters

    @property
    def is_current(self) -> bool:
        """Whether `evaluation` is of `solution`, not of an earlier one."""
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
    def certified_gap(self) -> float | None:
        """The proven bound on the distance of the objective at `solution` to the optimum; None where there is none."""
        return None if self.certificate is None else self.certificate.gap

    @property
    def estimated_gap(self) -> float | None:
        """About the distance of `value` to the optimum, rounding left out; None where nothing is known of it."""
        return None if math.isinf(self.lower_bound) else max(self.value - self.lower_bound, 0.0)

    @property
    def reachable_gap(self) -> float:
        """About the gap that `Objective.certify` would prove."""
        return max(self.value - max(self.lower_bound, self.evaluation.reachable_bound), 0.0)


class Solver(ABC, Generic[StateT]):
    """An update rule. `init` and `step` are as collective as the objective is.

    Attributes
    ----------
    state_type : type
        Of the states that `init` and `step` return.
    """

    state_type: type[StateT]

    @abstractmethod
    def init(self, objective: Objective, parameters: Array) -> StateT:
        """Return the state before the first step.

        Raises
        ------
        Diverged
            On every rank: the objective is not finite at the parameters.
        """

    @abstractmethod
    def step(self, objective: Objective, state: StateT) -> StateT:
        """Return the state after one more step; `state` is left as it was."""


def first_state(objective: Objective, parameters: Array) -> State:
    """Evaluate where a run starts: the fields that every solver's state has. As collective as the objective.

    Raises
    ------
    Diverged
        On every rank: the objective is not finite there.
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
        evaluation=first,
        lower_bound=first.lower_bound,
        first_value=first.value,
        first_gradient_norm=first.gradient_norm,
        step_size=0.0,
        exhausted=first.gradient_norm == 0.0,
    )


def evaluated(state: StateT, evaluation: Evaluation, **changes: Any) -> StateT:
    """Return the state with another evaluation, and with further changes to its fields."""
    changes.setdefault("lower_bound", max(state.lower_bound, evaluation.lower_bound))
    return replace(state, evaluation=evaluation, certificate=None, **changes)


def moved(state: StateT, parameters: Array, evaluation: Evaluation, **changes: Any) -> StateT:
    """Return the state one step later, at other parameters, with further changes to its fields."""
    return evaluated(state, evaluation, step=state.step + 1, parameters=parameters, **changes)


def proximal(objective: Objective, target: Array, size: float) -> Array:
    """Return the penalty's proximal operator at a target; the target itself where there is no penalty."""
    return target if objective.penalty is None else objective.penalty.prox(target, size)


def ahead(parameters: Array, size: float, direction: Array) -> Array:
    """Return fma(size, direction, parameters), element by element, as a new array."""
    point: Array = parameters.copy()
    axpy(size, direction, point)
    return point
