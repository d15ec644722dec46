"""A proven bound on the distance to the optimum, from what an evaluation in float64 has computed anyway.

P(W, b) = mean_i [log sum_k exp(z_ik) - z_i,y(i)] + Omega(W),  z_i = W x_i + b,  Omega(W) = l2/2 ||W||^2 + r(W),
r(W) = l1 ||W||_1 + group sum_j ||W[:, j]||_2. Fenchel duality: take any q_i in the simplex, one for each sample, with
c = mean_i (q_i - e_y(i)) = 0 (the condition under which a free intercept cannot lower the bound for ever; it is void
without one). With p_i = softmax(z_i), G = mean_i (q_i - e_y(i)) x_i^T, and Omega* the conjugate of Omega,

    P - P*  <=  mean_i KL(q_i || p_i)  +  Omega(W) + Omega*(-G) + <G, W>                                            (1)

(S. Shalev-Shwartz and T. Zhang, "Accelerated proximal stochastic dual coordinate ascent", 2014, section 5, for the
softmax). No term is negative, and the loss does not occur. q_i is the exact softmax of the scores as computed: then the
divergence is of second order in their errors, and G is the gradient but for errors that `rounding.py` bounds.

Omega. For any rho with r*(rho) = 0, that is rho = rho_1 + rho_2, |rho_1| <= l1, ||rho_2[:, j]|| <= group,

    Omega(W) + Omega*(-G) + <G, W>  <=  ||G + rho + l2 W||^2 / (2 l2)  +  r(W) - <rho, W>,    equal for the best rho,

and an error of G adds to the norm, so it enters as a square. Without an L2 term, or where l2 is small, q_i is scaled
towards the labels, e_y(i) + s (q_i - e_y(i)), whose G is s G (E. Ndiaye, O. Fercoq, A. Gramfort and J. Salmon, "Gap
safe screening rules for sparsity enforcing penalties", JMLR 18, 2017, section 3). KL is convex and KL(e_y || p_i) is the
loss, so with s such that -s G is feasible, r*(-s G) = 0, (1) becomes

    P - P*  <=  s mean_i KL(q_i || p_i) + (1 - s) loss + Omega(W) + s <G, W>.

Intercept. Where c is not 0 it is repaired by mixing: q_i becomes (1 - a) q_i + a t, with one t for all samples,
t = v - (1 - a)/a c, v the classes' shares, and the least a that leaves t in the simplex: (1 - a)/a c <= v, surely. With
xbar and zbar the mean features and scores and M = mean_i e_y(i) x_i^T,

    G  ->  (1 - a) (G - c xbar^T) + a (v xbar^T - M),
    mean KL  ->  (1 - a) mean KL  +  a (loss - H(t) + <M - v xbar^T, W>)  +  (1 - a) <c, zbar>.

This costs about |c|, the distance to the optimum about |c|^2; `certification.py` takes better intercepts where that
matters. At its end c is rounding alone, relative to v, and so is a.

Everything is known but for the errors of G, c, M, v, xbar and zbar. They are added where they make the bound larger, with
those of the operations here: a sum or product of n numbers is off by gamma(n) of the sum of their magnitudes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distsoftmax.arithmetic.elementary import log
from distsoftmax.arithmetic.parameters import dot, matrix_vector, squared_norm, total
from distsoftmax.config import ObjectiveConfig
from distsoftmax.objective.cross_entropy import Fit
from distsoftmax.objective.penalties import SparsePenalty
from distsoftmax.objective.rounding import (
    UNIT,
    ErrorBounds,
    column_lengths,
    gamma,
    largest_by_column,
    relative_error_of_sums,
)
from distsoftmax.objective.row_runs import row_runs

Array = NDArray[np.float64]

BISECTIONS = 60  # of a factor between 0 and 1: to the last bit


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
        About what the errors alone make of it: no gap that is proven in this arithmetic is much smaller.
    """

    gap: float
    reachable: float
    floor: float


@dataclass(frozen=True)
class _DualPoint:
    """The q that has c = 0: G, a run of rows at a time, what it costs, and its errors.

    Attributes
    ----------
    mix : float
        a.
    cost : float
        What the mixing adds to mean KL.
    columns : (n_features,)
        The Euclidean norms of the errors of G's columns.
    """

    gradient: Array
    columns: Array
    mix: float = 0.0
    cost: float = 0.0
    excess: Array | None = None
    mean: Array | None = None
    class_means: Array | None = None

    def rows(self, run: slice) -> Array:
        """Return rows of G."""
        rows = self.gradient[run, :-1]
        if self.excess is None or self.mean is None:
            return rows
        rows = rows - self.excess[run, None] * self.mean
        if self.mix > 0 and self.class_means is not None:
            rows *= 1 - self.mix
            rows += self.mix * (self.class_means[run, -1:] * self.mean - self.class_means[run, :-1])
        return rows


