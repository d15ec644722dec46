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

When steps that are too long have diverged, no rule can tell from values alone, which may come down again. So while a
run goes on the bar is where no run that converges has been seen to get, nor can be expected to:

- On a quadratic a momentum of m with a learning rate that converges never makes the error along a curvature more than
  (1 + m) / (1 - m) times what it was (both roots of the recurrence are real and near -1 and -m there; elsewhere it is
  less), so the objective never rises above 4 / (1 - m)^2 times the first one.
- The cross-entropy rises no faster than linearly. A step of a learning rate that is far too large may raise it by
  about rate * |gradient|^2, and where the classes can be separated it comes down again all the same (J. Wu, P. L.
  Bartlett, M. Telgarsky and B. Yu, "Large stepsize gradient descent for logistic loss", COLT 2024). Meanwhile the
  distance to the start grows as the square root of the number of steps, as a perceptron's does.

`FAR` is room beyond these for gradients that grow (a thousandfold) and for that square root (of ten thousand steps).
What diverges, does so geometrically, and passes any bar. A run that is over is another matter: it has no steps left to
come down, so at its end a much lower bar serves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from distsoftmax.errors import Diverged
from distsoftmax.solvers.protocol import Array, Objective
from distsoftmax.solvers.state import Solver, State, ahead, first_state, moved, proximal

FAR = 1e8  # times the scales above: no run comes back from so high
FAR_AT_THE_END = 10.0  # times the first value: a run that is over must not end above this


@dataclass(frozen=True, kw_only=True)
class GivenRateState(State):
    """The state of steps whose length is given, not found by the solver.

    Attributes
    ----------
    learning_rate, momentum : float
        Of the steps, before any schedule.
    """

    learning_rate: float
    momentum: float

    @property
    def when(self) -> str:
        """The step, as a message names it."""
        return f"step {self.step}"

    @property
    def remedy(self) -> str:
        """What to do where the steps diverge."""
        without = " without --momentum" if self.momentum else ""
        return f"--learning-rate {self.learning_rate:g} is too large; take a smaller one, or auto{without}"

    def check_rise(self, value: float) -> None:
        """Refuse to go on from a value of the objective that will not come down again.

        Raises
        ------
        Diverged
            On every rank: it is not finite, or that high.
        """
        scale = abs(self.first_value) + self.learning_rate * self.first_gradient_norm * self.first_gradient_norm
        if not math.isfinite(value) or value * (1 - self.momentum) * (1 - self.momentum) / 4 > FAR * scale:
            raise self._diverged(value)

    def check_end(self) -> None:
        """See `State.check_end`."""
        if not self.latest_value <= FAR_AT_THE_END * abs(self.first_value):
            raise self._diverged(self.latest_value)

    def _diverged(self, value: float) -> Diverged:
        level = f"has risen to {value:.6g}" if math.isfinite(value) else "is not finite"
        return Diverged(
            f"the objective {level} after {self.when}, before the first step it was {self.first_value:.6g}: "
            f"{self.remedy}"
        ).on_all_ranks()


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
