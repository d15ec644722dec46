"""The objective over all shards of all ranks: each rank its own shards, then one exact Allreduce.

The fixed-point scales need bounds on the sums before these are known (`cluster/exact_sum.py`). For the gradient see
`gradient_sum.py`. For the loss, |z_k| <= sum_j |coef_kj| max_i |x_ij| + |intercept_k| bounds each sample's loss by
log(n_classes) + 2 max_k |z_k|: known from the parameters, which every rank holds.

Sparse features that are centred are never made dense: with x - m for x, the scores are those of x with the intercept
lowered by coef m, and the gradient is that of x less (the intercept's gradient) m^T.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distsoftmax.cluster.communicator import Cluster
from distsoftmax.cluster.exact_sum import FixedPoint
from distsoftmax.config import ObjectiveConfig
from distsoftmax.data.partition import Partition, Samples
from distsoftmax.objective.certificate import lower_bound, row_runs, squared_norm
from distsoftmax.objective.feature_bounds import FeatureBounds, measure_features
from distsoftmax.objective.softmax import SoftmaxKernel
from distsoftmax.solvers.protocol import Evaluation


@dataclass(frozen=True)
class Scores:
    """How well parameters do on some samples: the share classified correctly, and the mean cross-entropy."""

    accuracy: float
    log_loss: float


class SoftmaxObjective:
    """Weighted mean cross-entropy over all training samples plus the penalty; see `solvers.protocol.Objective`.

    Parameters
    ----------
    partition : Partition
        This rank's samples.
    config : ObjectiveConfig
    cluster : Cluster
    threads : int
        Shards computed at once; the same bits for any number.

    Attributes
    ----------
    compute_seconds : float
        Seconds this rank has spent on its own samples.

    Notes
    -----
    Collective, as is every call of it.
    """

    def __init__(self, partition: Partition, config: ObjectiveConfig, cluster: Cluster, threads: int = 1) -> None:
        self.shape = (len(partition.classes), len(partition.encoding.feature_names) + 1)
        self.compute_seconds = 0.0
        self._partition = partition
        self._config = config
        self._cluster = cluster
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self._offset = partition.standardization.offset
        self._bounds: FeatureBounds = measure_features(partition, self.shape, config.l2 > 0, self._offset, cluster)

    def __call__(self, parameters: NDArray[np.float64]) -> Evaluation:
        """Return the objective, its gradient and a lower bound on its optimum. Collective: one Allreduce."""
        config, partition, gradient_sum = self._config, self._partition, self._bounds.gradient_sum
        shifted = self._shifted(parameters)
        loss_bound = self._loss_bound(shifted, partition.total_weight, self._bounds.largest)
        if not math.isfinite(loss_bound):
            return Evaluation.not_finite(parameters)
        loss_sum = FixedPoint(loss_bound)
        # one message: the gradient, the loss in two limbs, and the number of shards that are not finite
        size = gradient_sum.size

        def work(samples: Iterable[Samples]) -> NDArray[np.int64]:
            message = np.zeros(size + 3, dtype=np.int64)
            with np.errstate(all="ignore"):  # what is not finite is counted, and told apart by all ranks together
                kernel = SoftmaxKernel(shifted, partition.dtype, sparse=partition.sparse)
                for some in samples:
                    loss, gradient = kernel.loss_and_gradient(some.features, some.classes, some.weights)
                    if math.isfinite(loss) and gradient_sum.add(gradient, message[:size]):
                        message[size : size + 2] += loss_sum.limbs(loss)
                    else:
                        message[-1] += 1
            return message

        message = self._sum_over_shards(work, partition.training)
        if message[-1]:
            return Evaluation.not_finite(parameters)
        loss = float(loss_sum.value(message[size], message[size + 1])) / partition.total_weight
        gradient = gradient_sum.value(message)
        del message
        gradient /= partition.total_weight
        if self._offset is not None:
            gradient[:, :-1] -= np.outer(gradient[:, -1], self._offset)
        rounding = self._rounding(shifted, loss) + loss_sum.error(partition.n_shards) / partition.total_weight
        bound = -math.inf
        if config.l2 > 0:
            class_means = self._bounds.class_means
            bound = lower_bound(loss, gradient, parameters, class_means, config.l2, config.intercept) - rounding
            bound = max(0.0, bound)  # the objective is a sum of terms that are none of them negative
        coef = parameters[:, :-1]
        if config.l2 > 0:
            for run in row_runs(coef):
                gradient[run, :-1] += config.l2 * coef[run]
        if not config.intercept:
            gradient[:, -1] = 0.0
        value = loss + config.l2 / 2 * squared_norm(coef)
        return Evaluation(value, gradient, bound, rounding)

    def scores(self, parameters: NDArray[np.float64], *, held_out: bool) -> Scores:
        """Return accuracy and log loss on the held-out or on the training samples, unweighted. Collective."""
        partition = self._partition
        n_samples = partition.n_held_out if held_out else partition.n_training
        shifted = self._shifted(parameters)
        largest = self._bounds.largest_held_out if held_out else self._bounds.largest
        loss_bound = self._loss_bound(shifted, n_samples, largest)
        if not math.isfinite(loss_bound):
            return Scores(math.nan, math.inf)
        loss_sum = FixedPoint(loss_bound)

        def work(samples: Iterable[Samples]) -> NDArray[np.int64]:
            message = np.zeros(4, dtype=np.int64)
            with np.errstate(all="ignore"):
                kernel = SoftmaxKernel(shifted, partition.dtype, sparse=partition.sparse)
                for some in samples:
                    loss = kernel.loss_and_accuracy(some.features, some.classes)
                    message[0] += loss.n_correct
                    if math.isfinite(loss.total):
                        message[1:3] += loss_sum.limbs(loss.total)
                    else:
                        message[3] += 1
            return message

        message = self._sum_over_shards(work, partition.held_out if held_out else partition.training)
        log_loss = math.inf if message[3] else float(loss_sum.value(message[1], message[2])) / n_samples
        return Scores(int(message[0]) / n_samples, log_loss)

    def _shifted(self, parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the parameters that give the features as stored the scores of the centred ones."""
        if self._offset is None:
            return parameters
        shifted: NDArray[np.float64] = parameters.copy()
        shifted[:, -1] -= parameters[:, :-1] @ self._offset
        return shifted

    def _sum_over_shards(
        self, work: Callable[[Iterable[Samples]], NDArray[np.int64]], samples: Iterable[Samples]
    ) -> NDArray[np.int64]:
        """Do integer work on every shard of every rank and sum it: the same bits for any ranks and threads."""
        start = time.perf_counter()
        if self._pool is None:
            message = work(samples)
        else:
            shared = _Shared(samples)
            message, *others = self._pool.map(work, [shared] * self._threads)
            for other in others:
                message += other
        self.compute_seconds += time.perf_counter() - start
        self._cluster.sum_integers(message)
        return message

    def _loss_bound(self, parameters: NDArray[np.float64], weight: float, largest: NDArray[np.float64]) -> float:
        """Bound the sum of the losses, with room for the rounding of scores in float32."""
        return 1.01 * weight * (math.log(self.shape[0]) + 2 * _largest_score(parameters, largest))

    def _rounding(self, parameters: NDArray[np.float64], loss: float) -> float:
        """Estimate how far rounding may have moved the mean loss.

        A score is a sum of `width` products, off by about sqrt(width) unit roundoffs of the sum of their magnitudes
        (N. J. Higham and T. Mary, "A new approach to probabilistic rounding error analysis", SIAM J. Sci. Comput.
        41(5), 2019). Their errors have either sign, so the mean over many samples is off by far less; one unit
        roundoff of the mean magnitudes is left as the allowance. On real data the error was 100 to 1,000 times smaller.
        """
        unit = float(np.finfo(self._partition.dtype).eps) / 2
        score = _largest_score(parameters, self._bounds.mean_magnitude)
        return unit * (4 + loss + 2 * score)


class _Shared(Iterable[Samples]):
    """Samples that several threads take from, each those that no other has taken."""

    def __init__(self, samples: Iterable[Samples]) -> None:
        self._samples = iter(samples)
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Samples]:
        while True:
            with self._lock:
                some = next(self._samples, None)
            if some is None:
                return
            yield some


def _largest_score(parameters: NDArray[np.float64], magnitudes: NDArray[np.float64]) -> float:
    """Return the largest of |parameters| @ magnitudes."""
    with np.errstate(over="ignore", invalid="ignore"):
        return max(float(np.max(np.abs(parameters[run]) @ magnitudes)) for run in row_runs(parameters))
