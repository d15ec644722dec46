"""A dual point q that a free intercept allows, c = 0, made of the probabilities by mixing; see `certificate.py`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from distsoftmax.arithmetic.arrays import Doubles
from distsoftmax.arithmetic.elementary import log
from distsoftmax.arithmetic.parameters import axpy, dot, matrix_vector, total
from distsoftmax.objective.cross_entropy import Fit
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


@dataclass(frozen=True)
class DualPoint:
    """The q that has c = 0: G, a block of rows at a time, what it costs, and its errors.

    Attributes
    ----------
    mix : float
        a.
    cost : float
        What the mixing adds to mean KL.
    columns : (n_features,)
        The Euclidean norms of the errors of G's columns.
    """

    gradient: Doubles
    columns: Doubles
    mix: float = 0.0
    cost: float = 0.0
    excess: Doubles | None = None
    mean: Doubles | None = None
    class_means: Doubles | None = None

    def rows(self, block: slice) -> Doubles:
        """Return rows of G, for the caller to change: (1 - a) gradient + (a v - (1 - a) c) xbar^T - a M."""
        rows = (1 - self.mix) * self.gradient[block, :-1]
        if self.excess is not None and self.mean is not None:
            factors = (self.mix - 1) * self.excess[block]
            if self.mix > 0 and self.class_means is not None:
                factors += self.mix * self.class_means[block, -1]
                axpy(-self.mix, self.class_means[block, :-1], rows)
            rows += factors[:, None] * self.mean
        return rows


@dataclass(frozen=True)
class Repair:
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

    class_means: Doubles
    errors: ErrorBounds
    mean: Doubles
    scores: Doubles
    overlap: float
    size: float
    mean_error: float
    score_error: float

    @classmethod
    def of(cls, parameters: Doubles, class_means: Doubles, errors: ErrorBounds) -> Repair:
        """Measure the mean features and scores."""
        n_classes, n_features = len(parameters), parameters.shape[1] - 1
        mean = column_sums(class_means[:, :-1])
        products = matrix_vector(parameters[:, :-1], mean)
        scores = products + parameters[:, -1]
        overlap = dot(class_means[:, -1], products) - dot(class_means[:, :-1], parameters[:, :-1])
        sizes = largest_by_column(parameters)
        size = (dot(sizes[:-1], errors.magnitudes) + float(sizes[-1])) * room_for_sums(parameters)
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

    @property
    def shares(self) -> Doubles:
        """v, the classes' shares of the total weight."""
        return self.class_means[:, -1]

    def reachable(self, fit: Fit) -> DualPoint:
        """Return about the point with c = 0 that better intercepts lead to."""
        excess = fit.gradient[:, -1]
        squares = dot(excess, excess / np.maximum(excess + self.shares, 1e-300))
        return DualPoint(fit.gradient, np.zeros_like(self.mean), 0.0, squares / 2, excess, self.mean)

    def point(self, fit: Fit, excess: Doubles) -> DualPoint:
        """Return the point that mixing leads to; `excess` is c."""
        of_shares = self.errors.means * (self.shares + 1 / len(excess)) + 4 * UNIT * self.shares
        mix = _least_mix(excess + self.errors.intercept, self.shares - of_shares)
        cost = mix * (fit.loss - self._least_entropy(mix, excess, of_shares) - self.overlap)
        cost += (1 - mix) * dot(excess, self.scores)
        if not self.errors.are_none:
            cost += self._error_of_cost(mix, excess, fit.loss)
        columns = self._columns(mix, excess, fit)
        return DualPoint(fit.gradient, columns, mix, max(cost, 0.0), excess, self.mean, self.class_means)

    def _error_of_cost(self, mix: float, excess: Doubles, loss: float) -> float:
        """Bound the error of the cost of mixing."""
        errors, n_classes, sizes = self.errors, len(excess), np.abs(excess)
        scores = np.abs(self.scores)
        of_scores = dot(errors.intercept, scores + self.score_error) + total(sizes) * 2 * self.score_error
        chain = gamma(self.class_means.size + 8)
        of_overlap = (3 * self.mean_error + 2 * chain + gamma(n_classes + 8)) * 2 * self.size
        magnitude = mix * (loss + errors.loss + 2 * self.size + n_classes.bit_length()) + dot(sizes, scores)
        error = of_scores + mix * (errors.loss + of_overlap) + gamma(n_classes + 16) * magnitude
        return error * (1 + gamma(n_classes + 64))

    def _columns(self, mix: float, excess: Doubles, fit: Fit) -> Doubles:
        """Return the norms of the errors of the columns of G, as it is computed."""
        if self.errors.are_none:
            return self.errors.columns
        errors, magnitudes = self.errors, self.errors.magnitudes
        of_excess, size = bound_norm(errors.intercept), bound_norm(excess)
        mean = np.abs(self.mean)
        columns = errors.columns + of_excess * (mean + self.mean_error * magnitudes)
        columns += size * self.mean_error * magnitudes + 4 * mix * self.mean_error * magnitudes
        columns += 8 * UNIT * (column_lengths(fit.gradient[:, :-1]) + size * mean + 4 * mix * magnitudes)
        columns *= 1 + gamma(64)
        return columns

    def _least_entropy(self, mix: float, excess: Doubles, of_shares: Doubles) -> float:
        """Return a lower bound on H(t)."""
        factor = (1 - mix) / mix if mix > 0 else 0.0
        middle = self.shares - factor * excess
        if self.errors.are_none:
            return total(_entropies(middle))
        error = of_shares + factor * self.errors.intercept + 8 * UNIT * (self.shares + factor * np.abs(excess))
        # -t log t is concave, so it is least at an end
        least = np.minimum(_entropies(middle - error), _entropies(middle + error))
        return total(least) * (1 - gamma(len(excess) + 16))


def _least_mix(excess: Doubles, shares: Doubles) -> float:
    """Return the least a, and a little more, with (1 - a) c <= a v, for upper bounds on c and lower bounds on v."""
    over = excess > 0
    if not over.any():
        return 0.0
    if not (shares[over] > 0).all():
        return 1.0
    ratio = float((excess[over] / shares[over]).max())
    return min(1.0, ratio / (1 + ratio) * (1 + 16 * UNIT))


def _entropies(shares: Doubles) -> Doubles:
    """Return -t log t for each share, cut to [0, 1]."""
    shares = np.clip(shares, 0.0, 1.0)
    result = np.zeros_like(shares)
    positive = shares > 0
    result[positive] = -shares[positive] * log(shares[positive])
    return np.maximum(result, 0.0)