def bound_gap(
    fit: Fit, parameters: Array, class_means: Array, config: ObjectiveConfig, errors: ErrorBounds
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
            repair = _Repair.of(parameters, class_means, errors)
            excess = fit.gradient[:, -1]
            repaired, ideal = repair.point(fit, excess), repair.point(fit, np.zeros_like(excess))
            reachable = repair.reachable(fit)
        else:
            repaired = ideal = _DualPoint(fit.gradient, errors.columns)
            reachable = _DualPoint(fit.gradient, np.zeros_like(errors.columns))
        coef = parameters[:, :-1]
        loss = fit.loss + errors.loss
        floor = _least_penalty_gap(ideal.columns, coef, config, loss) + ideal.cost + errors.divergence
        bounds = (
            _gap(repaired, coef, config, loss, errors.divergence),
            _gap(reachable, coef, config, fit.loss, 0.0),
            floor,
        )
    return GapBound(*(math.inf if math.isnan(bound) else bound for bound in bounds))


def _gap(point: _DualPoint, coef: Array, config: ObjectiveConfig, loss: float, divergence: float) -> float:
    """Return the right-hand side of (1), the scaled one if that is smaller."""
    divergence += point.cost
    if not config.sparse:
        return _outwards(divergence + _quadratic_gap(point, coef, config.l2), coef)
    gradient = np.empty_like(coef)
    for run in row_runs(coef):
        gradient[run] = point.rows(run)
    scale = _feasible_scale(gradient, point.columns, config)
    gap = scale * divergence + (1 - scale) * loss + _scaled_gap(gradient, point.columns, coef, config, scale)
    if config.l2 > 0:
        gap = min(gap, divergence + _elastic_gap(gradient, point.columns, coef, config))
    return _outwards(gap, coef)


def _quadratic_gap(point: _DualPoint, coef: Array, l2: float) -> float:
    """Return ||G + l2 W||^2 / (2 l2), the errors of G included."""
    squares = math.fsum(squared_norm(point.rows(run) + l2 * coef[run]) for run in row_runs(coef))
    return _half_square(squares, l2 * _norm(coef), point.columns, coef, l2)


def _half_square(squares: float, magnitude: float, columns: Array, coef: Array, l2: float) -> float:
    """Return (sqrt(squares) + errors)^2 / (2 l2); `magnitude` is of the terms of what was squared."""
    squares += coef.size * 2.0**-1070  # whatever has underflowed
    norm = math.sqrt(squares) * _room(coef)
    norm += 4 * UNIT * (norm + magnitude) + _norm(columns)
    return norm * norm / (2 * l2) * (1 + 8 * UNIT)


def _elastic_gap(gradient: Array, columns: Array, coef: Array, config: ObjectiveConfig) -> float:
    """Return ||G + rho + l2 W||^2 / (2 l2) + r(W) - <rho, W> for l2 > 0, the errors of G included."""
    rho = np.clip(-gradient, -config.l1, config.l1)
    rest = gradient + rho
    slack = np.maximum(config.l1 * np.abs(coef) - rho * coef, 0.0)
    gap = total(slack) * _room(coef) + 4 * UNIT * config.l1 * _room(coef) * total(np.abs(coef))
    magnitude = _norm(rest) + config.l2 * _norm(coef)
    if config.group > 0:
        of_column = gamma(len(coef) + 8)
        norms, lengths = column_lengths(coef), column_lengths(rest)
        kept = np.ones_like(lengths)
        np.divide(config.group, lengths, out=kept, where=lengths > config.group)
        rho = -rest * (kept * (1 - 2 * of_column))  # surely of norm `group` at most
        slack = np.maximum(config.group * norms - _column_sums(rho * coef), 0.0)
        gap += (total(slack) + 2 * of_column * config.group * total(norms)) * _room(coef)
        rest = rest + rho
    squares = squared_norm(rest + config.l2 * coef)
    return gap + _half_square(squares, magnitude, columns, coef, config.l2)


def _scaled_gap(gradient: Array, columns: Array, coef: Array, config: ObjectiveConfig, scale: float) -> float:
    """Return Omega(W) + s <G, W>, the errors of G included, for a feasible -s G."""
    norms = column_lengths(coef)
    magnitudes = config.group * norms
    if config.l1 > 0:
        magnitudes += config.l1 * _column_sums(np.abs(coef))
    slack = np.maximum(magnitudes + scale * _column_sums(gradient * coef), 0.0)
    # |s <G, W>| <= r(W), column by column, and so are the sums of the products' magnitudes
    gap = total(slack) + 3 * gamma(len(coef) + 8) * total(magnitudes) + scale * dot(columns, norms)
    return (gap + config.l2 / 2 * squared_norm(coef)) * _room(coef)


def _feasible_scale(gradient: Array, columns: Array, config: ObjectiveConfig) -> float:
    """Return nearly the largest s in [0, 1] for which -s G is surely feasible: ||soft(s G[:, j], l1)|| <= group."""
    of_column = 1 + gamma(len(gradient) + 8)
    if config.group == 0:
        largest = float((largest_by_column(gradient) + columns).max(initial=0.0)) * of_column
        return 1.0 if largest <= config.l1 else config.l1 / largest * (1 - 8 * UNIT)
    if config.l1 == 0:
        largest = float((column_lengths(gradient) * of_column + columns).max(initial=0.0)) * of_column
        return 1.0 if largest <= config.group else config.group / largest * (1 - 8 * UNIT)

    def is_feasible(scale: float, magnitudes: Array, norms: Array, columns: Array) -> np.ndarray:
        lengths = column_lengths(np.maximum(scale * magnitudes - config.l1, 0.0)) + 4 * UNIT * scale * norms
        feasible: np.ndarray = (lengths + scale * columns) * of_column * (1 + 8 * UNIT) <= config.group
        return feasible

    magnitudes = np.abs(gradient)
    norms = column_lengths(magnitudes)
    left = ~is_feasible(1.0, magnitudes, norms, columns)
    if not left.any():
        return 1.0
    magnitudes, norms, columns = magnitudes[:, left], norms[left], columns[left]
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if is_feasible(middle, magnitudes, norms, columns).all():
            low = middle
        else:
            high = middle
    return low


def _least_penalty_gap(columns: Array, coef: Array, config: ObjectiveConfig, loss: float) -> float:
    """Return about what the errors of G make of the penalties' part of the gap at the optimum."""
    squares = _norm(columns) ** 2 / (2 * config.l2) if config.l2 > 0 else math.inf
    if not config.sparse:
        return squares
    limit, error = config.l1 + config.group, float(columns.max(initial=0.0))
    return min(squares, error / (limit + error) * loss + dot(columns, column_lengths(coef)))


@dataclass(frozen=True)
class _Repair:
    """What mixing needs besides c.

    Attributes
    ----------
    mean : (n_features,)
        xbar.
    scores : (n_classes,)
        zbar, less the middle of its range.
    overlap : float
        <v xbar^T - M, W>.
    size : float
        sum_j max_k |W_kj| mean_i |x_ij| + max_k |b_k|, which bounds all of these sums.
    mean_error, score_error : float
        Of `mean`, relative to the magnitudes; of each number of `scores`.
    """

    class_means: Array
    errors: ErrorBounds
    mean: Array
    scores: Array
    overlap: float
    size: float
    mean_error: float
    score_error: float

    @classmethod
    def of(cls, parameters: Array, class_means: Array, errors: ErrorBounds) -> _Repair:
        """Measure the mean features and scores."""
        n_classes, n_features = len(parameters), parameters.shape[1] - 1
        mean = _column_sums(class_means[:, :-1])
        products = matrix_vector(parameters[:, :-1], mean)
        scores = products + parameters[:, -1]
        overlap = dot(class_means[:, -1], products) - dot(class_means[:, :-1], parameters[:, :-1])
        sizes = largest_by_column(parameters)
        size = (dot(sizes[:-1], errors.magnitudes) + float(sizes[-1])) * _room(parameters)
        mean_error = errors.means + gamma(n_classes + 2)
        return cls(
            class_means,
            errors,
            mean,
            scores - (float(scores.max()) / 2 + float(scores.min()) / 2),
            overlap,
            size,
            mean_error,
            (mean_error + gamma(n_features + 8)) * size,
        )

    def reachable(self, fit: Fit) -> _DualPoint:
        """Return about the point with c = 0 that better intercepts lead to."""
        excess, shares = fit.gradient[:, -1], self.class_means[:, -1]
        squares = dot(excess, excess / np.maximum(excess + shares, 1e-300))
        return _DualPoint(fit.gradient, np.zeros_like(self.mean), 0.0, squares / 2, excess, self.mean)

    def point(self, fit: Fit, excess: Array) -> _DualPoint:
        """Return the point that mixing leads to."""
        errors, shares, n_classes = self.errors, self.class_means[:, -1], len(excess)
        of_shares = errors.means * (shares + 1 / n_classes) + 4 * UNIT * shares
        surely = np.maximum(shares - of_shares, 0.0)
        too_much = np.maximum(excess + errors.intercept, 0.0)
        if not too_much.any():
            ratio = 0.0
        elif (surely[too_much > 0] == 0).any():
            ratio = math.inf
        else:
            ratio = float(np.divide(too_much, surely, out=np.zeros(n_classes), where=too_much > 0).max())
        mix = min(1.0, ratio / (1 + ratio) * (1 + 16 * UNIT)) if ratio < math.inf else 1.0
        rest = 1 - mix
        cost = mix * (fit.loss + errors.loss - self._least_entropy(mix, excess, of_shares) - self.overlap)
        cost += rest * dot(excess, self.scores)
        size = _total(np.abs(excess))
        cost += rest * (dot(errors.intercept, np.abs(self.scores) + self.score_error) + size * 2 * self.score_error)
        # of the overlap, and of the operations here
        chain = gamma(self.class_means.size + 8)
        cost += mix * (3 * self.mean_error + 2 * chain + gamma(n_classes + 8)) * 2 * self.size
        magnitude = mix * (fit.loss + errors.loss + 2 * self.size + n_classes.bit_length())
        cost += gamma(n_classes + 16) * (magnitude + dot(np.abs(excess), np.abs(self.scores)))
        return _DualPoint(
            fit.gradient,
            self._columns(mix, excess, fit),
            mix,
            max(cost, 0.0),
            excess,
            self.mean,
            self.class_means,
        )

    def _columns(self, mix: float, excess: Array, fit: Fit) -> Array:
        """Return the norms of the errors of the columns of G, as it is computed."""
        errors, magnitudes = self.errors, self.errors.magnitudes
        of_excess, size = _norm(errors.intercept), _norm(excess)
        mean = np.abs(self.mean)
        columns = errors.columns + of_excess * (mean + self.mean_error * magnitudes)
        columns += size * self.mean_error * magnitudes + 4 * mix * self.mean_error * magnitudes
        columns += 8 * UNIT * (column_lengths(fit.gradient[:, :-1]) + size * mean + 4 * mix * magnitudes)
        columns *= 1 + gamma(64)
        return columns

    def _least_entropy(self, mix: float, excess: Array, of_shares: Array) -> float:
        """Return a lower bound on H(t)."""
        shares = self.class_means[:, -1]
        factor = (1 - mix) / mix if mix > 0 else 0.0
        middle = shares - factor * excess
        error = of_shares + factor * self.errors.intercept + 8 * UNIT * (shares + factor * np.abs(excess))
        # -t log t is concave, so it is least at an end
        least = np.minimum(_entropies(middle - error), _entropies(middle + error))
        return _total(least) * (1 - gamma(len(shares) + 16))


def _entropies(shares: Array) -> Array:
    """Return -t log t for each share, cut to [0, 1]."""
    shares = np.clip(shares, 0.0, 1.0)
    result = np.zeros_like(shares)
    positive = shares > 0
    result[positive] = -shares[positive] * log(shares[positive])
    return np.maximum(result, 0.0)


def _column_sums(values: Array) -> Array:
    """Return the sum of each column: one chain of additions, row by row."""
    sums = np.zeros(values.shape[1])
    for row in values:
        sums += row
    return sums


def _total(values: Array) -> float:
    return float(total(values))


def _outwards(gap: float, coef: Array) -> float:
    """Return a bound with room for the last roundings, and for whatever has underflowed in a product."""
    return gap * (1 + 16 * UNIT) + coef.size * 2.0**-1000


def _norm(values: Array) -> float:
    """Return the Euclidean norm, no less than it is."""
    return math.sqrt(squared_norm(values) + values.size * 2.0**-1070) * _room(values)


def _room(values: Array) -> float:
    """Return a factor for what a sum over an array, of numbers that are not negative, may have lost."""
    return 1 + relative_error_of_sums(values)


def lower_bounds(
    loss: float,
    gradient: Array,
    parameters: Array,
    class_means: Array,
    l2: float,
    penalty: SparsePenalty | None,
    intercept: bool,
) -> tuple[float, float]:
    """Return about a lower bound on the optimum, and about what better intercepts would make of it."""
    l1, group = (0.0, 0.0) if penalty is None else (penalty.l1, penalty.group)
    config = ObjectiveConfig(l2=l2, l1=l1, group=group, intercept=intercept)
    errors = ErrorBounds.none(len(parameters), parameters.shape[1] - 1)
    bound = bound_gap(Fit(loss, gradient, 0.0), parameters, class_means, config, errors)
    coef = parameters[:, :-1]
    value = loss + (l2 / 2 * squared_norm(coef) if l2 > 0 else 0.0)
    value += 0.0 if penalty is None else penalty.value(parameters)
    return value - bound.gap, value - bound.reachable
