"""Newton's steps towards points where more can be proven; see `certification.py`.

Where a penalty is not smooth (L1, group), Newton's step is that of the entries that are not 0, or whose least
subgradient is not: on that face the penalty is smooth, with the curvature group / ||w|| (I - u u^T) for the column w =
||w|| u of coef. Entries that would leave their orthant, and columns that would turn round, become 0, and the step of
the others is solved for anew.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from distsoftmax.arithmetic.arrays import Doubles
from distsoftmax.arithmetic.parameters import cholesky, cholesky_solve, column_norms, norm, squared_norm, total
from distsoftmax.config import ObjectiveConfig
from distsoftmax.objective.cross_entropy import Fit
from distsoftmax.objective.penalty import Penalty
from distsoftmax.objective.rounding import RoundingModel
from distsoftmax.solvers.conjugate_gradients import steihaug
from distsoftmax.solvers.protocol import Curvature, Preconditioner

RESIDUAL = 0.05  # fraction of the gap removed by a Newton step that its residual may cost
MOST_PRODUCTS = 100  # products with the hessian, in a Newton step
LEAST_CURVATURE = 2.0**-1000  # of an intercept, where it is divided by
DAMPING = 1e-12  # of the hessian with respect to the intercepts, brought to a diagonal of ones


class Certifiable(Protocol):
    """What certification needs of an objective. Every call but those of attributes may be collective."""

    @property
    def config(self) -> ObjectiveConfig:
        """The penalties, and whether the intercepts are free."""

    @property
    def class_means(self) -> Doubles:
        """mean_i of e_y(i) (x_i, 1)^T, (n_classes, n_features + 1), where there is a penalty."""

    @property
    def rounding_model(self) -> RoundingModel:
        """What the errors of `fit` follow from."""

    def fit(self, parameters: Doubles) -> Fit:
        """Evaluate the mean cross-entropy and its gradient in float64."""

    def curvature(self, parameters: Doubles) -> Curvature:
        """Return the hessian of the smooth part, in any type."""

    def preconditioner(self, parameters: Doubles) -> Preconditioner | None:
        """Return about the inverse of that."""

    def intercept_hessian(self, parameters: Doubles) -> Doubles:
        """Return the hessian with respect to the intercepts, (n_classes, n_classes), in any type."""


def after_intercept_step(objective: Certifiable, point: Doubles, gradient: Doubles) -> Doubles:
    """Return where Newton's step of the intercepts alone leads to. Collective: one Allreduce."""
    point = point.copy()
    hessian = objective.intercept_hessian(point)
    scale = np.sqrt(np.maximum(np.diag(hessian), LEAST_CURVATURE))
    null = scale / math.sqrt(squared_norm(scale))  # intercepts that all rise together change nothing
    matrix = hessian / scale / scale[:, None] + null * null[:, None]
    matrix[np.diag_indices_from(matrix)] += DAMPING
    factor = cholesky(matrix)
    if factor is not None:
        step = cholesky_solve(factor, gradient[:, -1] / scale) / scale
        point[:, -1] -= step / max(float(step.max() - step.min()), 1.0)
    return point


def after_newton_step(
    objective: Certifiable, point: Doubles, gradient: Doubles, value: float, most_products: int
) -> tuple[Doubles, int]:
    """Solve for Newton's step until the rest costs the bound little of what the step gains. Collective.

    Parameters
    ----------
    gradient, value
        Of the smooth part, and of the objective.
    most_products : int
        With the hessian, above 0.

    Returns
    -------
    Where the step leads to, and the products that it took.
    """
    config = objective.config
    curvature, precondition = _Counted(objective.curvature(point)), objective.preconditioner(point)
    gradient, limit = _centred(gradient), config.l1 + config.group
    most_products = min(most_products, MOST_PRODUCTS)

    def is_enough(residual: Doubles, _: float, decrease: float) -> bool:
        # the bound rises by |residual|^2 / (2 l2); without an L2 term by about |residual| / limit of the objective
        tolerated = RESIDUAL * limit * decrease / value
        return squared_norm(residual) <= max(2 * RESIDUAL * config.l2 * decrease, tolerated * tolerated)

    if not config.sparse:
        step = steihaug(curvature, gradient, precondition, math.inf, is_enough, most_products).step
        return point + step, curvature.n_products
    if config.l2 == 0 and config.group == 0:
        point = _shifted(point)
    slope = Penalty(config).least_subgradient(point, gradient)
    face = _Face.of(point, slope, curvature, config)
    radius, step = 1.0 + norm(point), np.zeros_like(point)
    while (remaining := most_products - curvature.n_products) > 0:
        rest = face.restrict(slope if not step.any() else slope + face.product(step))
        restricted = None if precondition is None else face.restricted(precondition)
        step += steihaug(face, rest, restricted, radius, is_enough, remaining).step
        outside = face.outside(point + step)
        step[outside] = -point[outside]
        if not outside.any():
            break
        face = face.without(outside)
    return point + step, curvature.n_products


