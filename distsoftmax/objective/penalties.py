"""Penalties that are not smooth, and what the certificate needs of all penalties together.

    r(W) = l1 * ||W||_1 + group * sum_j ||W[:, j]||_2            (W: coef; the intercept is not penalised)

The group term is the l2,1 norm over classes: a feature enters for all classes or for none. Proximal operators:
N. Parikh and S. Boyd, "Proximal Algorithms", Foundations and Trends in Optimization 1(3), 2014, sections 6.5.2 and
6.5.4; that of the sum is soft thresholding followed by the groups' shrinkage (J. Friedman, T. Hastie and R.
Tibshirani, "A note on the group lasso and a sparse group lasso", 2010, section 3).

With the L2 term, Omega(W) = r(W) + l2/2 ||W||^2 has the conjugate

    Omega*(V) = sum_j max(||soft(V[:, j], l1)||_2 - group, 0)^2 / (2 l2),        soft(v, t) = sign(v) max(|v| - t, 0),

and without it Omega* is 0 where ||soft(V[:, j], l1)||_2 <= group for every j, infinite elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distsoftmax.arithmetic.parameters import column_norms, squared_norm, total

Floats = NDArray[np.float64]

ROUNDING = 1e-15  # how far a scale in closed form may be off, relatively
BISECTIONS = 60  # halvings of the interval from 0 to 1: to the last bit


@dataclass(frozen=True)
class SparsePenalty:
    """The penalty r; see `solvers.protocol.Penalty`. Parameters are (n_classes, n_features + 1), the intercept last.

    Attributes
    ----------
    l1, group : float
        0 or more, not both 0.
    """

    l1: float
    group: float

    def value(self, parameters: Floats) -> float:
        """Return r at the parameters."""
        coef = parameters[:, :-1]
        value = self.l1 * total(np.abs(coef)) if self.l1 else 0.0
        return value + (self.group * total(column_norms(coef)) if self.group else 0.0)

    def prox(self, parameters: Floats, size: float) -> Floats:
        """Return argmin over x of ||x - parameters||^2 / 2 + size * r(x), with exact zeros."""
        result: Floats = parameters.copy()
        coef = result[:, :-1]
        if self.l1:
            coef[...] = soft(coef, size * self.l1)
        if self.group:
            norms = column_norms(coef)
            keep = np.zeros_like(norms)
            np.divide(np.maximum(norms - size * self.group, 0.0), norms, out=keep, where=norms > 0)
            coef *= keep
        coef += 0.0  # -0 becomes 0
        return result

    def least_subgradient(self, parameters: Floats, gradient: Floats) -> Floats:
        """Return the element of least norm of gradient + (the subdifferential of r at the parameters)."""
        result: Floats = gradient.copy()
        coef, of_coef = parameters[:, :-1], result[:, :-1]
        if self.l1:
            # at 0 the subdifferential is [-l1, l1]
            of_coef[...] = np.where(coef == 0.0, soft(of_coef, self.l1), of_coef + self.l1 * np.sign(coef))
        if self.group:
            # where a whole column is 0 the group's subdifferential is a ball; elsewhere it is smooth
            norms = column_norms(coef)
            outside = column_norms(of_coef)
            shrink = np.zeros_like(norms)
            np.divide(np.maximum(outside - self.group, 0.0), outside, out=shrink, where=outside > 0)
            direction = np.divide(coef, norms, out=np.zeros_like(coef), where=norms > 0)
            of_coef[...] = np.where(norms > 0, of_coef + self.group * direction, of_coef * shrink)
        return result

    def conjugate(self, coef_gradient: Floats, l2: float) -> float:
        """Return Omega*(-coef_gradient) for l2 > 0."""
        excess = np.maximum(self._strength(coef_gradient) - self.group, 0.0)
        return squared_norm(excess) / (2 * l2)

    def feasible_scale(self, coef_gradient: Floats) -> float:
        """Return nearly the largest s in [0, 1] with Omega*(-s * coef_gradient) = 0 for l2 = 0."""
        if self._is_feasible(coef_gradient):
            return 1.0
        if self.l1 == 0 or self.group == 0:  # in closed form, but for the last bits
            strengths = np.abs(coef_gradient) if self.group == 0 else column_norms(coef_gradient)
            scale, less = (self.l1 + self.group) / float(strengths.max()), ROUNDING
            while not self._is_feasible(scale * coef_gradient):
                scale, less = scale * (1 - less), 2 * less
            return scale
        low, high = 0.0, 1.0
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            if self._is_feasible(middle * coef_gradient):
                low = middle
            else:
                high = middle
        return low

    def _strength(self, coef_gradient: Floats) -> Floats:
        """Return ||soft(column, l1)||_2 of every column."""
        return column_norms(soft(coef_gradient, self.l1) if self.l1 else coef_gradient)

    def _is_feasible(self, coef_gradient: Floats) -> bool:
        return bool(np.all(self._strength(coef_gradient) <= self.group))


def soft(values: Floats, threshold: float) -> Floats:
    """Return sign(values) * max(|values| - threshold, 0)."""
    result: Floats = np.abs(values)
    result -= threshold
    np.maximum(result, 0.0, out=result)
    return np.copysign(result, values, out=result)
