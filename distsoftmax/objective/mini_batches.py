"""The objective's mini-batches: unbiased estimates of it from a few rows of every shard of all ranks.

Rows
----
In each epoch every shard's rows are permuted, and each batch takes the next few of every shard, in proportion to what
remains of it, rounded up or down at random such that

- a batch holds as many samples as asked for, the last one what remains,
- an epoch holds every sample once,
- each remaining sample is as likely as any other to be in the next batch, so that the batch's mean is unbiased.

It is systematic sampling (W. G. Madow and L. H. Madow, "On the theory of systematic sampling, I", Ann. Math. Statist.
15, 1944): lay the M remaining rows end to end, shard after shard, and draw c from 0 ... M - 1. The batch has taken
floor((B x + c) / M) of the first x rows. Of r rows of a shard it takes floor(B r / M) or one more, B r / M in the mean;
of all M, B.

Estimates
---------
So the rows of a batch do not depend on who holds which shard. Each shard's part of the sum is rounded once to integers,
which one Allreduce adds: the same bits on any number of ranks. With n samples of weights w, W the sum of these, the
estimate of the data fit from a batch B is

    n / |B| * sum over B of w_i loss_i / W,

unbiased for any size, that of the short last batch too. Where no weight is above h, |B| h |feature| bounds the batch's
sums, as do those over all samples.

Smoothness
----------
A safe learning rate follows from how strongly the estimates' gradients may change. The hessian of one sample's loss is
(diag(p) - p p^T) (x) (x, 1)(x, 1)^T, and diag(p) - p p^T is at most 1/2 of the identity (D. Boehning, "Multinomial
logistic regression algorithm", Ann. Inst. Statist. Math. 44, 1992, with 1/2 (I - 1 1^T / n_classes)). So with M the
weighted mean of (x, 1)(x, 1)^T,

    L     = largest eigenvalue of M / 2 + l2            bounds the curvature of the smooth part, and
    L_max = max_i n w_i / W |(x_i, 1)|^2 / 2 + l2       that of every sample's term.

Of a batch of b of the n samples the expected smoothness is at most

    n (b - 1) / (b (n - 1)) L + (n - b) / (b (n - 1)) L_max

(R. M. Gower et al., "SGD: General analysis and improved rates", ICML 2019, proposition 3.8). At parameters 0 all
probabilities are 1 / n_classes, so the hessian's largest eigenvalue is that of M over n_classes, plus l2: a few hessian
products give it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import numpy as np

from distsoftmax.arithmetic.arrays import Doubles, Integers
from distsoftmax.arithmetic.fixed_point import FixedPoint
from distsoftmax.arithmetic.parameters import norm
from distsoftmax.arithmetic.randomness import Purpose, below, permutation, uniform
from distsoftmax.cluster.communicator import Communicator
from distsoftmax.data.dataset import Dataset
from distsoftmax.data.features import row_norms
from distsoftmax.data.preparation import Samples
from distsoftmax.objective.cross_entropy import CrossEntropy, Hessian
from distsoftmax.objective.feature_bounds import ROOM
from distsoftmax.objective.penalty import Penalty
from distsoftmax.solvers.protocol import BatchGradient

POWERS = 15  # hessian products that find an eigenvalue
SHORTFALL = 1.1  # factor for what so few of them may fall short of


class SoftmaxBatches:
    """See `solvers.protocol.MiniBatches`: those of the smooth part of the objective.

    Parameters
    ----------
    fit : CrossEntropy
    penalty : Penalty
    batch_size : int
        At most the number of samples.
    seed : int

    Attributes
    ----------
    size : int
        `batch_size`.
    n_batches : int
        Of an epoch; the last takes the rows that remain.

    Notes
    -----
    Collective, as is every call of it.
    """

    def __init__(self, fit: CrossEntropy, penalty: Penalty, batch_size: int, seed: int) -> None:
        dataset, cluster = fit.dataset, fit.cluster
        self.size, self.n_batches = batch_size, -(-dataset.n_training // batch_size)
        self._fit, self._penalty = fit, penalty
        self._seed = seed
        own = _with_rows(dataset)
        sizes = np.zeros(dataset.n_shards, dtype=np.int64)
        sizes[[samples.shard for samples in own]] = [len(samples) for samples in own]
        cluster.sum_integers(sizes)
        heaviest = np.array([max((_heaviest(samples) for samples in own), default=0.0)])
        cluster.maximum(heaviest)
        self._positions = BatchPositions(sizes, batch_size, seed)
        self._rows = ShuffledRows(own, seed)
        self._most_weight = min(batch_size * float(heaviest[0]), dataset.total_weight)  # a bound on a batch's
        magnitudes = np.minimum(ROOM * self._most_weight * fit.bounds.largest, fit.bounds.magnitudes)
        self._gradient_scale = FixedPoint(magnitudes)

    def over(self, fit: CrossEntropy) -> SoftmaxBatches:
        """Return the same mini-batches, of a fit whose ranks hold other shards. Not collective."""
        batches = copy.copy(self)
        batches._fit, batches._rows = fit, ShuffledRows(_with_rows(fit.dataset), self._seed)
        return batches

    def gradient(self, parameters: Doubles, epoch: int, batch: int) -> BatchGradient:
        """Return the estimate from a mini-batch. Collective: one Allreduce."""
        fit, dataset = self._fit, self._fit.dataset
        first, counts = self._positions.of(epoch, batch)
        n_samples = int(counts.sum(dtype=np.int64))
        self._rows.shuffle(epoch)
        weight = dataset.total_weight * (n_samples / dataset.n_training)
        taken, scale = self._rows.taken(first, counts), self._gradient_scale
        estimate = fit.mean_over(taken, parameters, dataset.dtype, scale, self._most_weight, weight)
        dataset.training.release()
        value = estimate.loss + self._penalty.smooth_value(parameters)
        self._penalty.add_smooth_gradient(parameters, estimate.gradient)
        return BatchGradient(value if math.isfinite(value) else math.inf, estimate.gradient, n_samples)

    def smoothness(self) -> float:
        """Return the expected smoothness of the estimates. Collective: a few passes over all samples."""
        fit, dataset, l2 = self._fit, self._fit.dataset, self._penalty.config.l2
        n, b, (n_classes, _) = dataset.n_training, self.size, fit.shape
        at_zero = Hessian(fit, self._penalty, np.zeros(fit.shape))
        of_mean = n_classes / 2 * max(_largest_eigenvalue(at_zero, fit.shape) - l2, 0.0) + l2
        of_samples = _largest_term(dataset, fit.cluster) * n / dataset.total_weight / 2 + l2
        if n == 1:
            return of_samples
        share = (n - b) / (b * (n - 1))
        return (1 - share) * min(SHORTFALL * of_mean, of_samples) + share * of_samples


class BatchPositions:
    """The rows that each shard gives to each batch, as positions in its permutation.

    Parameters
    ----------
    sizes : ndarray of int64, (n_shards,)
        The rows of each shard.
    batch_size : int
        At most their sum.
    seed : int
    """

    def __init__(self, sizes: Integers, batch_size: int, seed: int) -> None:
        self._sizes = sizes
        self._batch_size = batch_size
        self._seed = seed
        self._epoch, self._batch = -1, 0
        self._given, self._remaining = sizes, sizes  # rows of each shard in the batches before, and in later ones

    def of(self, epoch: int, batch: int) -> tuple[Integers, Integers]:
        """Return the first position of each shard's rows in a batch, and how many they are; both (n_shards,).

        The batches of an epoch follow from each other, so going on is quick, and going back starts the epoch again.
        """
        if epoch != self._epoch or batch < self._batch:
            self._epoch, self._batch = epoch, 0
            self._given, self._remaining = np.zeros_like(self._sizes), self._sizes
        while True:
            first, counts = self._given, self._draw()
            self._given, self._remaining = first + counts, self._remaining - counts
            self._batch += 1
            if self._batch > batch:
                return first, counts

    def _draw(self) -> Integers:
        """Return how many rows each shard gives to the next batch."""
        ends = np.cumsum(self._remaining, dtype=np.int64)
        n_remaining = int(ends[-1])
        size = min(self._batch_size, n_remaining)
        if size * n_remaining >= 2**62:
            ends = ends.astype(object)  # integers of any size
        cuts = (size * ends + below(Purpose.CUTS, self._seed, self._batch, self._epoch, n_remaining)) // n_remaining
        counts: Integers = cuts.astype(np.int64)
        counts[1:] -= counts[:-1].copy()
        return counts


class ShuffledRows:
    """The training rows of this rank, in the order in which the batches of an epoch take them.

    Parameters
    ----------
    samples : sequence of Samples
        Those of the shards that have any.
    seed : int
    """

    def __init__(self, samples: Sequence[Samples], seed: int) -> None:
        self._samples = samples
        self._seed = seed
        self._epoch = -1
        self._order: list[Integers] = []

    def shuffle(self, epoch: int) -> None:
        """Draw the order of an epoch, unless it is the last one drawn."""
        if epoch == self._epoch:
            return
        self._epoch = epoch
        self._order = [
            permutation(Purpose.PERMUTATION, self._seed, samples.shard, epoch, len(samples)).astype(np.int64)
            for samples in self._samples
        ]

    def taken(self, first: Integers, counts: Integers) -> list[tuple[Samples, Integers | None]]:
        """Return each shard's samples with the numbers of the rows that a batch takes; see `BatchPositions.of`."""
        shards: list[tuple[Samples, Integers | None]] = []
        for samples, order in zip(self._samples, self._order, strict=True):
            start, count = int(first[samples.shard]), int(counts[samples.shard])
            if count:
                shards.append((samples, order[start : start + count]))
        return shards


def _with_rows(dataset: Dataset) -> list[Samples]:
    return [samples for samples in dataset.training if len(samples)]


def _heaviest(samples: Samples) -> float:
    return 1.0 if samples.weights is None else float(samples.weights.max())


def _largest_eigenvalue(hessian: Hessian, shape: tuple[int, int]) -> float:
    """Return about the largest eigenvalue, from below, by the power method. Collective."""
    direction = uniform(Purpose.START_DIRECTION, 0, 0, 0, math.prod(shape)).reshape(shape) - 0.5
    size = 0.0
    for _ in range(POWERS):
        direction /= norm(direction)
        product = hessian.product(direction)
        size = norm(product)
        if not 0 < size < np.inf:
            break
        direction = product
    return size


def _largest_term(dataset: Dataset, cluster: Communicator) -> float:
    """Return the largest weight * |(x, 1)|^2 of all samples. Collective."""
    largest = np.zeros(1)
    with cluster.agreement():
        for samples in dataset.training:
            squares = 1 + row_norms(samples.features, offset=dataset.standardization.offset)
            if samples.weights is not None:
                squares *= samples.weights
            largest[0] = np.max(squares, initial=largest[0])
    cluster.maximum(largest)
    return float(largest[0])
