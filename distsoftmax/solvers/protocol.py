"""What solvers need of an objective.

An objective is F = f + r: f is smooth, r a penalty that need not be (L1, group), known by its proximal operator.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Preconditioner: TypeAlias = Callable[[Array], Array]
"""Maps a gradient to nearly (hessian)^-1 gradient: linear, symmetric, positive definite."""


@dataclass(frozen=True)
class Evaluation:
    """An objective at one point.

    Attributes
    ----------
    value : float
        F; inf where it is not finite there.
    gradient : ndarray of float64
        Of the smooth part f, of the parameters' shape.
    gradient_norm : float
        The Euclidean norm of the least subgradient of F: that of `gradient` where r is 0.
    lower_bound : float
        An estimate of the optimum from below, which `Objective.certify` can prove; -inf where there is none. It would
        be a proof if nothing was rounded.
    reachable_bound : float
        About the lower bound that `Objective.certify` would give; -inf where it gives none.
    rounding : float
        An estimate of how far rounding may have moved `value`.
    """

    value: float
    gradient: Array
    gradient_norm: float
    lower_bound: float = -math.inf
    reachable_bound: float = -math.inf
    rounding: float = 0.0

    @classmethod
    def not_finite(cls, parameters: Array) -> Evaluation:
        """Return what an objective says where it is not finite."""
        return cls(math.inf, np.full(parameters.shape, math.nan), math.nan)


class Penalty(Protocol):
    """A convex function r of the parameters that need not be smooth."""

    def value(self, parameters: Array) -> float:
        """Return r at the parameters."""

    def prox(self, parameters: Array, size: float) -> Array:
        """Return the proximal operator: argmin over x of |x - parameters|^2 / 2 + size * r(x), as a new array."""

    def least_subgradient(self, parameters: Array, gradient: Array) -> Array:
        """Return the element of least norm of gradient + (the subdifferential of r at the parameters)."""

    def prox_column(self, column: Array, feature: int, size: float) -> Array:
        """Return what `prox` makes of one column, which must not be the last."""

    def reduced(self, parameters: Array) -> Array:
        """Return parameters for which F is no larger, by a change that f tells nothing of but for smooth penalties."""

    @property
    def has_kinks(self) -> bool:
        """Whether r has a kink wherever an entry is 0."""

    def curvature(self, parameters: Array) -> Array | None:
        """Return the hessian of r at the entries that are not 0, (size, size), 0 at the others; None where it is 0."""

    def in_units(self, unit: Array) -> Penalty:
        """Return r as a function of the parameters times a unit, one for each of the last axis."""


class Units(Protocol):
    """Parameters in other units, in which no feature is larger than another or far from 0: a linear change of them.

    Attributes
    ----------
    unit : ndarray of float64
        What a parameter is multiplied by, one for each of the last axis; to an intercept more is added.
    """

    unit: Array

    def parameters(self, parameters: Array) -> Array:
        """Return parameters in these units."""

    def gradient(self, gradient: Array) -> Array:
        """Return a gradient in these units."""

    def step(self, own: Array) -> Array:
        """Return parameters, or a step, of these units in those of the objective."""

    def gradient_of(self, own: Array) -> Array:
        """Return a gradient of these units in those of the objective."""


@dataclass(frozen=True)
class HessianModel:
    """The hessian of f around a point as a matrix, of a sample of the rows or of all.

    Attributes
    ----------
    matrix : ndarray of float64, (size, size)
        In `units`.
    mean : float
        About the mean of its eigenvalues.
    units : Units
    """

    matrix: Array
    mean: float
    units: Units


class Curvature(Protocol):
    """The hessian of f at one point."""

    def product(self, direction: Array) -> Array:
        """Return the hessian's product with a direction."""


@dataclass(frozen=True)
class Refits:
    """At which steps an objective's preconditioner is worth fitting anew.

    Attributes
    ----------
    interval : int
        How many steps of an evaluation each take half the time of a fit, or more. Above 0.
    exact : bool
        Whether a fit is the inverse of the hessian itself, not of a sample's.
    """

    interval: int
    exact: bool

    def is_due(self, step: int) -> bool:
        """Return whether to fit anew at a step: every so many, or if it is not exact, at 1, 3, 9, ... times so many.

        An exact fit always helps, so as much time goes into fits as into steps, or half of it. Others help while the
        hessian moves, which it does most in the beginning.
        """
        times, rest = divmod(step, self.interval)
        return times > 0 and rest == 0 and (self.exact or is_power_of_three(times))


def is_power_of_three(number: int) -> bool:
    """Return whether a number of 1 or more is 1, 3, 9, 27, ..."""
    while number % 3 == 0:
        number //= 3
    return number == 1


@dataclass(frozen=True)
class BatchGradient:
    """An unbiased estimate of f, inf where it is not finite, and of its gradient, from a mini-batch of `n_samples`."""

    value: float
    gradient: Array
    n_samples: int


class MiniBatches(Protocol):
    """The mini-batches of an objective: those of an epoch hold every sample once, and each is drawn at random.

    They depend on the objective's seed and on the arguments alone.
    """

    n_batches: int

    def gradient(self, parameters: Array, epoch: int, batch: int) -> BatchGradient:
        """Return the estimate from a mini-batch of an epoch, both counted from 0."""

    def smoothness(self) -> float:
        """Return L such that steps of 1 / (2 L) are safe, the expected smoothness of the estimates."""


@dataclass(frozen=True)
class Certificate:
    """What is proven of an objective F at one point, rounding included.

    Attributes
    ----------
    value, error : float
        |F - value| <= error.
    lower_bound : float
        No value of F anywhere is below it; -inf where there is no bound.
    gap : float
        F is at most so far above its optimum; inf where there is no bound. It may be much less than
        value - lower_bound + error, as the errors of the value need not enter it.
    floor : float
        About the least gap that can be proven there in this arithmetic.
    """

    value: float
    error: float
    lower_bound: float
    gap: float
    floor: float


class Objective(Protocol):
    """A function to minimise. A call may be collective, and gives the same on every rank.

    A solver that uses no more than `penalty` and the value and gradient at points works for any function.
    """

    @property
    def penalty(self) -> Penalty | None:
        """r; None where it is 0."""

    @property
    def n_samples(self) -> int:
        """The number of samples, of which the objective is a mean."""

    def __call__(self, parameters: Array) -> Evaluation:
        """Return the objective at a point."""

    @property
    def refits(self) -> Refits | None:
        """When a preconditioner is worth fitting anew; None where there is none."""

    def preconditioner(self, parameters: Array, *, refined: bool = True) -> Preconditioner | None:
        """Return a preconditioner that fits f around the parameters; None where there is none.

        It depends on the arguments alone, and the last one is kept, so asking again is cheap.

        Parameters
        ----------
        refined : bool
            Whether it is worth the time of `refits.interval` steps and more; else it is one to begin with.
        """

    @property
    def units(self) -> Units | None:
        """Units in which no feature is larger than another or far from 0; None where they are not known."""

    def hessian_model(self, parameters: Array) -> HessianModel | None:
        """Return the hessian of f around the parameters as a matrix; None where that is too large. Kept as above."""

    def curvature(self, parameters: Array) -> Curvature:
        """Return the hessian of f at a point."""

    def mini_batches(self, size: int) -> MiniBatches:
        """Return the mini-batches of so many samples, the last of an epoch of those that are left."""

    def certify(self, parameters: Array, enough: float = 0.0) -> Certificate:
        """Return what can be proven at a point, for a few more passes; no more of them once the gap is `enough`."""