class _Counted:
    """A curvature that counts its products, and rounds none of them into the null space; see `_centred`."""

    def __init__(self, curvature: Curvature) -> None:
        self._curvature = curvature
        self.n_products = 0

    def product(self, direction: Doubles) -> Doubles:
        """Return the product with a direction. As collective as the curvature's."""
        self.n_products += 1
        return _centred(self._curvature.product(direction))


def _centred(gradient: Doubles) -> Doubles:
    """Return a gradient whose intercepts' part has the sum 0, as it has but for rounding.

    Intercepts that all rise together change nothing. Conjugate gradients would go far along them.
    """
    gradient = gradient.copy()
    gradient[:, -1] -= total(gradient[:, -1]) / len(gradient)
    return gradient


def _shifted(point: Doubles) -> Doubles:
    """Return parameters with the same scores, less what all classes share, and with the least ||coef||_1.

    Each column less the number nearest 0 between its two middle ones: else the hessian is singular on the face.
    """
    ordered = np.sort(point, axis=0)
    low, high = ordered[(len(point) - 1) // 2], ordered[len(point) // 2]
    shift = np.maximum(low, 0.0) + np.minimum(high, 0.0)
    shift[-1] = 0.0
    shifted: Doubles = point - shift
    return shifted


@dataclass(frozen=True)
class _Face:
    """The entries that may change, and the hessian restricted to them; see `solvers.protocol.Curvature`.

    Attributes
    ----------
    active : ndarray of bool, (n_classes, n_features + 1)
    signs : (n_classes, n_features)
        Of coef, and of what may become of its zeros.
    units : (n_classes, n_features)
        The columns of coef, of norm 1 where they are not 0.
    curvatures : (n_features,)
        group / norm of the columns that are not 0.
    """

    smooth: Curvature
    active: NDArray[np.bool_]
    signs: Doubles
    units: Doubles
    curvatures: Doubles
    config: ObjectiveConfig

    @classmethod
    def of(cls, point: Doubles, slope: Doubles, smooth: Curvature, config: ObjectiveConfig) -> _Face:
        """Return the face of a point, and what the slopes add to it."""
        norms = column_norms(point[:, :-1])
        inverse = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
        active = (point != 0) | (slope != 0)
        active[:, -1] = config.intercept
        if config.l2 == 0 and config.group == 0:
            # a number added to a whole column changes nothing: hold its least entry
            least = np.abs(point).argmin(axis=0)
            active[least, np.arange(point.shape[1])] &= ~active.all(axis=0)
        signs = np.where(point != 0, np.sign(point), -np.sign(slope))[:, :-1]
        return cls(smooth, active, signs, point[:, :-1] * inverse, config.group * inverse, config)

    def restrict(self, direction: Doubles) -> Doubles:
        """Return a direction without what may not change."""
        return np.where(self.active, direction, 0.0)

    def restricted(self, precondition: Preconditioner) -> Preconditioner:
        """Return a preconditioner for directions in the face."""
        return lambda residual: self.restrict(precondition(residual))

    def without(self, entries: NDArray[np.bool_]) -> _Face:
        """Return the face with fewer entries that may change."""
        return replace(self, active=self.active & ~entries)

    def product(self, direction: Doubles) -> Doubles:
        """Return the product of the restricted hessian with a direction. As collective as the smooth part's."""
        product = self.smooth.product(direction)
        if self.config.group > 0:
            product[:, :-1] += self.curvatures * (direction[:, :-1] - self.units * self._along(direction))
        return self.restrict(product)

    def outside(self, point: Doubles) -> NDArray[np.bool_]:
        """Return which entries of a point that may change are beyond the face's edge."""
        outside = np.zeros_like(self.active)
        if self.config.l1 > 0:
            outside[:, :-1] = np.sign(point[:, :-1]) != self.signs
        if self.config.group > 0:
            outside[:, :-1] |= (self._along(point) <= 0) & (self.curvatures > 0)
        return outside & self.active

    def _along(self, direction: Doubles) -> Doubles:
        """Return how far a direction goes along each column's unit, (n_features,): one chain of additions."""
        along = np.zeros_like(self.curvatures)
        for unit, row in zip(self.units, direction[:, :-1], strict=True):
            along += unit * row
        return along
