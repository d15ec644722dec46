"""The objective over all shards of all ranks: each rank its own shards, then one exact Allreduce.

The fixed-point scales need bounds on the sums before these are known (`cluster/exact_sum.py`). For the gradient see
`gradient_sum.py`. For the loss, |z_k| <= sum_j |coef_kj| max_i |x_ij| + |intercept_k| bounds each sample's loss by
log(n_classes) + 2 max_k |z_k|: known from the parameters, which every rank holds.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from distsoftmax.cluster.communicator import Cluster
from distsoftmax.cluster.exact_sum import FixedPoint
from distsoftmax.config import ObjectiveConfig
from distsoftmax.data.partition import Partition, Samples
from distsoftmax.objective.batches import SoftmaxBatches
from distsoftmax.objective.centring import centre_gradient, for_stored
from distsoftmax.objective.certificate import lower_bounds
from distsoftmax.objective.curvature import SoftmaxCurvature
from distsoftmax.objective.evaluation_sum import EvaluationSum
from distsoftmax.objective.feature_bounds import ROOM, FeatureBounds, bound_loss, largest_score, measure_features
from distsoftmax.objective.penalties import SparsePenalty
from distsoftmax.objective.preconditioners import CurvatureModel, NoModel, curvature_model, fit_curvature_model
from distsoftmax.objective.row_runs import finish_gradient, squared_norm
from distsoftmax.objective.shard_sums import ShardSums
from distsoftmax.objective.softmax import SoftmaxKernel
from distsoftmax.solvers.protocol import Evaluation, Preconditioner
from distsoftmax.solvers.trust_region import steihaug

LAST_PLACES = 2  # of the value in float64: the rounding of its penalties
REPAIRS = 6  # Newton steps for a higher lower bound
TIGHT = 2.0  # times the true gap is as good as a certified one needs to be
NOTICEABLE = 0.01  # of the gap
MOST_PRODUCTS = 50  # with the hessian, in such a step


@dataclass(frozen=True)
class Scores:
    """How well parameters do on some samples: the share classified correctly, and the mean cross-entropy."""

    accuracy: float
    log_loss: float


class SoftmaxObjective:
    """Weighted mean cross-entropy over all training samples plus the penalties; see `solvers.protocol`.

    Parameters
    ----------
    partition : Partition
        This rank's samples.
    config : ObjectiveConfig
    cluster : Cluster
    threads : int
        Shards computed at once; the same bits for any number.
    seed : int
        Decides which samples the preconditioner looks at.

    Attributes
    ----------
    penalty : SparsePenalty or None

    Notes
    -----
    Collective, as is every call of it.
    """

    def __init__(
        self, partition: Partition, config: ObjectiveConfig, cluster: Cluster, threads: int = 1, seed: int = 0
    ) -> None:
        self.shape = partition.shape
        self.penalty = SparsePenalty(config.l1, config.group) if config.sparse else None
        self._partition = partition
        self._config = config
        self._cluster = cluster
        self._seed = seed
        self._sums = ShardSums(cluster, threads)
        self._offset = partition.standardization.offset
        self._certifies = config.l2 > 0 or config.sparse
        self._bounds: FeatureBounds = measure_features(partition, self.shape, self._certifies, self._offset, cluster)
        self._model: CurvatureModel | None = None
        self._fitted: tuple[NDArray[np.float64], Preconditioner | None] | None = None
        self._batches: tuple[int, SoftmaxBatches] | None = None

    def with_penalties(self, config: ObjectiveConfig) -> SoftmaxObjective:
        """Return the objective with other penalties, of which there are some in both, over the same samples.

        What was measured of the samples is shared. Collective where the solver takes a preconditioner.
        """
        other = copy.copy(self)
        other.penalty = SparsePenalty(config.l1, config.group) if config.sparse else None
        other._config = config
        other._fitted = other._batches = None  # they hold l2
        return other

    @property
    def compute_seconds(self) -> float:
        """Seconds this rank has spent on its own samples."""
        return self._sums.compute_seconds

    def __call__(self, parameters: NDArray[np.float64]) -> Evaluation:
        """Return the objective, its gradient and a lower bound on its optimum. Collective: one Allreduce."""
        return self._evaluate(parameters, self._partition.dtype)

    def _evaluate(self, parameters: NDArray[np.float64], dtype: np.dtype) -> Evaluation:
        """Evaluate, computing in a type."""
        config, partition = self._config, self._partition
        stored = for_stored(parameters, self._offset)
        loss_bound = bound_loss(stored, partition.total_weight, self._bounds.largest)
        if not math.isfinite(loss_bound):
            return Evaluation.not_finite(parameters)
        evaluation = EvaluationSum(self._bounds.gradient_sum, loss_bound)

        def work(samples: Iterable[Samples]) -> NDArray[np.int64]:
            return evaluation.of_samples(samples, stored, dtype, sparse=partition.sparse)

        sums = evaluation.value(self._sums.sum(work, partition.training))
        if sums is None:
            return Evaluation.not_finite(parameters)
        loss, gradient = sums
        loss /= partition.total_weight
        gradient /= partition.total_weight
        centre_gradient(gradient, self._offset)
        coef = parameters[:, :-1]
        value = loss + (config.l2 / 2 * squared_norm(coef) if config.l2 > 0 else 0.0)  # the norm may be infinite
        value += self.penalty.value(parameters) if self.penalty is not None else 0.0
        rounding = (
            self._rounding(stored, loss, dtype) + evaluation.loss_error(partition.n_shards) / partition.total_weight
        )
        rounding += LAST_PLACES * float(np.finfo(np.float64).eps) * value
        proven, reachable = -math.inf, -math.inf
        if self._certifies:
            bounds = lower_bounds(
                loss, gradient, parameters, self._bounds.class_means, config.l2, self.penalty, config.intercept
            )
            # the objective is a sum of terms that are none of them negative
            proven, reachable = max(0.0, bounds[0] - rounding), max(0.0, bounds[1])
        finish_gradient(gradient, parameters, config.l2, config.intercept)
        least = gradient if self.penalty is None else self.penalty.least_subgradient(parameters, gradient)
        return Evaluation(value, gradient, math.sqrt(squared_norm(least)), proven, reachable, rounding)

    def curvature(self, parameters: NDArray[np.float64]) -> SoftmaxCurvature:
        """Return the hessian of the smooth part at a point. Not collective; its products are."""
        return SoftmaxCurvature(self._partition, self._config, self._bounds, self._sums, parameters)

    @property
    def is_preconditioned(self) -> bool:
        """Whether `preconditioner` gives one."""
        return curvature_model(self.shape, self._partition.n_training) is not NoModel

    def preconditioner(self, parameters: NDArray[np.float64]) -> Preconditioner | None:
        """Return an approximate inverse of the hessian at a point. Collective at its first call."""
        if self._fitted is None or not np.array_equal(self._fitted[0], parameters):
            if self._model is None:
                self._model = fit_curvature_model(
                    self._partition, self._config, self.shape, self._bounds, self._seed, self._cluster
                )
            self._fitted = parameters, self._model(parameters, self._config.l2)
        return self._fitted[1]

    @property
    def n_samples(self) -> int:
        """The training samples of all ranks."""
        return self._partition.n_training

    def mini_batches(self, size: int) -> SoftmaxBatches:
        """Return the mini-batches of so many samples. Collective at the first call with this size."""
        if self._batches is None or self._batches[0] != size:
            found = SoftmaxBatches(
                self._partition, self._config, self._bounds, self._sums, size, self._seed, self._cluster
            )
            self._batches = size, found
        return self._batches[1]

    def certify(self, parameters: NDArray[np.float64], enough: float = 0.0) -> Evaluation:
        """Evaluate in float64, with the best lower bound met on a few Newton steps from there. Collective.

        A lower bound is one wherever it was found. The steps end when the gap is `enough`, or at most `TIGHT` times the
        true one (no less than what the steps have gained), or two of them have neither halved it nor led down. Where
        the intercepts' gradient is what costs the bound, they take steps of their own, cheaper and more exact ones.
        """
        dtype = np.dtype(np.float64)
        found = reached = self._evaluate(parameters, dtype)
        best, lowest, point = found.lower_bound, found.value, parameters
        gaps, fell = [math.inf, math.inf], True  # after each step; whether the last one has led down
        for _ in range(REPAIRS if self._certifies else 0):
            gap, gained = found.value - best + found.rounding, found.value - lowest
            gaps.append(gap)
            if gap <= max(enough, TIGHT * gained + 2 * found.rounding) or (gap > gaps[-3] / 2 and not fell):
                break
            by_intercepts = TIGHT * (reached.value - reached.reachable_bound) < reached.value - reached.lower_bound
            suffices = found.value - reached.reachable_bound <= max(enough, TIGHT * gained)
            if self._config.intercept and by_intercepts and (suffices or self.penalty is not None):
                step = self._intercept_step(point, reached)
            elif self.penalty is None:
                step = self._newton_step(point, reached)
            else:
                break
            point = point + step
            reached = self._evaluate(point, dtype)
            fell = reached.value < lowest - NOTICEABLE * gap
            best, lowest = max(best, reached.lower_bound), min(lowest, reached.value)
        return replace(found, lower_bound=best)

    def _intercept_step(self, point: NDArray[np.float64], reached: Evaluation) -> NDArray[np.float64]:
        """Return Newton's step of the intercepts alone. Collective: one Allreduce."""
        step = np.zeros_like(point)
        alone = np.linalg.lstsq(self._intercept_hessian(point), reached.gradient[:, -1], rcond=1e-12)[0]
        step[:, -1] = -alone / max(np.ptp(alone), 1.0)
        return step

    def _newton_step(self, point: NDArray[np.float64], reached: Evaluation) -> NDArray[np.float64]:
        """Return Newton's step, solved until the rest costs the bound less than the step gains. Collective."""
        weak = self._config.l2 / 2
        return steihaug(
            self.curvature(point),
            reached.gradient,
            self.preconditioner(point),
            math.inf,
            lambda left, _, promised: squared_norm(left) <= weak * promised,
            MOST_PRODUCTS,
        ).step

    def scores(self, parameters: NDArray[np.float64], *, held_out: bool) -> Scores:
        """Return accuracy and log loss on the held-out or on the training samples, unweighted. Collective."""
        partition = self._partition
        n_samples = partition.n_held_out if held_out else partition.n_training
        stored = for_stored(parameters, self._offset)
        largest = self._bounds.largest_held_out if held_out else self._bounds.largest
        loss_bound = bound_loss(stored, n_samples, largest)
        if not math.isfinite(loss_bound):
            return Scores(math.nan, math.inf)
        loss_sum = FixedPoint(loss_bound)

        def work(samples: Iterable[Samples]) -> NDArray[np.int64]:
            message = np.zeros(4, dtype=np.int64)
            with np.errstate(all="ignore"):
                kernel = SoftmaxKernel(stored, partition.dtype, sparse=partition.sparse)
                for some in samples:
                    loss = kernel.loss_and_accuracy(some.features, some.classes)
                    message[0] += loss.n_correct
                    if math.isfinite(loss.total):
                        message[1:3] += loss_sum.limbs(loss.total)
                    else:
                        message[3] += 1
            return message

        message = self._sums.sum(work, partition.held_out if held_out else partition.training)
        log_loss = math.inf if message[3] else float(loss_sum.value(message[1], message[2])) / n_samples
        return Scores(int(message[0]) / n_samples, log_loss)

    def _intercept_hessian(self, parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the hessian with respect to the intercept, (n_classes, n_classes). Collective: one Allreduce."""
        partition = self._partition
        stored = for_stored(parameters, self._offset)
        fixed = FixedPoint(ROOM * partition.total_weight)

        def work(samples: Iterable[Samples]) -> NDArray[np.int64]:
            message = np.zeros((self.shape[0], self.shape[0]), dtype=np.int64)
            kernel = SoftmaxKernel(stored, partition.dtype, sparse=partition.sparse)
            for some in samples:
                message += fixed.limbs(kernel.probability_products(some.features, some.weights))[0]
            return message

        return fixed.value(self._sums.sum(work, partition.training)) / partition.total_weight

    def _rounding(self, parameters: NDArray[np.float64], loss: float, dtype: np.dtype) -> float:
        """Estimate how far rounding may have moved the mean loss.

        A score is a sum of `width` products, off by about sqrt(width) unit roundoffs of the sum of their magnitudes
        (N. J. Higham and T. Mary, "A new approach to probabilistic rounding error analysis", SIAM J. Sci. Comput.
        41(5), 2019). Their errors have either sign, so the mean over many samples is off by far less; one unit
        roundoff of the mean magnitudes is left as the allowance. On real data the error was 100 to 1,000 times smaller.
        """
        unit = float(np.finfo(dtype).eps) / 2
        score = largest_score(parameters, self._bounds.magnitudes / self._partition.total_weight)
        return unit * (4 + loss + 2 * score)
