"""A dual point q that a free intercept allows, c = 0, made of the probabilities by mixing; see `certificate.py`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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

Array = NDArray[np.float64]


@dataclass(frozen=True)
class DualPoint:
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
        """Return rows of G, for the caller to change: (1 - a) gradient + (a v - (1 - a) c) xbar^T - a M."""
        rows = (1 - self.mix) * self.gradient[run, :-1]
        if self.excess is not None and self.mean is not None:
            factors = (self.mix - 1) * self.excess[run]
            if self.mix > 0 and self.class_means is not None:
                factors += self.mix * self.class_means[run, -1]
                axpy(-self.mix, self.class_means[run, :-1], rows)
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

    class_means: Array
    errors: ErrorBounds
    mean: Array
    scores: Array
    overlap: float
    size: float
    mean_error: float
    score_error: float

    @classmethod
    def of(cls, parameters: Array, class_means: Array, errors: ErrorBounds) -> Repair:
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

    def reachable(self, fit: Fit) -> DualPoint:
        """Return about the point with c = 0 that better intercepts lead to."""
        excess, shares = fit.gradient[:, -1], self.class_means[:, -1]
        squares = dot(excess, excess / np.maximum(excess + shares, 1e-300))
        return DualPoint(fit.gradient, np.zeros_like(self.mean), 0.0, squares / 2, excess, self.mean)

    def point(self, fit: Fit, excess: Array) -> DualPoint:
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
        size = total(np.abs(excess))
        cost += rest * (dot(errors.intercept, np.abs(self.scores) + self.score_error) + size * 2 * self.score_error)
        # of the overlap, and of the operations here
        chain = gamma(self.class_means.size + 8)
        cost += mix * (3 * self.mean_error + 2 * chain + gamma(n_classes + 8)) * 2 * self.size
        magnitude = mix * (fit.loss + errors.loss + 2 * self.size + n_classes.bit_length())
        cost += gamma(n_classes + 16) * (magnitude + dot(np.abs(excess), np.abs(self.scores)))
        return DualPoint(
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

    def _least_entropy(self, mix: float, excess: Array, of_shares: Array) -> float:
        """Return a lower bound on H(t)."""
        shares = self.class_means[:, -1]
        factor = (1 - mix) / mix if mix > 0 else 0.0
        middle = shares - factor * excess
        error = of_shares + factor * self.errors.intercept + 8 * UNIT * (shares + factor * np.abs(excess))
        # -t log t is concave, so it is least at an end
        least = np.minimum(_entropies(middle - error), _entropies(middle + error))
        return total(least) * (1 - gamma(len(shares) + 16))


def _entropies(shares: Array) -> Array:
    """Return -t log t for each share, cut to [0, 1]."""
    shares = np.clip(shares, 0.0, 1.0)
    result = np.zeros_like(shares)
    positive = shares > 0
    result[positive] = -shares[positive] * log(shares[positive])
    return np.maximum(result, 0.0)
