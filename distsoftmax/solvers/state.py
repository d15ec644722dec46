"""How states follow from evaluations: the first one, and the next."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from distsoftmax.arithmetic.parameters import axpy
from distsoftmax.errors import Diverged
from distsoftmax.solvers.protocol import Array, Evaluation, Objective, State, StateT


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
        certified_gap=None,
        least_gap=None,
        **changes,
    )


def moved(state: StateT, parameters: Array, reached: Evaluation, **changes: Any) -> StateT:
    """Return the state one step later, at other parameters, with further changes to its fields."""
    return evaluated(state, reached, step=state.step + 1, parameters=parameters, **changes)


def proximal(objective: Objective, target: Array, size: float) -> Array:
    """Return the penalty's proximal operator at a target; the target itself where there is no penalty."""
    return target if objective.penalty is None else objective.penalty.prox(target, size)


def ahead(parameters: Array, size: float, direction: Array) -> Array:
    """Return fma(size, direction, parameters), element by element, as a new array."""
    point: Array = parameters.copy()
    axpy(size, direction, point)
    return point
