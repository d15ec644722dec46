"""How far rounding may move an evaluation in float64: proven bounds, from what every rank knows.

With gamma(n) as in `outward_sums.py`, a sum c + sum_j a_j b_j of n products is off by at most
gamma(n + 1) (|c| + sum_j |a_j| |b_j|), fused or not (N. J. Higham, "Accuracy and Stability of Numerical Algorithms",
2nd edition, 2002, section 3.1). Below, K is the number of classes, and a mean is that of all samples, by weight.

Scores. A computed score less the largest one is off by |delta_ik| <= gamma(row length + 3) S_i, but for a number that
is the same for all classes, S_i = max_k (|b_k| + sum_j |theta_kj| |x_ij|). Its largest value and its mean are bounded
by the features' largest and mean magnitudes: mean_i S_i <= max_k |b_k| + sum_j max_k |theta_kj| mean_i |x_ij|.

Probabilities. Let q_i be the exact softmax of the scores *as computed*, less the largest. exp, the sum of K terms that
are none of them negative, its inverse and a product make p_ik = q_ik (1 + gamma(K + 2 EXP_ROUNDINGS + 1)); less 1 for
the own class and times the weight, the errors p_i - e_y are off by gamma(K + 2 EXP_ROUNDINGS + 7) in the Euclidean
norm.

Gradient. A shard's entry is a sum in which no term goes through more than `row_chain` additions. So the column j of
the mean is off, in the Euclidean norm over the classes (Minkowski's inequality), by

    gamma(K + 2 EXP_ROUNDINGS + 7) mean_i |x_ij|  +  gamma(row_chain) sqrt(2) mean_i (1 - q_iy) |x_ij|

and the integers' rounding, half a unit for each shard and class; a unit is at most 2^-59 of the bound (`FixedPoint`),
which is mean_i |x_ij|. As 1 - q <= -log q, the second mean is at most max_i |x_ij| times the mean loss, too. For the
intercept, whose x is 1, each class's error has a bound of its own: mean_i q_ik + the class's share stands for
mean_i |x_ij|.

Loss. With d = max_k |delta_ik| a sample's loss is off by 2 d min(1, loss / (1 - 2 d)) for the scores, gamma(K + 2) for
the sum, the logarithm's error, and the rounding of the difference; the shard's sum by gamma(rows) of itself.

What is computed here is computed in float64, too: sums of numbers that are not negative, so `ROOM` covers it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from distsoftmax.arithmetic.arrays import Doubles
from distsoftmax.arithmetic.elementary import EXP_ERROR, LOG_ERROR
from distsoftmax.arithmetic.parameters import dot
from distsoftmax.data.features import Compact, SparseFeatures
from distsoftmax.objective.cross_entropy import CrossEntropy, Fit
from distsoftmax.objective.outward_sums import ROOM, UNIT, column_lengths, gamma, largest_by_column

EXP_ROUNDINGS = math.ceil(EXP_ERROR / UNIT) + 1  # that the error of exp amounts to
CLAMPED = 2.0**-990  # exp of a score 690 below the largest, and a few times that
LEAST = 2.0**-1073  # twice the smallest float64 above 0: more than an underflow loses
LEAST_SCALE = 2.0**-999  # `FixedPoint` has no smaller unit than half of this
LARGEST_BLOCK, LEAST_BLOCK = 256, 32  # rows, as in arithmetic/core/rows.h
DECODED_IN_FLOAT32 = 2.0**-22  # of a number of a small type: what a difference and a product in float32 cost
ONE_LIMB, TWO_LIMBS = 2.0**-60, 2.0**-98  # of a sum's bound: what a shard's rounding to integers costs at most


@dataclass(frozen=True, kw_only=True)
class ErrorBounds:
    """Bounds on the errors of an evaluation.

    Attributes
    ----------
    divergence : float
        On mean_i KL(q_i || p_i): q_i the softmax of the scores as computed, p_i that of the exact ones.
    loss : float
        On the error of the mean loss.
    columns : ndarray of float64, (n_features,)
        On the Euclidean norm of the error of each column of the gradient, as that of q.
    intercept : ndarray of float64, (n_classes,)
        On the error of the intercept's gradient, as that of q.
    means : float
        On the error of the classes' means and shares, as a share of `magnitudes`, summed over the classes.
    magnitudes : ndarray of float64, (n_features,)
        On the mean magnitude of each feature.
    """

    divergence: float
    loss: float
    columns: Doubles
    intercept: Doubles
    means: float
    magnitudes: Doubles

    @property
    def are_none(self) -> bool:
        """Whether they are those of an estimate: a computed loss is never proven to be exact."""
        return self.loss == 0.0

    @classmethod
    def none(cls, n_classes: int, n_features: int) -> ErrorBounds:
        """Return what makes a bound an estimate: no errors at all."""
        zeros = np.zeros(n_features)
        return cls(divergence=0.0, loss=0.0, columns=zeros, intercept=np.zeros(n_classes), means=0.0, magnitudes=zeros)


@dataclass(frozen=True, kw_only=True)
class RoundingModel:
    """The lengths and magnitudes that the errors of an evaluation in float64 follow from; equal on every rank.

    Attributes
    ----------
    n_classes : int
    row_length : int
        The products in a score: the number of features, or of the entries of the fullest sparse row.
    row_chain : int
        The additions that a row's part of a gradient goes through in its shard: the rows of a block and the number of
        blocks; for sparse features the rows of the largest shard.
    shard_rows, n_shards : int
        The rows of the largest shard, and the number of shards.
    total_weight : float
    is_weighted : bool
        Whether samples have weights of their own.
    largest, magnitudes : ndarray of float64, (n_features + 1,)
        The largest magnitude of each feature as stored, in training's units, and the mean magnitude by weight, both
        computed with a relative error below 1 %; 1 for the intercept.
    offset : ndarray of float64, (n_features,), or None
        What is subtracted from sparse features; see `Standardization.offset`.
    means_error : float
        What else the classes' means are off by, relative to the magnitudes: small types are decoded in float32 there.
    """

    n_classes: int
    row_length: int
    row_chain: int
    shard_rows: int
    n_shards: int
    total_weight: float
    is_weighted: bool
    largest: Doubles
    magnitudes: Doubles
    offset: Doubles | None = None
    means_error: float = 0.0

    @classmethod
    def of(cls, cross_entropy: CrossEntropy) -> RoundingModel:
        """Measure the lengths of the chains. Collective: a pass over the samples, of which no feature is read."""
        dataset, cluster = cross_entropy.dataset, cross_entropy.cluster
        n_classes, width = dataset.shape
        lengths = np.zeros(4)  # rows of a shard, entries of a row, whether there are weights, and small types
        with cluster.agreement():
            for samples in dataset.training:
                features = samples.features
                row_length = width - 1
                if isinstance(features, SparseFeatures):
                    row_length = int(np.diff(features.matrix.indptr).max(initial=0))
                weighted, compact = samples.weights is not None, isinstance(features, Compact)
                lengths = np.maximum(lengths, [samples.classes.size, row_length, weighted, compact])
        cluster.maximum(lengths)
        shard_rows, row_length, weighted, compact = lengths.astype(int).tolist()
        blocks = -(-shard_rows // LEAST_BLOCK)
        return cls(
            n_classes=n_classes,
            row_length=row_length,
            row_chain=LARGEST_BLOCK + (shard_rows if dataset.sparse else blocks),
            shard_rows=shard_rows,
            n_shards=dataset.n_shards,
            total_weight=dataset.total_weight,
            is_weighted=bool(weighted),
            largest=cross_entropy.bounds.largest,
            magnitudes=cross_entropy.bounds.magnitudes / dataset.total_weight,
            offset=cross_entropy.offset,
            means_error=DECODED_IN_FLOAT32 if compact and dataset.dtype == np.float32 else 0.0,
        )

    @property
    def _of_total_weight(self) -> float:
        """The relative error of the total weight: a count is exact."""
        return gamma(self.shard_rows + self.n_classes + 8) + self.n_shards * TWO_LIMBS if self.is_weighted else 0.0

    @property
    def _of_means(self) -> float:
        """The error of a column of the classes' means, in the 1-norm, as a share of `_centred_magnitudes`."""
        of_integers = self.n_classes * self.n_shards * TWO_LIMBS
        return ROOM * (gamma(self.shard_rows + 12) + self._of_total_weight + of_integers + self.means_error)

    @property
    def _mean_magnitudes(self) -> Doubles:
        """A bound on mean_i |x_ij|, (n_features + 1,)."""
        smallest = self.n_shards * TWO_LIMBS * self.largest + self._underflow
        bound: Doubles = ROOM * (self.magnitudes + smallest)
        return bound

    @property
    def _centred_magnitudes(self) -> Doubles:
        """A bound on the mean magnitudes of the features less `offset`, (n_features,)."""
        bound = self._mean_magnitudes[:-1]
        return bound if self.offset is None else bound + np.abs(self.offset)

    @property
    def _underflow(self) -> float:
        """What underflow costs a mean over all rows at most."""
        return ROOM * self.n_shards * (self.shard_rows * LEAST + LEAST_SCALE) / self.total_weight

    def error_bounds(self, fit: Fit, parameters: Doubles, shares: Doubles) -> ErrorBounds:
        """Bound the errors of an evaluation in float64; `shares` are the classes', of the total weight."""
        mean, largest = self._score_error(parameters)
        of_loss = self._loss_error(fit.loss, mean, largest, fit.loss_bound)
        return ErrorBounds(
            # the divergence is at most (range of delta)^2 / 8, and at most that range, the range at most 2 |delta|
            divergence=ROOM * min(largest * mean / 2, 2 * mean),
            loss=of_loss,
            columns=self._gradient_error(column_lengths(fit.gradient), fit.loss + of_loss),
            intercept=self._intercept_error(fit.gradient[:, -1], shares),
            means=self._of_means,
            magnitudes=self._centred_magnitudes,
        )

    def _score_error(self, parameters: Doubles) -> tuple[float, float]:
        """Bound max_k |delta_ik| for parameters of the centred features: its mean over the samples, and the largest."""
        sizes = largest_by_column(parameters)
        offset, shift = 0.0, 0.0
        if self.offset is not None:  # the stored intercept is b - coef offset
            offset = dot(sizes[:-1], np.abs(self.offset))
            shift = gamma(sizes.size + 6) * (sizes[-1] + offset)
        intercept = ROOM * (sizes[-1] + offset)
        a_product = gamma(self.row_length + 3)
        rest = shift + (self.row_length + 2) * LEAST
        mean = a_product * (intercept + dot(sizes[:-1], self._mean_magnitudes[:-1])) + rest
        largest = a_product * (intercept + ROOM * dot(sizes[:-1], self.largest[:-1])) + rest
        return float(ROOM * mean), float(ROOM * largest)

    def _loss_error(self, loss: float, mean: float, largest: float, loss_bound: float) -> float:
        """Bound the error of a mean loss; see `_score_error` and `Fit.loss_bound`."""
        of_sum = self.n_shards * TWO_LIMBS * loss_bound / self.total_weight
        log_classes = (self.n_classes - 1).bit_length()  # log K < ceil(log2 K)
        of_sample = gamma(self.n_classes + EXP_ROUNDINGS) + LOG_ERROR * log_classes
        of_sample += self.n_classes * CLAMPED + 2 * LEAST
        relative = gamma(self.shard_rows + 8) + self._of_total_weight
        computed = max(loss, 0.0) + 2 * of_sample  # no sample's computed loss is below -of_sample
        of_scores = 2 * mean
        if largest < 0.25:
            exact = computed * (1 + 2 * relative) + of_sum
            of_scores = min(of_scores, 2 * largest / (1 - 2 * largest) * exact)
        return float(ROOM * (of_scores + 2 * of_sample + 2 * relative * computed + of_sum + self._underflow))

    def _gradient_error(self, norms: Doubles, loss: float) -> Doubles:
        """Bound the Euclidean norms of the errors of the columns of the gradient of the mean loss, (n_features,).

        From those of the computed columns, after centring, and a bound on the mean loss of the scores as computed.
        """
        magnitudes = self._mean_magnitudes[:-1]
        errors = self._of_probabilities * magnitudes
        errors += gamma(self.row_chain) * math.sqrt(2) * np.minimum(magnitudes, self.largest[:-1] * ROOM * loss)
        errors += math.sqrt(self.n_classes) * self.n_shards * ONE_LIMB * ROOM * self.magnitudes[:-1]
        errors += math.sqrt(self.n_classes) * self._underflow * (2 + self.largest[:-1])
        of_last = self._of_total_weight + 4 * UNIT  # the total as float64, the division, and the centring
        errors += of_last * norms[:-1]
        if self.offset is not None:
            of_intercept = self._of_probabilities + gamma(self.row_chain) * math.sqrt(2) * min(1.0, ROOM * loss)
            of_intercept += math.sqrt(self.n_classes) * (self.n_shards * ONE_LIMB + 2 * self._underflow)
            errors += np.abs(self.offset) * (of_intercept + 2 * of_last * norms[-1])
        errors *= ROOM
        return errors

    def _intercept_error(self, excess: Doubles, shares: Doubles) -> Doubles:
        """Bound the error of the intercept's gradient, (n_classes,); `excess` is as computed."""
        relative = self._of_probabilities + gamma(self.row_chain) + self._of_total_weight + 4 * UNIT
        of_integers = self.n_shards * ONE_LIMB + 3 * self._underflow
        errors: Doubles = ROOM * (relative * (2 * shares + 2 * np.abs(excess)) + of_integers)
        return errors

    @property
    def _of_probabilities(self) -> float:
        """The error of p_i - e_y(i), weighted, in the Euclidean norm; what the chain of the rows makes of it, too."""
        return gamma(self.n_classes + 2 * EXP_ROUNDINGS + 7) + self.n_classes * CLAMPED
