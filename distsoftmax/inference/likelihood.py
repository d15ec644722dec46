"""The likelihood of a softmax regression, its score and information, in one pass over the samples of all ranks.

With the reference class's parameters fixed at 0, the others are free. For samples with weight w, columns z (the last
one 1), class y and probabilities p, and for classes a and b:

    log-likelihood        sum w log p_y
    score of a            sum w ([y = a] - p_a) z
    information of a, b   sum w p_a ([a = b] - p_b) z z^T
    outer product of a, b sum w^2 ([y = a] - p_a) ([y = b] - p_b) z z^T

The information is summed as G_ab = sum w p_a p_b z z^T for each pair a < b of all classes: block (a, b) is -G_ab, and
block (a, a) the sum of G_ab over all b, for p_a (1 - p_a) = sum_b p_a p_b. Every term is positive there, so nothing
cancels where p_a is near 1. Each G_ab is one weighted gram matrix a run of rows, whose numbers become integers
(`arithmetic/fixed_point.py`): the sum over all ranks is the same bits however the shards are spread.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, combinations_with_replacement

import numpy as np

from distsoftmax.arithmetic.arrays import Doubles, Integers
from distsoftmax.arithmetic.columns import DenseColumns, sum_by_class
from distsoftmax.arithmetic.fixed_point import FixedPoint
from distsoftmax.arithmetic.kernels import Scorer
from distsoftmax.arithmetic.parameters import gram
from distsoftmax.arithmetic.samples import dense_rows
from distsoftmax.arithmetic.sums import Sums
from distsoftmax.data.preparation import Samples
from distsoftmax.data.shards import ShowProgress
from distsoftmax.inference.design import Design, Shard
from distsoftmax.objective.feature_bounds import bound_loss

ROOM = 1.01  # for the rounding of a bound
AT_ONCE = 1 << 16  # numbers that become integers together: what is on the way must not be as large as the sum
FLOAT64 = np.dtype(np.float64)


@dataclass(frozen=True)
class Evaluation:
    """The likelihood at a point.

    Attributes
    ----------
    log_likelihood : float
        -inf where it is not finite.
    score : ndarray of float64, (n_classes - 1, width)
        Of the classes besides the reference, in their order.
    information : ndarray of float64, (n_parameters, n_parameters), or None
        On rank 0, where it was asked for.
    """

    log_likelihood: float
    score: Doubles
    information: Doubles | None = None


class Likelihood:
    """The likelihood of all samples. Every call is collective.

    Parameters
    ----------
    design : Design
    reference : int
        The class whose parameters are 0.
    show : callable
        Is told how far a pass is.
    """

    def __init__(self, design: Design, reference: int, show: ShowProgress) -> None:
        self.design, self.reference = design, reference
        self.others = [number for number in range(design.n_classes) if number != reference]
        self.n_passes = 0
        self._show = show
        self._pairs = list(combinations(range(design.n_classes), 2))

    def evaluate(self, parameters: Doubles, *, information: bool = True) -> Evaluation:
        """Return log-likelihood and score at parameters, (n_classes, width), and the information where asked for."""
        design, width = self.design, self.design.width
        scorer = self._scorer(parameters)
        largest = np.append(design.largest, 1.0)
        loss_bound = bound_loss(np.column_stack([parameters, np.zeros(len(parameters))]), design.total_weight, largest)
        if not math.isfinite(loss_bound):
            return Evaluation(-math.inf, np.full((len(self.others), width), math.nan))
        bound = np.full(width + 1, ROOM * design.total_weight)
        sums = Sums(FixedPoint(bound), FixedPoint(loss_bound), design.n_classes, by_column=False)
        fixed = FixedPoint(ROOM * design.total_weight / 4)  # p_a p_b is 1/4 at most
        n_pairs = len(self._pairs) if information else 0

        def work(shards: Iterable[Shard]) -> Integers:
            totals, grams = sums.empty(), np.zeros((2, n_pairs, width, width), dtype=np.int64)
            for samples, _ in shards:
                for rows, columns in design.chunks(samples):
                    weights = None if samples.weights is None else samples.weights[rows]
                    core = dense_rows(columns, FLOAT64, samples.classes[rows], weights)
                    scorer.add_loss_and_gradient(core, totals)
                    if information:
                        _add_pairs(grams, fixed, columns, scorer.probabilities(core), weights, self._pairs)
            return np.concatenate([totals.array, grams.reshape(-1)]) if information else totals.array

        message = self._sum(work)
        n_totals = design.n_classes * (width + 1) + 3
        outcome = sums.value(message[:n_totals])
        if outcome is None:
            return Evaluation(-math.inf, np.full((len(self.others), width), math.nan))
        loss, gradient = outcome
        matrix = None
        if information and design.cluster.rank == 0:
            matrix = self._assembled(message[n_totals:].reshape(2, n_pairs, width, width), fixed)
        return Evaluation(-loss, -gradient[self.others, :width], matrix)

    def outer_products(self, parameters: Doubles) -> Doubles | None:
        """Return the sum over samples, or over clusters, of the scores' outer products: on rank 0, None elsewhere."""
        return self._of_clusters(parameters) if self.design.labelled.n_groups else self._of_samples(parameters)

    def _of_samples(self, parameters: Doubles) -> Doubles | None:
        design, width, others = self.design, self.design.width, self.others
        scorer, n_others = self._scorer(parameters), len(self.others)
        fixed = FixedPoint(ROOM * design.total_weight * design.largest_weight)
        pairs = list(combinations_with_replacement(range(n_others), 2))

        def work(shards: Iterable[Shard]) -> Integers:
            grams = np.zeros((2, len(pairs), width, width), dtype=np.int64)
            for samples, _ in shards:
                for rows, columns in design.chunks(samples):
                    residuals = _residuals(scorer, samples, rows, columns)[:, others]
                    _add_pairs(grams, fixed, columns, residuals, None, pairs)
            return grams

        grams = self._sum(work)
        if design.cluster.rank != 0:
            return None
        matrix = np.zeros((n_others, width, n_others, width))
        for (a, b), block in zip(pairs, self._blocks(grams, fixed), strict=True):
            matrix[a, :, b] = matrix[b, :, a] = block
        return matrix.reshape(design.n_parameters, design.n_parameters)

    def _of_clusters(self, parameters: Doubles) -> Doubles | None:
        design, width, others, n_groups = self.design, self.design.width, self.others, self.design.labelled.n_groups
        scorer, fixed = self._scorer(parameters), FixedPoint(ROOM * design.total_weight)

        def work(shards: Iterable[Shard]) -> Integers:
            scores = np.zeros((2, n_groups, len(others), width), dtype=np.int64)
            for samples, groups in shards:
                assert groups is not None
                for rows, columns in design.chunks(samples):
                    residuals = _residuals(scorer, samples, rows, columns)
                    numbers, local = np.unique(groups[rows], return_inverse=True)
                    for position, number in enumerate(others):
                        weights = np.ascontiguousarray(residuals[:, number])
                        sums = sum_by_class(DenseColumns(columns), local.reshape(-1), numbers.size, weights)
                        scores[:, numbers, position] += fixed.limbs(sums)
            return scores

        scores = self._sum(work)
        if design.cluster.rank != 0:
            return None
        return gram(fixed.value(scores).reshape(n_groups, design.n_parameters))

    def _scorer(self, parameters: Doubles) -> Scorer:
        """Return parameters ready to score rows whose last column is the intercept's."""
        return Scorer(np.column_stack([parameters, np.zeros(len(parameters))]), FLOAT64, sparse=False)

    def _sum(self, work: Callable[[Iterable[Shard]], Integers]) -> Integers:
        self.n_passes += 1
        return self.design.sums.sum(work, self._shown())

    def _shown(self) -> Iterator[Shard]:
        shards = self.design.labelled.shards
        for number, shard in enumerate(shards):
            self._show(f"pass {self.n_passes} over the samples", number, len(shards))
            yield shard

    def _assembled(self, grams: Integers, fixed: FixedPoint) -> Doubles:
        """Return the information of the classes besides the reference."""
        width, n_others = self.design.width, len(self.others)
        matrix = np.zeros((n_others, width, n_others, width))
        positions = {number: position for position, number in enumerate(self.others)}
        for (a, b), block in zip(self._pairs, self._blocks(grams, fixed), strict=True):
            own = [positions[number] for number in (a, b) if number != self.reference]
            for position in own:
                matrix[position, :, position] += block
            if len(own) == 2:
                matrix[own[0], :, own[1]] = matrix[own[1], :, own[0]] = -block
        return matrix.reshape(n_others * width, n_others * width)

    def _blocks(self, grams: Integers, fixed: FixedPoint) -> Iterator[Doubles]:
        for number in range(grams.shape[1]):
            yield fixed.value(grams[:, number])


