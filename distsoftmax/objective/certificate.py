"""A proven bound on the distance to the optimum, from what an evaluation in float64 has computed anyway.

    P(W, b) = mean_i [log sum_k exp(z_ik) - z_i,y(i)] + Omega(W),    z_i = W x_i + b,
    Omega(W) = l2/2 ||W||^2 + r(W),    r(W) = l1 ||W||_1 + group sum_j ||W[:, j]||_2.

Fenchel duality: take any q_i in the simplex, one for each sample, with c = mean_i (q_i - e_y(i)) = 0 (the condition
under which a free intercept cannot lower the bound for ever; it is void without one). With p_i = softmax(z_i), G =
mean_i (q_i - e_y(i)) x_i^T, and Omega* the conjugate of Omega,

    P - P*  <=  mean_i KL(q_i || p_i)  +  Omega(W) + Omega*(-G) + <G, W>                                            (1)

(S. Shalev-Shwartz and T. Zhang, "Accelerated proximal stochastic dual coordinate ascent", 2014, section 5, for the
softmax). No term is negative, and the loss does not occur. q_i is the exact softmax of the scores as computed: then
the divergence is of second order in their errors, and G is the gradient but for errors that `rounding.py` bounds.

Omega. For any rho with r*(rho) = 0, that is rho = rho_1 + rho_2, |rho_1| <= l1, ||rho_2[:, j]|| <= group,

    Omega(W) + Omega*(-G) + <G, W>  <=  ||G + rho + l2 W||^2 / (2 l2)  +  r(W) - <rho, W>,    equal for the best rho,

and an error of G adds to the norm, so it enters as a square. Without an L2 term, or where l2 is small, q_i is scaled
towards the labels, e_y(i) + s (q_i - e_y(i)), whose G is s G (E. Ndiaye, O. Fercoq, A. Gramfort and J. Salmon, "Gap
safe screening rules for sparsity enforcing penalties", JMLR 18, 2017, section 3). KL is convex and KL(e_y || p_i) is
the loss, so with s such that -s G is feasible, r*(-s G) = 0, (1) becomes

    P - P*  <=  s mean_i KL(q_i || p_i) + (1 - s) loss + Omega(W) + s <G, W>.

Intercept. Where c is not 0 it is repaired by mixing (`dual_point.py`): q_i becomes (1 - a) q_i + a t, with one t for
all samples, t = v - c (1 - a) / a, v the classes' shares, and the least a that surely leaves t in the simplex. With
xbar and zbar the mean features and scores and M = mean_i e_y(i) x_i^T,

    G  ->  (1 - a) (G - c xbar^T) + a (v xbar^T - M),
    mean KL  ->  (1 - a) mean KL  +  a (loss - H(t) + <M - v xbar^T, W>)  +  (1 - a) <c, zbar>.

This costs about |c|, the distance to the optimum about |c|^2; `certification.py` takes better intercepts where that
matters. At its end c is rounding alone, relative to v, and so is a.

Everything is known but for the errors of G, c, M, v, xbar and zbar. They are added where they make the bound larger,
with those of the operations here: a sum or product of n numbers is off by gamma(n) of the sum of their magnitudes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from distsoftmax.arithmetic.arrays import Doubles
from distsoftmax.arithmetic.parameters import axpy, dot, row_blocks, squared_norm, total
from distsoftmax.config import ObjectiveConfig
from distsoftmax.objective.cross_entropy import Fit
from distsoftmax.objective.dual_point import DualPoint, Repair
from distsoftmax.objective.outward_sums import (
    UNIT,
    bound_norm,
    column_lengths,
    column_sums,
    gamma,
    largest_by_column,
    room_for_sums,
)
from distsoftmax.objective.rounding import ErrorBounds

BISECTIONS = 60  # of a factor between 0 and 1: to the last bit
IN_CACHE = 1 << 15  # numbers of coef that are worked on at once


@dataclass(frozen=True)
class GapBound:
    """Bounds on the distance to the optimum at one point.

    Attributes
    ----------
    gap : float
        Proven, if the errors are.
    reachable : float
        About what it would be with intercepts whose gradient is 0, and without errors.
    floor : float
        About what the errors alone make of it: none that is proven in this arithmetic is much smaller.
    """

    gap: float = math.inf
    reachable: float = math.inf
    floor: float = math.inf


def bound_gap(
    fit: Fit, parameters: Doubles, class_means: Doubles, config: ObjectiveConfig, errors: ErrorBounds
) -> GapBound:
    """Bound the distance of the penalised objective to its optimum.

    Parameters
    ----------
    class_means : (n_classes, n_features + 1)
        mean_i of e_y(i) (x_i, 1)^T, so its last column holds the classes' shares.
    config : ObjectiveConfig
        With a penalty.
    errors : ErrorBounds
        Of the fit; `ErrorBounds.none` for an estimate.
    """
    with np.errstate(all="ignore"):
        if config.intercept:
            repair = Repair.of(parameters, class_means, errors)
            point, reachable = repair.point(fit, fit.gradient[:, -1]), repair.reachable(fit)
            ideal = repair.point(fit, np.zeros(len(parameters)))
        else:
            point = ideal = DualPoint(fit.gradient, errors.columns)
            reachable = DualPoint(fit.gradient, np.zeros_like(errors.columns))
        coef, loss = parameters[:, :-1], fit.loss + errors.loss
        gaps = (
            _gap(point, coef, config, loss, errors.divergence),
            _gap(reachable, coef, config, fit.loss, 0.0),
            _least_gap(ideal, coef, config, loss, errors.divergence),
        )
    return GapBound(*(math.inf if math.isnan(gap) else gap for gap in gaps))


def _gap(point: DualPoint, coef: Doubles, config: ObjectiveConfig, loss: float, divergence: float) -> float:
    """Return the right-hand side of (1), the scaled one if that is smaller."""
    divergence += point.cost
    if not config.sparse:
        return _outwards(divergence + _quadratic_gap(point, coef, config.l2), coef)
    gradient = np.empty_like(coef)
    for block in row_blocks(coef, IN_CACHE):
        gradient[block] = point.rows(block)
    scale = _feasible_scale(gradient, point.columns, config)
    gap = scale * divergence + (1 - scale) * loss + _scaled_gap(gradient, point.columns, coef, config, scale)
    if config.l2 > 0:
        gap = min(gap, divergence + _elastic_gap(gradient, point.columns, coef, config))
    return _outwards(gap, coef)


def _least_gap(ideal: DualPoint, coef: Doubles, config: ObjectiveConfig, loss: float, divergence: float) -> float:
    """Return about what remains of `_gap` where the gradient is 0 but for its errors."""
    columns = ideal.columns
    least = squared_norm(columns) / (2 * config.l2) if config.l2 > 0 else math.inf
    if config.sparse:
        limit, error = config.l1 + config.group, float(columns.max(initial=0.0))
        least = min(least, error / (limit + error) * loss + dot(columns, column_lengths(coef)))
    return least + (divergence + ideal.cost)


def _quadratic_gap(point: DualPoint, coef: Doubles, l2: float) -> float:
    """Return ||G + l2 W||^2 / (2 l2), the errors of G included."""
    squares = []
    for block in row_blocks(coef, IN_CACHE):
        rows = point.rows(block)
        axpy(l2, coef[block], rows)
        squares.append(squared_norm(rows))
    return _half_square(math.fsum(squares), l2 * bound_norm(coef), point.columns, coef, l2)


def _half_square(squares: float, magnitude: float, columns: Doubles, coef: Doubles, l2: float) -> float:
    """Return (sqrt(squares) + errors)^2 / (2 l2); `magnitude` is of the terms of what was squared."""
    squares += coef.size * 2.0**-1070  # whatever has underflowed
    norm = math.sqrt(squares) * room_for_sums(coef)
    norm += 4 * UNIT * (norm + magnitude) + bound_norm(columns)
    return norm * norm / (2 * l2) * (1 + 8 * UNIT)


def _elastic_gap(gradient: Doubles, columns: Doubles, coef: Doubles, config: ObjectiveConfig) -> float:
    """Return ||G + rho + l2 W||^2 / (2 l2) + r(W) - <rho, W> for l2 > 0, the errors of G included."""
    rho = np.clip(-gradient, -config.l1, config.l1)
    rest = gradient + rho
    slack = np.maximum(config.l1 * np.abs(coef) - rho * coef, 0.0)
    gap = total(slack) * room_for_sums(coef) + 4 * UNIT * config.l1 * room_for_sums(coef) * total(np.abs(coef))
    magnitude = bound_norm(rest) + config.l2 * bound_norm(coef)
    if config.group > 0:
        of_column = gamma(len(coef) + 8)
        norms, lengths = column_lengths(coef), column_lengths(rest)
        kept = np.ones_like(lengths)
        np.divide(config.group, lengths, out=kept, where=lengths > config.group)
        rho = -rest * (kept * (1 - 2 * of_column))  # surely of norm `group` at most
        slack = np.maximum(config.group * norms - column_sums(rho * coef), 0.0)
        gap += (total(slack) + 2 * of_column * config.group * total(norms)) * room_for_sums(coef)
        rest = rest + rho
    squares = squared_norm(rest + config.l2 * coef)
    return gap + _half_square(squares, magnitude, columns, coef, config.l2)


def _scaled_gap(gradient: Doubles, columns: Doubles, coef: Doubles, config: ObjectiveConfig, scale: float) -> float:
    """Return Omega(W) + s <G, W>, the errors of G included, for a feasible -s G."""
    norms = column_lengths(coef)
    magnitudes = config.group * norms
    if config.l1 > 0:
        magnitudes += config.l1 * column_sums(np.abs(coef))
    slack = np.maximum(magnitudes + scale * column_sums(gradient * coef), 0.0)
    # |s <G, W>| <= r(W), column by column, and so are the sums of the products' magnitudes
    gap = total(slack) + 3 * gamma(len(coef) + 8) * total(magnitudes) + scale * dot(columns, norms)
    return (gap + config.l2 / 2 * squared_norm(coef)) * room_for_sums(coef)


def _feasible_scale(gradient: Doubles, columns: Doubles, config: ObjectiveConfig) -> float:
    """Return nearly the largest s in [0, 1] for which -s G is surely feasible: ||soft(s G[:, j], l1)|| <= group."""
    of_column = 1 + gamma(len(gradient) + 8)
    if config.group == 0:
        largest = float((largest_by_column(gradient) + columns).max(initial=0.0)) * of_column
        return 1.0 if largest <= config.l1 else config.l1 / largest * (1 - 8 * UNIT)
    if config.l1 == 0:
        largest = float((column_lengths(gradient) * of_column + columns).max(initial=0.0)) * of_column
        return 1.0 if largest <= config.group else config.group / largest * (1 - 8 * UNIT)

    def is_feasible(scale: float, magnitudes: Doubles, norms: Doubles, columns: Doubles) -> np.ndarray:
        lengths = column_lengths(np.maximum(scale * magnitudes - config.l1, 0.0)) + 4 * UNIT * scale * norms
        feasible: np.ndarray = (lengths + scale * columns) * of_column * (1 + 8 * UNIT) <= config.group
        return feasible

    magnitudes = np.abs(gradient)
    norms = column_lengths(magnitudes)
    beyond = ~is_feasible(1.0, magnitudes, norms, columns)
    if not beyond.any():
        return 1.0
    magnitudes, norms, columns = magnitudes[:, beyond], norms[beyond], columns[beyond]
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if is_feasible(middle, magnitudes, norms, columns).all():
            low = middle
        else:
            high = middle
    return low


def _outwards(gap: float, coef: Doubles) -> float:
    """Return a bound with room for the last roundings, and for whatever has underflowed in a product."""
    return gap * (1 + 16 * UNIT) + coef.size * 2.0**-1000
