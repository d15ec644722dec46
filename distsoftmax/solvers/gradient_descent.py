"""Plain gradient descent: parameters <- parameters - learning_rate * gradient."""

from __future__ import annotations

import math
from dataclasses import replace

from distsoftmax.errors import Diverged
from distsoftmax.solvers.protocol import Array, Objective, State, first_state, moved


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
        return replace(first_state(objective, parameters), step_size=self._learning_rate, exhausted=False)

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
        return moved(state, parameters, reached)