def _add_pairs(
    grams: Integers,
    fixed: FixedPoint,
    columns: Doubles,
    factors: Doubles,
    weights: Doubles | None,
    pairs: Sequence[tuple[int, int]],
) -> None:
    """Add the gram matrix of the rows for each pair, weighted by the product of two factors of each row."""
    by_number = np.ascontiguousarray(factors.T)  # (n_rows, n) -> (n, n_rows)
    weighted = by_number if weights is None else by_number * weights
    step = max(AT_ONCE // max(columns.shape[1] * columns.shape[1], 1), 1)
    for start in range(0, len(pairs), step):
        together = [gram(columns, weighted[a] * by_number[b]) for a, b in pairs[start : start + step]]
        add_limbs(grams[:, start : start + step], fixed, together[0] if step == 1 else np.stack(together))


def add_limbs(sums: Integers, fixed: FixedPoint, partial: Doubles) -> None:
    """Add an array to sums, int64, (2, ...), with as many numbers; the bound is one number."""
    first, flat = sums.reshape(2, -1), partial.reshape(-1)
    for start in range(0, flat.size, AT_ONCE):
        block = slice(start, start + AT_ONCE)
        first[:, block] += fixed.limbs(flat[block])


def _residuals(scorer: Scorer, samples: Samples, rows: slice, columns: Doubles) -> Doubles:
    """Return w ([y = k] - p_k) of each row and class."""
    residuals = -scorer.probabilities(dense_rows(columns, FLOAT64))
    residuals[np.arange(len(columns)), samples.classes[rows]] += 1.0
    return residuals if samples.weights is None else residuals * samples.weights[rows][:, None]
