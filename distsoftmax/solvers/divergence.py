"""Steps of a given length, and when they have diverged.

No rule can tell from values alone that they will not come down again, so while a run goes on the bar is where no run
that converges has been seen to get, nor can be expected to:

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
from dataclasses import dataclass

from distsoftmax.errors import Diverged
from distsoftmax.solvers.state import State

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
