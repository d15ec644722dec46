"""Update rules, one a file, pure: (objective, state) -> state. They know no MPI and no data."""

from __future__ import annotations

from typing import Any

from distsoftmax.config import ObjectiveConfig, SolverConfig
from distsoftmax.solvers.accelerated_gradient import AcceleratedGradient
from distsoftmax.solvers.gradient_descent import GradientDescent
from distsoftmax.solvers.lbfgs import Lbfgs
from distsoftmax.solvers.proximal_lbfgs import ProximalLbfgs
from distsoftmax.solvers.state import Solver
from distsoftmax.solvers.stochastic_gradient import StochasticGradient
from distsoftmax.solvers.trust_region import TrustRegion


def make_solver(config: SolverConfig, objective: ObjectiveConfig, *, preconditioned: bool = True) -> Solver[Any]:
    """Return the solver that the options ask for. Its states are of its own type: give it no other solver's.

    Parameters
    ----------
    preconditioned : bool
        Whether the objective knows a preconditioner.
    """
    name, _ = choose_solver(config, objective, preconditioned=preconditioned)
    if name == "sgd":
        return StochasticGradient(config)
    if name == "trust-region":
        return TrustRegion()
    if name == "lbfgs":
        return ProximalLbfgs() if objective.sparse else Lbfgs()
    if isinstance(config.learning_rate, str):
        return AcceleratedGradient()
    return GradientDescent(config.learning_rate, config.momentum, nesterov=config.nesterov)


def choose_solver(config: SolverConfig, objective: ObjectiveConfig, *, preconditioned: bool) -> tuple[str, str]:
    """Return the solver's name, and in a few words why `auto` took it; see `make_solver`.

    From tests/benchmarks/time_to_optimum.py: with a preconditioner L-BFGS needs the fewest passes, without one the
    conjugate gradients of the trust region do. Without a penalty and on separable data every solver heads for infinity,
    and gradient descent for the widest margin (D. Soudry, E. Hoffer, M. S. Nacson, S. Gunasekar and N. Srebro, "The
    implicit bias of gradient descent on separable data", JMLR 19, 2018).
    """
    if config.solver != "auto":
        return config.solver, ""
    if not isinstance(config.learning_rate, str):
        return "gradient-descent", "it takes --learning-rate"
    if objective.sparse:
        return "lbfgs", "it takes --l1 and --group"
    if objective.l2 == 0:
        return "gradient-descent", "without --l2 there may be no optimum, and this heads for the widest margin"
    if preconditioned:
        return "lbfgs", "few enough coefficients to learn their curvature from a sample of the rows"
    return "trust-region", "too many coefficients to learn their curvature from a sample of the rows"
