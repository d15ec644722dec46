"""The data fit: weighted mean cross-entropy over all training samples of all ranks, and its derivatives.

Each rank computes its own shards with the compiled core (`arithmetic/kernels.py`), which rounds each shard's sums once
to integers; one Allreduce adds them, exactly. The scales of the integers need bounds on the sums before these are known
(`arithmetic/fixed_point.py`). For the gradient they follow from |p - y| <= 1. For the loss, |z_k| <= sum_j |coef_kj|
max_i |x_ij| + |intercept_k| bounds each sample's loss by log(n_classes) + 2 max_k |z_k|: known from the parameters,
which every rank holds. For a product with the hessian, along u = direction (x, 1) a sample's gradient changes by
p_k (u_k - sum_l p_l u_l), of magnitude at most max |u| / 2, so |feature| max |u| / 2 bounds the sums.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from distsoftmax.arithmetic.arrays import Doubles, Integers, Reals
from distsoftmax.arithmetic.fixed_point import FixedPoint
from distsoftmax.arithmetic.kernels import Direction, Scorer, padded
from distsoftmax.arithmetic.parameters import matrix_vector
from distsoftmax.arithmetic.sums import Sums
from distsoftmax.cluster.communicator import Communicator
from distsoftmax.data.dataset import Dataset
from distsoftmax.data.preparation import Samples
from distsoftmax.objective.feature_bounds import ROOM, bound_loss, largest_score, measure_features
from distsoftmax.objective.penalty import Penalty
from distsoftmax.objective.shard_sums import ShardSums


@dataclass(frozen=True)
class Fit:
    """The mean loss at a point, without penalty, and its gradient.

    Attributes
    ----------
    loss : float
        inf where it, or the gradient, is not finite.
    gradient : ndarray of float64, (n_classes, n_features + 1)
        Of the centred features; that of the intercept last, whether it is fitted or not.
    loss_bound : float
        On the sum of the losses, weights included; what the loss was rounded by follows from it.
    """

    loss: float
    gradient: Doubles
    loss_bound: float

    @classmethod
    def not_finite(cls, shape: tuple[int, int]) -> Fit:
        """Return what is said where numbers leave the finite ones."""
        return cls(math.inf, np.full(shape, math.nan), math.inf)


@dataclass(frozen=True)
class Scores:
    """How well parameters do on samples: the fraction classified correctly, and the mean cross-entropy."""

    accuracy: float
    log_loss: float


class CrossEntropy:
    """Weighted mean cross-entropy over the training samples.

    Parameters
    ----------
    dataset : Dataset
        This rank's samples.
    cluster : Communicator
    threads : int
        Shards computed at once; the same bits for any number.
    by_class : bool
        Whether the classes' means are measured, which a certificate needs.

    Attributes
    ----------
    dataset : Dataset
    cluster : Communicator
    shape : tuple of int
        The parameters', (n_classes, n_features + 1).
    offset : ndarray or None
        What sparse features are centred by, without being made dense: see `for_stored` and `Standardization.offset`.
    bounds : FeatureBounds
    sums : ShardSums
    most_kept : float
        What a hessian may keep in memory, as a part of what the features take.

    Notes
    -----
    Collective, as is every call of it.
    """

    def __init__(self, dataset: Dataset, cluster: Communicator, threads: int, *, by_class: bool) -> None:
        self.dataset = dataset
        self.cluster = cluster
        self.shape = dataset.shape
        self.offset = dataset.standardization.offset
        self.bounds = measure_features(dataset, by_class, cluster)
        self.sums = ShardSums(cluster, threads)
        self.most_kept = 1.0
        self._gradient_scale = FixedPoint(self.bounds.magnitudes)

    def over(self, dataset: Dataset) -> CrossEntropy:
        """Return the same of other shards of the same samples; what all ranks know stays. Not collective."""
        fit = copy.copy(self)
        fit.dataset = dataset
        return fit

    def for_stored(self, parameters: Doubles) -> Doubles:
        """Return the parameters that give the features as they are stored the scores of the centred ones, x - offset.

        The intercept is lowered by coef offset.
        """
        if self.offset is None:
            return parameters
        shifted: Doubles = parameters.copy()
        shifted[:, -1] -= matrix_vector(parameters[:, :-1], self.offset)
        return shifted

    def scorer(self, stored: Doubles, dtype: np.dtype) -> Scorer:
        """Return parameters for the features as they are stored (`for_stored`), ready to score them."""
        return Scorer(stored, dtype, sparse=self.dataset.sparse)

    def evaluate(self, parameters: Doubles, dtype: np.dtype) -> Fit:
        """Return the mean loss and its gradient, computed in a type. Collective: one Allreduce."""
        shards, weight = ((samples, None) for samples in self.dataset.training), self.dataset.total_weight
        return self.mean_over(shards, parameters, dtype, self._gradient_scale, weight, weight)

    def mean_over(
        self,
        shards: Iterable[tuple[Samples, Integers | None]],
        parameters: Doubles,
        dtype: np.dtype,
        gradient_scale: FixedPoint,
        most_weight: float,
        weight: float,
    ) -> Fit:
        """Return the mean loss of some samples and its gradient, computed in a type. Collective: one Allreduce.

        Parameters
        ----------
        shards
            This rank's samples, and the numbers of the rows to take of each shard; None: all.
        gradient_scale : FixedPoint
            Of bounds on the sums of weight * magnitude of each feature, (n_features + 1,).
        most_weight : float
            A bound on the samples' weight.
        weight : float
            What their sum is divided by.
        """
        stored = self.for_stored(parameters)
        bound = bound_loss(stored, most_weight, self.bounds.largest)
        if not math.isfinite(bound):
            return Fit.not_finite(self.shape)
        sums = Sums(gradient_scale, FixedPoint(bound), self.shape[0], self.dataset.sparse)
        scorer = self.scorer(stored, dtype)

        def work(taken: Iterable[tuple[Samples, Integers | None]]) -> Integers:
            totals = sums.empty()
            for samples, numbers in taken:
                rows = samples.rows(dtype)
                scorer.add_loss_and_gradient(rows if numbers is None else rows.taking(numbers), totals)
            return totals.array

        return self.finished(sums, self.sums.sum(work, shards), bound, weight)

    def finished(self, sums: Sums, array: Integers, loss_bound: float, weight: float) -> Fit:
        """Return the mean, over samples of a weight, of what all ranks have summed.

        The gradient is that of the centred features: that of x less (the intercept's gradient) offset^T.
        """
        value = sums.value(array)
        if value is None:
            return Fit.not_finite(self.shape)
        loss, gradient = value
        gradient /= weight
        if self.offset is not None:
            gradient[:, :-1] -= np.outer(gradient[:, -1], self.offset)
        return Fit(loss / weight, gradient, loss_bound)

    def rounding(self, parameters: Doubles, loss: float, dtype: np.dtype) -> float:
        """Estimate how far rounding may have moved the mean loss.

        A score is a sum of `width` products, off by about sqrt(width) unit roundoffs of the sum of their magnitudes
        (N. J. Higham and T. Mary, "A new approach to probabilistic rounding error analysis", SIAM J. Sci. Comput.
        41(5), 2019). Their errors have either sign, so the mean over many samples is off by far less; one unit
        roundoff of the mean magnitudes is left as the allowance. On real data the error was 100 to 1,000 times smaller.
        """
        unit = float(np.finfo(dtype).eps) / 2
        magnitudes = self.bounds.magnitudes / self.dataset.total_weight
        return unit * (4 + loss + 2 * largest_score(self.for_stored(parameters), magnitudes))

    def intercept_hessian(self, parameters: Doubles) -> Doubles:
        """Return the hessian with respect to the intercepts, (n_classes, n_classes). Collective: one Allreduce."""
        dataset, dtype = self.dataset, self.dataset.dtype
        fixed = FixedPoint(ROOM * dataset.total_weight)
        scorer = self.scorer(self.for_stored(parameters), dtype)

        def work(samples: Iterable[Samples]) -> Integers:
            array = np.zeros((self.shape[0], self.shape[0]), dtype=np.int64)
            for of_shard in samples:
                array += fixed.limbs(scorer.intercept_hessian(of_shard.rows(dtype)))[0]
            return array

        return fixed.value(self.sums.sum(work, dataset.training)[None]) / dataset.total_weight

    def scores(self, parameters: Doubles, *, held_out: bool) -> Scores:
        """Return accuracy and log loss on the held-out or on the training samples, unweighted. Collective."""
        dataset, dtype = self.dataset, self.dataset.dtype
        n_samples = dataset.n_held_out if held_out else dataset.n_training
        largest = self.bounds.largest_held_out if held_out else self.bounds.largest
        stored = self.for_stored(parameters)
        bound = bound_loss(stored, n_samples, largest)
        if not math.isfinite(bound):
            return Scores(math.nan, math.inf)
        fixed = FixedPoint(bound)
        scorer = self.scorer(stored, dtype)

        def work(samples: Iterable[Samples]) -> Integers:
            array = np.zeros(4, dtype=np.int64)  # correct ones, the loss in two limbs, shards that are not finite
            for of_shard in samples:
                loss, predicted = scorer.loss_and_prediction(of_shard.rows(dtype))
                array[0] += np.count_nonzero(predicted == of_shard.classes)
                if math.isfinite(loss):
                    array[1:3] += fixed.limbs(loss)
                else:
                    array[3] += 1
            return array

        array = self.sums.sum(work, dataset.held_out if held_out else dataset.training)
        log_loss = math.inf if array[3] else float(fixed.value(array[1:3])) / n_samples
        return Scores(int(array[0]) / n_samples, log_loss)


class Hessian:
    """The hessian of the mean loss and the penalty's smooth part at one point. Its products are collective.

    The probabilities are computed once and kept, where all features are in memory and the probabilities take no more
    of it than they may; see `CrossEntropy.most_kept`.
    """

    def __init__(self, fit: CrossEntropy, penalty: Penalty, parameters: Doubles) -> None:
        self._fit, self._penalty = fit, penalty
        dataset = fit.dataset
        self._at = fit.scorer(fit.for_stored(parameters), dataset.dtype)
        self._keeps = False
        if dataset.bytes_spooled == 0:
            n_probabilities = padded(len(parameters)) * sum(of_shard.classes.size for of_shard in dataset.training)
            self._keeps = n_probabilities * dataset.dtype.itemsize <= fit.most_kept * dataset.bytes_held
        self._kept: dict[int, Reals] = {}

    def product(self, direction: Doubles) -> Doubles:
        """Return the product with a direction, (n_classes, n_features + 1). Collective: one Allreduce."""
        if not self._penalty.config.intercept:
            direction = direction.copy()
            direction[:, -1] = 0.0
        product = self._product(direction)
        self._penalty.add_smooth_gradient(direction, product)
        return product

    def _product(self, direction: Doubles) -> Doubles:
        """Return that of the mean loss. Collective: one Allreduce."""
        fit, dataset, bounds = self._fit, self._fit.dataset, self._fit.bounds
        stored = fit.for_stored(direction)
        largest = ROOM * largest_score(stored, bounds.largest)
        if largest == 0.0:
            return np.zeros_like(direction)
        bound = largest / 2 * bounds.magnitudes
        if not np.isfinite(bound).all():
            return np.full_like(direction, np.nan)
        sums = Sums(FixedPoint(bound), FixedPoint(0.0), fit.shape[0], dataset.sparse)
        along = Direction(stored, dataset.dtype, sparse=dataset.sparse)

        def work(samples: Iterable[Samples]) -> Integers:
            totals = sums.empty()
            for of_shard in samples:
                kept, rows = self._probabilities(of_shard), of_shard.rows(dataset.dtype)
                along.add_hessian_product(self._at, kept, rows, totals)
            return totals.array

        array = fit.sums.sum(work, dataset.training)
        return fit.finished(sums, array, 0.0, dataset.total_weight).gradient

    def _probabilities(self, samples: Samples) -> Reals | None:
        if not self._keeps:
            return None
        if samples.shard not in self._kept:
            self._kept[samples.shard] = self._at.padded_probabilities(samples.rows(self._fit.dataset.dtype))
        return self._kept[samples.shard]
