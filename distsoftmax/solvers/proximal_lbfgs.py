"""L-BFGS for objectives with a penalty that is not smooth: L1, group, and either with L2.

PANOC: L. Stella, A. Themelis, P. Sopasakis and P. Patrinos, "A simple and efficient algorithm for nonlinear model
predictive control", IEEE Conference on Decision and Control 2017, algorithm 1. With T(x) = prox(x - t grad f(x), t), a
minimiser of F = f + r is a root of the residual x - T(x). A step goes

    from x to x - (1 - tau) (x - T(x)) - tau H (x - T(x)),

where H is the L-BFGS estimate of the residual's inverse Jacobian, and tau falls from 1 to 0, the plain proximal step,
until the forward-backward envelope of F falls enough:

    envelope(x) = f(x) + <grad f(x), T(x) - x> + |T(x) - x|^2 / (2 t) + r(T(x)).

All is in units in which no feature is larger than another or far from 0, where such are known: then t may be as long in
all of them. A trial costs one evaluation. The size t follows the curvature met
(`accelerated_gradient.curvature_between`). The solution is T(x): the proximal operator makes its zeros exact.

Where the hessian is at hand as a matrix, and a run is long enough to be worth one (`Refits.interval`), steps are by
`proximal_newton.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from distsoftmax.arithmetic.parameters import axpy, dot, norm
from distsoftmax.solvers.accelerated_gradient import FIRST_MOVE, LEAST_CURVATURE, curvature_between
from distsoftmax.solvers.lbfgs import two_loop, with_pair
from distsoftmax.solvers.line_search import noise
from distsoftmax.solvers.protocol import Array, Evaluation, HessianModel, Objective, Penalty
from distsoftmax.solvers.proximal_newton import proximal_newton
from distsoftmax.solvers.state import Solver, State, ahead, first_state, moved

BY_PAIRS = 32  # steps by pairs, at least: many runs end before a step by the hessian would take less time than these
CONTRACTION = 0.95  # the product of t and the largest curvature met; it must be below 1
LEAST_TAU = 1 / 8  # below this tau the plain proximal step is taken
NEGLIGIBLE = 1e-6  # multiple of what rounding may hide; small, as without L2 the certificate needs small residuals
DECREASE = 1e-3  # fraction of |x - T(x)|^2 / t by which the envelope must fall


@dataclass(frozen=True, kw_only=True)
class ProximalLbfgsState(State):
    """The state of `ProximalLbfgs`.

    Attributes
    ----------
    proximal : ndarray of float64
        T(x), x being `parameters`; x itself after a whole step by the hessian.
    own_steps, own_changes : sequence of ndarray
        The last steps and the residual's changes over them, in the units of the features, as t is too; the oldest
        first, at most `MEMORY`.
    """

    proximal: Array
    own_steps: Sequence[Array]
    own_changes: Sequence[Array]

    @property
    def solution(self) -> Array:
        """T(x), with its exact zeros; x itself after a whole step by the hessian, which has them, too."""
        return self.proximal


class ProximalLbfgs(Solver[ProximalLbfgsState]):
    """Quasi-Newton steps on the proximal residual, then steps by the hessian. One evaluation a step, seldom more."""

    state_type = ProximalLbfgsState

    def init(self, objective: Objective, parameters: Array) -> ProximalLbfgsState:
        """See `Solver.init`. Two evaluations: the second measures the curvature along the gradient."""
        first = first_state(objective, parameters)
        own = _InUnits(objective)
        here = own.into(ProximalLbfgsState(**vars(first), proximal=parameters, own_steps=(), own_changes=()))
        gradient = here.evaluation.gradient
        length, size = norm(gradient), 1.0
        if length > 0:
            point = ahead(here.parameters, -FIRST_MOVE / length, gradient)
            curvature = curvature_between(here, point, own(point))
            size = CONTRACTION / curvature if curvature > LEAST_CURVATURE else FIRST_MOVE / length
        here = _shortened(here, own.penalty, size, here.lower_bound)
        return own.out_of(replace(here, exhausted=bool(np.array_equal(here.proximal, here.parameters))))

    def step(self, objective: Objective, state: ProximalLbfgsState) -> ProximalLbfgsState:
        """See `Solver.step`."""
        refits = objective.refits
        if refits is None or state.step < max(refits.interval, BY_PAIRS):
            return self._quasi_newton(objective, state)
        model = objective.hessian_model(state.parameters)
        return self._quasi_newton(objective, state) if model is None else self._newton(objective, state, model)

    def _newton(self, objective: Objective, state: ProximalLbfgsState, model: HessianModel) -> ProximalLbfgsState:
        """Return the state after a step by the hessian, or after one by pairs where that leads nowhere.

        A whole step leads to a point with exact zeros, so that is the solution; else it is a proximal step away.
        """
        reached = proximal_newton(objective, _penalty(objective), state.parameters, state.evaluation, model)
        if reached is None:
            return self._quasi_newton(objective, state)
        later = moved(state, reached.point, reached.evaluation, proximal=reached.point, own_steps=(), own_changes=())
        if reached.is_whole:
            return later
        own = _InUnits(objective)
        here = own.into(later)
        return own.out_of(_shortened(here, own.penalty, here.step_size, here.lower_bound))

    def _quasi_newton(self, objective: Objective, state: ProximalLbfgsState) -> ProximalLbfgsState:
        """Return the state after a step by pairs."""
        own = _InUnits(objective)
        later = own.into(state)
        if np.array_equal(later.proximal, later.parameters):  # after a step by the hessian: none is known
            later = _shortened(later, own.penalty, later.step_size, later.lower_bound)
        while later.step == state.step:
            later = self._attempt(own, later)
        return own.out_of(later)

    def _attempt(self, objective: _InUnits, state: ProximalLbfgsState) -> ProximalLbfgsState:
        """Return the next state, or this one with a shorter t where it turns out to be too long."""
        penalty, size, here = objective.penalty, state.step_size, state.evaluation
        residual = state.parameters - state.proximal
        scale = dot(residual, residual) / size  # of the decrease of the envelope
        if not scale > NEGLIGIBLE * noise(here, here):
            return replace(state, step=state.step + 1, exhausted=True)
        before = _envelope(penalty, state.parameters, here, state.proximal, size)
        quasi_newton = two_loop(state.own_steps, state.own_changes, residual)
        tau = 1.0 if len(state.own_steps) else 0.0
        lower_bound = state.lower_bound
        while True:
            point = _between(state, residual, quasi_newton, tau)
            reached = objective(point)
            lower_bound = max(lower_bound, reached.lower_bound)
            curvature = curvature_between(state, point, reached)
            if size * curvature > 1:  # t is too long for what was met, and the envelope may have no minimum
                return _shortened(state, penalty, CONTRACTION / curvature, lower_bound)
            hidden = False
            if math.isfinite(reached.value):
                proximal = penalty.prox(ahead(point, -size, reached.gradient), size)
                after = _envelope(penalty, point, reached, proximal, size)
                hidden = abs(after - before) <= noise(here, reached)
                closer = norm(point - proximal) < norm(residual)
                if after <= before - DECREASE * scale or (hidden and closer):
                    break
            if tau == 0.0 and hidden:
                return replace(state, step=state.step + 1, lower_bound=lower_bound, exhausted=True)
            if tau == 0.0:
                return _shortened(state, penalty, size / 2, lower_bound)
            tau = tau / 2 if tau > LEAST_TAU else 0.0
        steps, changes = with_pair(
            state.own_steps, state.own_changes, point - state.parameters, point - proximal - residual
        )
        return moved(
            state, point, reached, lower_bound=lower_bound, proximal=proximal, own_steps=steps, own_changes=changes
        )


class _InUnits:
    """An objective in units in which no feature is larger than another, where it knows such; and states in these.

    Attributes
    ----------
    penalty : Penalty
        r as a function of parameters in these units.
    """

    def __init__(self, objective: Objective) -> None:
        self._objective, self._units = objective, objective.units
        penalty = _penalty(objective)
        self.penalty = penalty if self._units is None else penalty.in_units(self._units.unit)

    def __call__(self, parameters: Array) -> Evaluation:
        units = self._units
        if units is None:
            return self._objective(parameters)
        evaluation = self._objective(units.step(parameters))
        return replace(evaluation, gradient=units.gradient(evaluation.gradient))

    def into(self, state: ProximalLbfgsState) -> ProximalLbfgsState:
        """Return a state in these units. Pairs are in these always."""
        units, evaluation = self._units, state.evaluation
        if units is None:
            return state
        return replace(
            state,
            parameters=units.parameters(state.parameters),
            proximal=units.parameters(state.proximal),
            evaluation=replace(evaluation, gradient=units.gradient(evaluation.gradient)),
        )

    def out_of(self, own: ProximalLbfgsState) -> ProximalLbfgsState:
        """Return a state in the objective's units; what is 0 stays 0."""
        units, evaluation = self._units, own.evaluation
        if units is None:
            return own
        return replace(
            own,
            parameters=units.step(own.parameters),
            proximal=units.step(own.proximal),
            evaluation=replace(evaluation, gradient=units.gradient_of(evaluation.gradient)),
        )


