"""The objective over all shards of all ranks: each rank its own shards, then one exact Allreduce.

The fixed-point scales need bounds on the sums before these are known (`cluster/exact_sum.py`). For the gradient,
|p - y| <= 1, so sum_i |x_ij| bounds column j once and for all. For the loss, |z_k| <= sum_j |coef_kj| max_i |x_ij| +
|intercept_k| bounds each sample's loss by log(n_classes) + 2 max_k |z_k|: known from the parameters, which every rank
holds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distsoftmax.cluster.communicator import Cluster
from distsoftmax.cluster.exact_sum import FixedPoint, exact_sum
from distsoftmax.config import ObjectiveConfig
from distsoftmax.data.partition import Partition, Samples
from distsoftmax.objective.certificate import lower_bound
from distsoftmax.objective.softmax import SoftmaxKernel
from distsoftmax.solvers.protocol import Evaluation


@dataclass(frozen=True)
class Scores:
    """How well parameters do on some samples: the share classified correctly, and the mean cross-entropy."""

    accuracy: float
    log_loss: float


class SoftmaxObjective:
    """Mean cross-entropy over all training samples plus the penalty; see `solvers.protocol.Objective`.

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
        self.shape = (len(partition.classes), len(partition.feature_names) + 1)
        self.compute_seconds = 0.0
        self._partition = partition
        self._config = config
        self._cluster = cluster
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self._measure_features()

    def __call__(self, parameters: NDArray[np.float64]) -> Evaluation:
        """Return the objective, its gradient and a lower bound on its optimum. Collective: one Allreduce."""
        config, partition = self._config, self._partition
        n_samples = partition.n_training
        loss_bound = self._loss_bound(parameters, n_samples, self._largest)
        if not math.isfinite(loss_bound):
            return Evaluation.not_finite(parameters)
        loss_sum = FixedPoint(loss_bound)
        # one message: the gradient, the loss in two limbs, and the number of shards that are not finite
        size = parameters.size

        def work(samples: Sequence[Samples]) -> NDArray[np.int64]:
            message = np.zeros(size + 3, dtype=np.int64)
            totals = message[:size].reshape(self.shape)
            gradient = np.empty(self.shape)
            with np.errstate(all="ignore"):  # what is not finite is counted, and told apart by all ranks together
                kernel = SoftmaxKernel(parameters, partition.dtype)
                for some in samples:
                    loss = kernel.loss_and_gradient(some.features, some.classes, gradient)
                    if math.isfinite(loss) and self._gradient_sum.add(gradient, totals):
                        message[size : size + 2] += loss_sum.limbs(loss)
                    else:
                        message[-1] += 1
            return message

        message = self._sum_over_shards(work, partition.training)
        if message[-1]:
            return Evaluation.not_finite(parameters)
        loss = float(loss_sum.value(message[size], message[size + 1])) / n_samples
        gradient = self._gradient_sum.value(message[:size].reshape(self.shape)) / n_samples
        rounding = self._rounding(parameters, loss) + loss_sum.error(partition.n_shards) / n_samples
        bound = -math.inf
        if config.l2 > 0:
            bound = lower_bound(loss, gradient, parameters, self._class_means, config.l2, config.intercept) - rounding
            bound = max(0.0, bound)  # the objective is a sum of terms that are none of them negative
        coef = parameters[:, :-1]
        gradient[:, :-1] += config.l2 * coef
        if not config.intercept:
            gradient[:, -1] = 0.0
        value = loss + config.l2 / 2 * float(np.vdot(coef, coef))
        return Evaluation(value, gradient, bound, rounding)

    def scores(self, parameters: NDArray[np.float64], *, held_out: bool) -> Scores:
        """Return accuracy and log loss on the held-out or on the training samples. Collective."""
        partition = self._partition
        n_samples = partition.n_held_out if held_out else partition.n_training
        loss_bound = self._loss_bound(parameters, n_samples, self._largest_held_out if held_out else self._largest)
        if not math.isfinite(loss_bound):
            return Scores(math.nan, math.inf)
        loss_sum = FixedPoint(loss_bound)

        def work(samples: Sequence[Samples]) -> NDArray[np.int64]:
            message = np.zeros(4, dtype=np.int64)
            with np.errstate(all="ignore"):
                kernel = SoftmaxKernel(parameters, partition.dtype)
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

    def _sum_over_shards(
        self, work: Callable[[Sequence[Samples]], NDArray[np.int64]], samples: Sequence[Samples]
    ) -> NDArray[np.int64]:
        """Do integer work on every shard of every rank and sum it: the same bits for any ranks and threads."""
        start = time.perf_counter()
        if self._pool is None:
            message = work(samples)
        else:
            parts = self._pool.map(work, [samples[first :: self._threads] for first in range(self._threads)])
            message = sum(parts, np.int64(0))
        self.compute_seconds += time.perf_counter() - start
        self._cluster.sum_integers(message)
        return message

    def _measure_features(self) -> None:
        """Agree on each feature's magnitudes, the bounds of all later sums, and on the classes' means."""
        partition, cluster = self._partition, self._cluster
        width = self.shape[1]
        sums: list[tuple[int, NDArray[np.float64]]] = []
        self._largest = self._agree_on_largest(partition.training)
        self._largest_held_out = self._agree_on_largest(partition.held_out)
        for some in partition.training:
            magnitudes = np.append(np.abs(some.features).sum(axis=0, dtype=np.float64), len(some.features))
            sums.append((some.shard, magnitudes))
        magnitudes = exact_sum(sums, (width,), partition.n_shards, cluster)
        self._mean_magnitude = magnitudes / partition.n_training
        self._gradient_sum = FixedPoint(magnitudes)
        if self._config.l2 > 0:
            self._class_means = self._sum_by_class() / partition.n_training

    def _agree_on_largest(self, samples: Sequence[Samples]) -> NDArray[np.float64]:
        """Return the largest magnitude of each feature on all ranks, and a 1 for the intercept. Collective."""
        largest = np.zeros(self.shape[1])
        largest[-1] = 1.0
        for some in samples:
            if len(some.features):
                np.maximum(largest[:-1], np.abs(some.features).max(axis=0), out=largest[:-1])
        self._cluster.maximum(largest)
        return largest

    def _sum_by_class(self) -> NDArray[np.float64]:
        """Return the sum over samples of e_y (x, 1)^T, shape (n_classes, n_features + 1). Collective."""
        limbs = np.zeros((2, *self.shape), dtype=np.int64)
        for some in self._partition.training:
            sums = np.zeros(self.shape)
            order = np.argsort(some.classes, kind="stable")
            present, starts = np.unique(some.classes[order], return_index=True)
            if present.size:
                sums[present, :-1] = np.add.reduceat(some.features[order].astype(np.float64), starts, axis=0)
                sums[:, -1] = np.bincount(some.classes, minlength=self.shape[0])
            limbs += self._gradient_sum.limbs(sums)
        self._cluster.sum_integers(limbs)
        return self._gradient_sum.value(limbs[0], limbs[1])

    def _largest_score(self, parameters: NDArray[np.float64], magnitudes: NDArray[np.float64]) -> float:
        with np.errstate(over="ignore", invalid="ignore"):
            return float(np.max(np.abs(parameters) @ magnitudes))

    def _loss_bound(self, parameters: NDArray[np.float64], n_samples: int, largest: NDArray[np.float64]) -> float:
        """Bound the sum of the losses, with room for the rounding of scores in float32."""
        return 1.01 * n_samples * (math.log(self.shape[0]) + 2 * self._largest_score(parameters, largest))

    def _rounding(self, parameters: NDArray[np.float64], loss: float) -> float:
        """Estimate how far rounding may have moved the mean loss.

        A score is a sum of `width` products, off by about sqrt(width) unit roundoffs of the sum of their magnitudes
        (N. J. Higham and T. Mary, "A new approach to probabilistic rounding error analysis", SIAM J. Sci. Comput.
        41(5), 2019). Their errors have either sign, so the mean over many samples is off by far less; one unit
        roundoff of the mean magnitudes is left as the allowance. On real data the error was 100 to 1,000 times smaller.
        """
        unit = float(np.finfo(self._partition.dtype).eps) / 2
        score = self._largest_score(parameters, self._mean_magnitude)
        return unit * (4 + loss + 2 * score)
