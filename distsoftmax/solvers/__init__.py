"""Update rules, one a file, pure: (objective, state) -> state. They know no MPI and no data."""

from __future__ import annotations

from typing import Any

from distsoftmax.config import ObjectiveConfig, SolverConfig
from distsoftmax.solvers.accelerated_gradient import AcceleratedGradient
from distsoftmax.solvers.gradient_descent import GradientDescent
from distsoftmax.solvers.lbfgs import Lbfgs
from distsoftmax.solvers.protocol import Solver
from distsoftmax.solvers.proximal_lbfgs import ProximalLbfgs
from distsoftmax.solvers.trust_region import TrustRegion


def make_solver(config: SolverConfig, objective: ObjectiveConfig) -> Solver[Any]:
    """Return the solver that the options ask for."""
    name = config.solver
    if name == "gradient-descent":
        if isinstance(config.learning_rate, str):
            return AcceleratedGradient()
        return GradientDescent(config.learning_rate)
    if name == "trust-region":
        return TrustRegion()
    return ProximalLbfgs() if objective.sparse else Lbfgs()
