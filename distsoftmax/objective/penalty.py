"""What is added to the data fit: the L2 term, which is smooth, and r, which need not be.

    Omega(W) = l2/2 * ||W||^2 + r(W),    r(W) = l1 * ||W||_1 + group * sum_j ||W[:, j]||_2

W is coef; the intercept is not penalised. The group term is the l2,1 norm over classes: a feature enters for all
classes or for none. Proximal operators: N. Parikh and S. Boyd, "Proximal Algorithms", Foundations and Trends in
Optimization 1(3), 2014, sections 6.5.2 and 6.5.4; that of the sum is soft thresholding followed by the groups'
shrinkage (J. Friedman, T. Hastie and R. Tibshirani, "A note on the group lasso and a sparse group lasso", 2010, section
3).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from distsoftmax.arithmetic.arrays import Doubles
from distsoftmax.arithmetic.parameters import axpy, column_norms, matrix_vector, norm, squared_norm, total
from distsoftmax.config import ObjectiveConfig

LARGEST_SHIFT = 1e200  # of coefficients, where l1 is that much larger than l2: finite, as are its products


@dataclass(frozen=True)
class Penalty:
    """The penalty of softmax regression. Parameters are (n_classes, n_features + 1), the intercept last.

    All but the methods with "smooth" in their names are of r alone: see `solvers.protocol.Penalty`.

    Attributes
    ----------
    config : ObjectiveConfig
    unit : ndarray of float64, (n_features,), or None
        coef is what is given divided by this, column by column; None: it is what is given. For r alone: the L2 term
        knows no units.
    """

    config: ObjectiveConfig
    unit: Doubles | None = None

    def in_units(self, unit: Doubles) -> Penalty:
        """See `solvers.protocol.Penalty`. An intercept's unit does not matter: it is not penalised."""
        return replace(self, unit=unit[:-1])

    @property
    def _weights(self) -> tuple[Doubles | float, Doubles | float]:
        """The weights of each column's magnitudes and of its norm."""
        unit = 1.0 if self.unit is None else self.unit
        return self.config.l1 / unit, self.config.group / unit

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
        coef = parameters[:, :-1] if self.unit is None else parameters[:, :-1] / self.unit
        value = l1 * total(np.abs(coef)) if l1 else 0.0
        return value + (group * total(column_norms(coef)) if group else 0.0)

    def prox(self, parameters: Doubles, size: float) -> Doubles:
        """Return argmin over x of ||x - parameters||^2 / 2 + size * r(x), with exact zeros."""
        l1, group = self._weights
        result: Doubles = parameters.copy()
        coef = result[:, :-1]
        if self.config.l1:
            coef[...] = soft(coef, size * l1)
        if self.config.group:
            norms = column_norms(coef)
            keep = np.zeros_like(norms)
            np.divide(np.maximum(norms - size * group, 0.0), norms, out=keep, where=norms > 0)
            coef *= keep
        coef += 0.0  # -0 becomes 0
        return result

    def prox_column(self, column: Doubles, feature: int, size: float) -> Doubles:
        """Return what `prox` makes of the coefficients of one feature, (n_classes,)."""
        unit = 1.0 if self.unit is None else float(self.unit[feature])
        result = soft(column, size * self.config.l1 / unit) if self.config.l1 else column
        if self.config.group:
            length = norm(result)
            result = result * (max(length - size * self.config.group / unit, 0.0) / length) if length > 0 else result
        return result + 0.0  # -0 becomes 0

    @property
    def has_kinks(self) -> bool:
        """Whether r has a kink wherever a coefficient is 0, not only where all of a feature's are."""
        return self.config.l1 > 0

    def reduced(self, parameters: Doubles) -> Doubles:
        """Return parameters of the same probabilities with as small a penalty as it gets, or the same ones.

        What is added to a feature's coefficients of all classes alike changes no probability. Their norms are least
        where their mean is 0, their magnitudes where their median is; for both see Y. Li and S. Osher, "A new median
        formula with applications to PDE based denoising", Commun. Math. Sci. 7(3), 2009, theorem 2.1.
        """
        l1, l2, group = self.config.l1, self.config.l2, self.config.group
        if l1 and group:  # there is no formula
            return parameters
        result: Doubles = parameters.copy()
        coef = result[:, :-1]
        n_classes = len(coef)
        mean = matrix_vector(coef.T, np.ones(n_classes)) / n_classes
        if not l1:
            coef -= mean
        elif l2:
            parts = (2 * np.arange(n_classes + 1)[:, None] - n_classes) / n_classes  # from -1 to 1
            shifts = parts * min(l1 / l2, LARGEST_SHIFT)
            shifts = shifts if self.unit is None else shifts * self.unit
            ordered = np.sort(np.concatenate([coef, mean + shifts]), axis=0)
            coef -= ordered[n_classes]
        else:
            ordered = np.sort(coef, axis=0)
            below, above = ordered[(n_classes - 1) // 2], ordered[n_classes // 2]
            coef -= np.where(np.abs(below) <= np.abs(above), below, above)
        coef += 0.0  # -0 becomes 0
        return result

    def least_subgradient(self, parameters: Doubles, gradient: Doubles) -> Doubles:
        """Return the element of least norm of gradient + (the subdifferential of r at the parameters)."""
        l1, group = self._weights
        result: Doubles = gradient.copy()
        coef, of_coef = parameters[:, :-1], result[:, :-1]
        if self.config.l1:
            # at 0 the subdifferential is [-l1, l1]
            of_coef[...] = np.where(coef == 0.0, soft(of_coef, l1), of_coef + l1 * np.sign(coef))
        if self.config.group:
            # where a whole column is 0 the group's subdifferential is a ball; elsewhere it is smooth
            norms = column_norms(coef)
            outside = column_norms(of_coef)
            shrink = np.zeros_like(norms)
            np.divide(np.maximum(outside - group, 0.0), outside, out=shrink, where=outside > 0)
            direction = np.divide(coef, norms, out=np.zeros_like(coef), where=norms > 0)
            of_coef[...] = np.where(norms > 0, of_coef + group * direction, of_coef * shrink)
        return result

    def curvature(self, parameters: Doubles) -> Doubles | None:
        """Return the hessian of r where it has one, at the entries that are not 0, as a matrix; None where it is 0.

        Of a column x it is group / ||x|| (I - x x^T / ||x||^2), over the classes.
        """
        _, group = self._weights
        if not self.config.group:
            return None
        coef = parameters[:, :-1]
        norms, is_moved = column_norms(coef), coef != 0
        strength = np.divide(group, norms, out=np.zeros_like(norms), where=norms > 0)
        direction = np.divide(coef, norms, out=np.zeros_like(coef), where=norms > 0).T
        blocks = -strength[:, None, None] * direction[:, :, None] * direction[:, None, :]
        classes, columns = np.arange(len(coef)), np.arange(coef.shape[1])
        blocks[:, classes, classes] += strength[:, None] * is_moved.T
        matrix = np.zeros((*parameters.shape, *parameters.shape))
        matrix[:, columns, :, columns] = blocks
        return matrix.reshape(parameters.size, parameters.size)


def soft(values: Doubles, threshold: Doubles | float) -> Doubles:
    """Return sign(values) * max(|values| - threshold, 0)."""
    result: Doubles = np.abs(values)
    result -= threshold
    np.maximum(result, 0.0, out=result)
    return np.copysign(result, values, out=result)
