"""Plain gradient descent: parameters <- parameters - learning_rate * gradient."""

from __future__ import annotations

import math

import numpy as np

from distsoftmax.errors import Diverged
from distsoftmax.solvers.protocol import Array, Objective, State, first_evaluation


class GradientDescent:
    """Steps of a fixed length.

    Parameters
    ----------
    learning_rate : float
        Above 0. The objective falls at every step where it is below 2 / (largest curvature).
    """

    state_type = State

    def __init__(self, learning_rate: float) -> None:
        self._learning_rate = learning_rate

    def init(self, objective: Objective, parameters: Array) -> State:
        """See `Solver.init`."""
        first = first_evaluation(objective, parameters)
        return State(
            step=0,
            parameters=parameters,
            value=first.value,
            gradient=first.gradient,
            rounding=first.rounding,
            lower_bound=first.lower_bound,
            first_gradient_norm=float(np.linalg.norm(first.gradient)),
            step_size=self._learning_rate,
            exhausted=False,
        )

    def step(self, objective: Objective, state: State) -> State:
        """See `Solver.step`. One evaluation.

        Raises
        ------
        Diverged
            The objective is not finite after the step.
        """
        parameters = state.parameters - self._learning_rate * state.gradient
        reached = objective(parameters)
        if math.isinf(reached.value):
            raise Diverged(
                f"the objective is not finite after step {state.step + 1}, before it was {state.value:.6g}: "
                f"--learning-rate {self._learning_rate:g} is too large; take a smaller one, or auto"
            ).on_all_ranks()
        return State(
            step=state.step + 1,
            parameters=parameters,
            value=reached.value,
            gradient=reached.gradient,
            rounding=reached.rounding,
            lower_bound=max(state.lower_bound, reached.lower_bound),
            first_gradient_norm=state.first_gradient_norm,
            step_size=self._learning_rate,
            exhausted=False,
        )
