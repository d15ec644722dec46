"""Conjugate gradients on products with the hessian, in a trust region.

T. Steihaug, "The conjugate gradient method and trust regions in large scale optimization", SIAM J. Numer. Anal. 20(3),
1983; J. Nocedal and S. J. Wright, "Numerical Optimization", 2nd edition, 2006, algorithm 7.2. Lengths are measured in
the norm of the preconditioner's inverse M, as in A. R. Conn, N. I. M. Gould and Ph. L. Toint, "Trust-Region Methods",
2000, section 7.5.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from distsoftmax.arithmetic.parameters import axpy, dot
from distsoftmax.solvers.protocol import Array, Curvature, Preconditioner
from distsoftmax.solvers.state import ahead

MOST_PRODUCTS = 250  # products with the hessian in a step, at most


@dataclass(frozen=True)
class ModelStep:
    """An approximate minimiser of the quadratic model in the region.

    Attributes
    ----------
    step : ndarray of float64
    predicted_reduction : float
        How much the model falls over the step.
    length : float
        In the norm of M.
    at_edge : bool
        Whether the region's edge ended it.
    """

    step: Array
    predicted_reduction: float
    length: float
    at_edge: bool


def steihaug(
    curvature: Curvature,
    gradient: Array,
    precondition: Preconditioner | None,
    radius: float,
    is_enough: Callable[[Array, float, float], bool],
    most_products: int = MOST_PRODUCTS,
) -> ModelStep:
    """Minimise <gradient, s> + <s, H s> / 2 over s in the region, about. As collective as the products with H.

    Parameters
    ----------
    gradient : ndarray of float64
        Of any shape; so are the directions.
    precondition : callable or None
        Multiplies by the inverse of M; None: M is the identity.
    radius : float
        Of the region, in the norm of M; it may be infinite.
    is_enough : callable
        Whether to stop: (residual, its squared norm in the dual norm of M relative to the first, predicted reduction
        so far) -> bool.
    most_products : int
        With H, above 0.
    """
    step = np.zeros_like(gradient)
    residual = -gradient  # -(gradient + H step)
    scaled = residual if precondition is None else precondition(residual)
    energy = dot(residual, scaled)
    first_energy = energy
    direction = scaled.copy()
    # the products of M by recurrence: M itself is not at hand, only its inverse
    step_step, step_direction, direction_direction = 0.0, 0.0, energy
    predicted_reduction = 0.0
    for _ in range(most_products):
        if not energy > 0:
            break
        product = curvature.product(direction)
        curvature_along = dot(direction, product)
        if not math.isfinite(curvature_along):
            break
        size = energy / curvature_along if curvature_along > 0 else math.inf
        longer = step_step + 2 * size * step_direction + size * size * direction_direction
        if longer >= radius * radius or math.isinf(size):
            edge = radius if math.isfinite(radius) else 1.0 + math.sqrt(step_step)  # no curvature and no region yet
            root = math.sqrt(step_direction * step_direction + direction_direction * (edge * edge - step_step))
            size = (-step_direction + root) / direction_direction
            predicted_reduction += size * energy - size * size * curvature_along / 2
            return ModelStep(ahead(step, size, direction), predicted_reduction, edge, True)
        axpy(size, direction, step)
        axpy(-size, product, residual)
        predicted_reduction += size * energy - size * size * curvature_along / 2
        step_step = longer
        scaled = residual if precondition is None else precondition(residual)
        next_energy = dot(residual, scaled)
        if is_enough(residual, next_energy / first_energy, predicted_reduction):
            break
        ratio = next_energy / energy
        step_direction = ratio * (step_direction + size * direction_direction)
        direction_direction = next_energy + ratio * ratio * direction_direction
        direction = ahead(scaled, ratio, direction)
        energy = next_energy
    return ModelStep(step, predicted_reduction, math.sqrt(step_step), False)
