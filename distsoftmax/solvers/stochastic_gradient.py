"""Stochastic gradient descent on mini-batches.

One step looks at one mini-batch. With g an unbiased estimate of the smooth part's gradient, a the learning rate of the
step (`schedule.py`), m the momentum and prox the penalty's proximal operator:

    plain      x+ = prox(x - a g(x))
    momentum   x+ = prox(x - a g(x) + m (x - x-))
    nesterov   x+ = prox(y - a g(y)),   y = x + m (x - x-)

(`gradient_descent.py` has the sources.) The momentum keeps moves, not gradients, so that a change of the learning rate
acts on those to come alone (P. Goyal et al., 2017, section 3).

With averaging the solution is the mean of the iterates of the second half of the run: B. T. Polyak and A. B. Juditsky,
"Acceleration of stochastic approximation by averaging", SIAM J. Control Optim. 30(4), 1992; of a suffix, A. Rakhlin, O.
Shamir and K. Sridharan, "Making gradient descent optimal for strongly convex stochastic optimization", ICML 2012.

The automatic learning rate is 1 / (2 L), L the expected smoothness of the estimates: R. M. Gower, N. Loizou, X. Qian,
A. Sailanbayev, E. Shulgin and P. Richtarik, "SGD: General analysis and improved rates", ICML 2019, theorem 3.1.

The objective itself is evaluated at the solution at the end of each epoch, and the state keeps that evaluation until
the next.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from distsoftmax.arithmetic.parameters import axpy
from distsoftmax.config import SolverConfig
from distsoftmax.solvers.gradient_descent import GivenRateState
from distsoftmax.solvers.protocol import Array, Objective
from distsoftmax.solvers.schedule import batch_size, learning_rate_factor
from distsoftmax.solvers.state import Solver, ahead, evaluated, first_state, proximal


@dataclass(frozen=True, kw_only=True)
class SgdState(GivenRateState):
    """The state of `StochasticGradient`; `evaluation` is the last one of all samples.

    Attributes
    ----------
    last : ndarray of float64
        x-, the iterate one step earlier.
    average : ndarray of float64
        The mean of the iterates, from the second half on; of size 0 where none is wanted.
    epoch : int
        That of the last step, from 1; 0 before the first.
    batch_value : float
        The mini-batch's estimate of the objective, where the last step took its gradient.
    batch_samples : int
        The samples in that mini-batch; 0 before the first step.
    current : bool
        See `is_current`.
    """

    last: Array
    average: Array
    epoch: int
    batch_value: float
    batch_samples: int
    current: bool

    @property
    def solution(self) -> Array:
        """The iterate, or the mean of them."""
        return self.average if self.average.size else self.parameters

    @property
    def measured(self) -> Array:
        """The solution, once an epoch is over."""
        return self.solution

    @property
    def is_current(self) -> bool:
        """Whether the last full evaluation was at `solution`."""
        return self.current

    @property
    def latest_value(self) -> float:
        """The last full evaluation's value, or the mini-batch's estimate where that is newer."""
        return self.value if self.current else self.batch_value

    @property
    def n_sampled(self) -> int | None:
        """The samples in the last mini-batch."""
        return self.batch_samples or None

    def brought_up_to_date(self, objective: Objective) -> SgdState:
        """See `State.brought_up_to_date`."""
        if self.current:
            return self
        reached = objective(self.solution)
        self.check_rise(reached.value)
        return evaluated(self, reached, current=True)

    @property
    def when(self) -> str:
        """The step and the epoch, as a message names them."""
        return f"step {self.step}, in epoch {self.epoch}"

    @property
    def remedy(self) -> str:
        """See `GivenRateState.remedy`."""
        return (
            f"the learning rate {self.learning_rate:g} is too large; take a smaller --learning-rate, or auto without "
            "--momentum"
        )


class StochasticGradient(Solver[SgdState]):
    """Steps along the gradients of mini-batches.

    Parameters
    ----------
    config : SolverConfig
        Of it, what concerns sgd.
    """

    state_type = SgdState

    def __init__(self, config: SolverConfig) -> None:
        self._config = config

    def init(self, objective: Objective, parameters: Array) -> SgdState:
        """See `Solver.init`.

        Raises
        ------
        InputError
            On every rank: a mini-batch would hold more than all samples, or drawing them is out of the question.
        Diverged
            The objective is not finite there.
        """
        config = self._config
        size = batch_size(config, objective.n_samples)
        batches = objective.mini_batches(size)
        first = first_state(objective, parameters)
        if isinstance(config.learning_rate, str):
            rate = 1 / (2 * batches.smoothness())
        else:
            rate = config.learning_rate * (size / config.linear_scaling if config.linear_scaling else 1.0)
        return SgdState(
            **vars(first),
            last=parameters,
            average=parameters if config.average else np.zeros((0, 0)),
            learning_rate=rate,
            momentum=config.momentum,
            epoch=0,
            batch_value=first.value,
            batch_samples=0,
            current=True,
        )

    def step(self, objective: Objective, state: SgdState) -> SgdState:
        """See `Solver.step`. One mini-batch, and at the end of an epoch one evaluation.

        Raises
        ------
        Diverged
            The objective is not finite, or so high that it will not come down again.
        """
        config = self._config
        batches = objective.mini_batches(batch_size(config, objective.n_samples))
        epoch, batch = divmod(state.step, batches.n_batches)
        size = state.learning_rate * learning_rate_factor(config, state.step, batches.n_batches)
        point, move = state.parameters, state.parameters - state.last
        if config.nesterov:
            point = ahead(point, config.momentum, move)
        estimate = batches.gradient(point, epoch, batch)
        replace(state, epoch=epoch + 1).check_rise(estimate.value)
        target = ahead(point, -size, estimate.gradient)
        if not config.nesterov:
            axpy(config.momentum, move, target)
        parameters = proximal(objective, target, size)
        value = estimate.value if objective.penalty is None else estimate.value + objective.penalty.value(point)
        state = replace(
            state,
            step=state.step + 1,
            parameters=parameters,
            last=state.parameters,
            average=self._averaged(state, parameters, batches.n_batches),
            step_size=size,
            epoch=epoch + 1,
            batch_value=value,
            batch_samples=estimate.n_samples,
            current=False,
        )
        return state if batch < batches.n_batches - 1 else state.brought_up_to_date(objective)

    def _averaged(self, state: SgdState, parameters: Array, n_batches: int) -> Array:
        """Return the mean of the iterates with one more; before the second half, that one."""
        if not self._config.average:
            return state.average
        count = state.step + 1 - self._config.epochs * n_batches // 2
        return parameters if count <= 1 else state.average + (parameters - state.average) / count