def _between(state: ProximalLbfgsState, residual: Array, quasi_newton: Array, tau: float) -> Array:
    """Return the point that tau takes: from the plain proximal step at 0 to the quasi-Newton step at 1."""
    if tau == 0.0:
        return state.proximal
    point = ahead(state.parameters, -(1 - tau), residual)
    axpy(-tau, quasi_newton, point)
    return point


def _shortened(state: ProximalLbfgsState, penalty: Penalty, size: float, lower_bound: float) -> ProximalLbfgsState:
    """Return the state with a shorter t; the pairs are those of another residual then."""
    proximal = penalty.prox(ahead(state.parameters, -size, state.evaluation.gradient), size)
    return replace(state, proximal=proximal, step_size=size, lower_bound=lower_bound, own_steps=(), own_changes=())


def _envelope(penalty: Penalty, point: Array, evaluation: Evaluation, proximal: Array, size: float) -> float:
    """Return the forward-backward envelope at a point, of which F's evaluation and T(x) are given."""
    way = proximal - point
    smooth = evaluation.value - penalty.value(point) + dot(evaluation.gradient, way) + dot(way, way) / (2 * size)
    return smooth + penalty.value(proximal)


def _penalty(objective: Objective) -> Penalty:
    assert objective.penalty is not None, "without a penalty, take Lbfgs"
    return objective.penalty
