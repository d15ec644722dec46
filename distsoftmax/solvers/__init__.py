"""Update rules, one a file, pure: (objective, state) -> state. They know no MPI and no data."""

from __future__ import annotations

from typing import Any

from distsoftmax.config import SolverConfig
from distsoftmax.solvers.accelerated_gradient import AcceleratedGradient
from distsoftmax.solvers.gradient_descent import GradientDescent
from distsoftmax.solvers.protocol import Solver


def make_solver(config: SolverConfig) -> Solver[Any]:
    """Return the solver that the options ask for."""
    if isinstance(config.learning_rate, str):
        return AcceleratedGradient()
    return GradientDescent(config.learning_rate)
