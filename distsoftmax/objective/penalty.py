"""What is added to the data fit: the L2 term, which is smooth, and r, which need not be.

    Omega(W) = l2/2 * ||W||^2 + r(W),    r(W) = l1 * ||W||_1 + group * sum_j ||W[:, j]||_2

W is coef; the intercept is not penalised. The group term is the l2,1 norm over classes: a feature enters for all
classes or for none. Proximal operators: N. Parikh and S. Boyd, "Proximal Algorithms", Foundations and Trends in
Optimization 1(3), 2014, sections 6.5.2 and 6.5.4; that of the sum is soft thresholding followed by the groups'
shrinkage (J. Friedman, T. Hastie and R. Tibshirani, "A note on the group lasso and a sparse group lasso", 2010, section
3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from distsoftmax.arithmetic.arrays import Doubles
from distsoftmax.arithmetic.parameters import axpy, column_norms, squared_norm, total
from distsoftmax.config import ObjectiveConfig


@dataclass(frozen=True)
class Penalty:
    """The penalty of softmax regression. Parameters are (n_classes, n_features + 1), the intercept last.

    `value`, `prox` and `least_subgradient` are those of r alone: see `solvers.protocol.Penalty`.
    """

    config: ObjectiveConfig

    def smooth_value(self, parameters: Doubles) -> float:
        """Return the L2 term; it may be infinite."""
        l2 = self.config.l2
        return l2 / 2 * squared_norm(parameters[:, :-1]) if l2 > 0 else 0.0

    def add_smooth_gradient(self, parameters: Doubles, gradient: Doubles) -> None:
        """Turn the gradient of the data fit into that of the objective's smooth part, in place.

        Or a product with the hessian of the one into that of the other, where `parameters` is the direction.
        """
        if self.config.l2 > 0:
            axpy(self.config.l2, parameters[:, :-1], gradient[:, :-1])
        if not self.config.intercept:
            gradient[:, -1] = 0.0

    def value(self, parameters: Doubles) -> float:
        """Return r at the parameters."""
        l1, group = self.config.l1, self.config.group
        coef = parameters[:, :-1]
        value = l1 * total(np.abs(coef)) if l1 else 0.0
        return value + (group * total(column_norms(coef)) if group else 0.0)

    def prox(self, parameters: Doubles, size: float) -> Doubles:
        """Return argmin over x of ||x - parameters||^2 / 2 + size * r(x), with exact zeros."""
        l1, group = self.config.l1, self.config.group
        result: Doubles = parameters.copy()
        coef = result[:, :-1]
        if l1:
            coef[...] = soft(coef, size * l1)
        if group:
            norms = column_norms(coef)
            keep = np.zeros_like(norms)
            np.divide(np.maximum(norms - size * group, 0.0), norms, out=keep, where=norms > 0)
            coef *= keep
        coef += 0.0  # -0 becomes 0
        return result

    def least_subgradient(self, parameters: Doubles, gradient: Doubles) -> Doubles:
        """Return the element of least norm of gradient + (the subdifferential of r at the parameters)."""
        l1, group = self.config.l1, self.config.group
        result: Doubles = gradient.copy()
        coef, of_coef = parameters[:, :-1], result[:, :-1]
        if l1:
            # at 0 the subdifferential is [-l1, l1]
            of_coef[...] = np.where(coef == 0.0, soft(of_coef, l1), of_coef + l1 * np.sign(coef))
        if group:
            # where a whole column is 0 the group's subdifferential is a ball; elsewhere it is smooth
            norms = column_norms(coef)
            outside = column_norms(of_coef)
            shrink = np.zeros_like(norms)
            np.divide(np.maximum(outside - group, 0.0), outside, out=shrink, where=outside > 0)
            direction = np.divide(coef, norms, out=np.zeros_like(coef), where=norms > 0)
            of_coef[...] = np.where(norms > 0, of_coef + group * direction, of_coef * shrink)
        return result


def soft(values: Doubles, threshold: float) -> Doubles:
    """Return sign(values) * max(|values| - threshold, 0)."""
    result: Doubles = np.abs(values)
    result -= threshold
    np.maximum(result, 0.0, out=result)
    return np.copysign(result, values, out=result)
