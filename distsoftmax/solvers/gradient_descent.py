"""Gradient descent with steps of a fixed length, plain or with momentum, each followed by the penalty's proximal
operator.

With a the learning rate, m the momentum, grad the gradient of the smooth part and prox the penalty's operator:

    plain      x+ = prox(x - a grad(x))
    momentum   x+ = prox(x - a grad(x) + m (x - x-))                   the heavy ball
    nesterov   x+ = prox(y - a grad(y)),   y+ = x+ + m (x+ - x)

B. T. Polyak, "Some methods of speeding up the convergence of iteration methods", USSR Comput. Math. and Math. Phys.
4(5), 1964; with prox, P. Ochs, Y. Chen, T. Brox and T. Pock, "iPiano: Inertial proximal algorithm for nonconvex
optimization", SIAM J. Imaging Sciences 7(2), 2014; Y. Nesterov, "Introductory Lectures on Convex Optimization", 2004,
section 2.2, the constant step scheme III. On a quadratic of curvatures l to L the plain error shrinks to 1 - l/L of
itself a step at a = 1/L; the heavy ball's to q = (sqrt(L) - sqrt(l)) / (sqrt(L) + sqrt(l)) of itself at
a = 4 / (sqrt(L) + sqrt(l))^2 and m = q^2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from distsoftmax.solvers.divergence import GivenRateState
from distsoftmax.solvers.protocol import Array, Objective
from distsoftmax.solvers.state import Solver, ahead, first_state, moved, proximal


@dataclass(frozen=True, kw_only=True)
class MomentumState(GivenRateState):
    """The state of `GradientDescent` with momentum; `parameters` is x, with Nesterov's momentum y.

    Attributes
    ----------
    last : ndarray of float64
        The x one step earlier; with Nesterov's momentum the x of this step.
    """

    last: Array


class GradientDescent(Solver[GivenRateState]):
    """Steps of a fixed length.

    Parameters
    ----------
    learning_rate : float
        Above 0. Without momentum the objective falls at every step where it is below 2 / (largest curvature).
    momentum : float
        At least 0, less than 1: the last move times this is added to the next one.
    nesterov : bool
        Take the gradient where the momentum leads.
    """

    def __init__(self, learning_rate: float, momentum: float = 0.0, *, nesterov: bool = False) -> None:
        self.state_type: type[GivenRateState] = MomentumState if momentum else GivenRateState
        self._learning_rate = learning_rate
        self._momentum = momentum
        self._nesterov = nesterov

    def init(self, objective: Objective, parameters: Array) -> GivenRateState:
        """See `Solver.init`."""
        rate, momentum = self._learning_rate, self._momentum
        first = replace(first_state(objective, parameters), step_size=rate, exhausted=False)
        if momentum:
            return MomentumState(**vars(first), learning_rate=rate, momentum=momentum, last=parameters)
        return GivenRateState(**vars(first), learning_rate=rate, momentum=momentum)

    def step(self, objective: Objective, state: GivenRateState) -> GivenRateState:
        """See `Solver.step`. One evaluation.

        Raises
        ------
        Diverged
            On every rank: the objective is not finite after the step, or so high that it will not come down again.
        """
        rate, momentum = self._learning_rate, self._momentum
        target = ahead(state.parameters, -rate, state.evaluation.gradient)
        changes: dict[str, Array] = {}
        if not isinstance(state, MomentumState):
            parameters = proximal(objective, target, rate)
        elif self._nesterov:
            plain = proximal(objective, target, rate)
            parameters = ahead(plain, momentum, plain - state.last)
            changes["last"] = plain
        else:
            parameters = proximal(objective, ahead(target, momentum, state.parameters - state.last), rate)
            changes["last"] = state.parameters
        later = moved(state, parameters, objective(parameters), **changes)
        later.check_rise(later.value)
        return later
