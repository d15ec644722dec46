"""What parameters get right and wrong on labelled samples, and how well their probabilities are calibrated.

All of it is made of integers that are summed over the shards of all ranks, so it is the same however these are spread.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from distsoftmax.arithmetic.arrays import Integers
from distsoftmax.arithmetic.fixed_point import FixedPoint
from distsoftmax.arithmetic.kernels import Scorer
from distsoftmax.arithmetic.samples import CoreRows
from distsoftmax.data.preparation import Samples
from distsoftmax.objective.cross_entropy import CrossEntropy

EDGES = tuple(number / 10 for number in range(11))  # of the bins of a reliability diagram
N_BINS = len(EDGES) - 1
MOST_PROBABILITIES = 1 << 20  # computed at once
MOST_CLASSES = 200  # up to which the report of a run holds its confusion matrix
MOST_OF_EVALUATE = 5000  # classes, up to which `evaluate` counts a confusion matrix: 200 MB a rank


@dataclass(frozen=True)
class ClassificationReport:
    """How parameters do on some samples, each of which counts once.

    Attributes
    ----------
    classes : tuple of str
    by_class : ndarray of int64, (3, n_classes)
        For each class the samples predicted correctly, those predicted to be of it, and those that are.
    confusion : ndarray of int64, (n_classes, n_classes), or None
        Rows are the true classes, columns the predicted ones. None where it was not asked for.
    log_loss : float
        The mean cross-entropy, natural logarithm.
    bins : ndarray of int64, (2, N_BINS)
        By the largest probability of a sample, in bins that begin at `EDGES`: the samples, and the correct ones.
    confidence : ndarray of float64, (N_BINS,)
        The mean of the largest probability in each bin; 0 where it is empty.
    """

    classes: tuple[str, ...]
    by_class: Integers
    confusion: Integers | None
    log_loss: float
    bins: Integers
    confidence: NDArray[np.float64]

    @property
    def n_samples(self) -> int:
        """The number of samples."""
        return int(self.true.sum(dtype=np.int64))

    @property
    def accuracy(self) -> float:
        """The share of samples predicted correctly."""
        return int(self.by_class[0].sum(dtype=np.int64)) / self.n_samples

    @property
    def precision(self) -> NDArray[np.float64]:
        """Of the samples predicted to be of a class, the share that are; 0 where none was predicted."""
        return _ratio(self.by_class[0], self.predicted)

    @property
    def recall(self) -> NDArray[np.float64]:
        """Of the samples of a class, the share predicted so; 0 where there are none."""
        return _ratio(self.by_class[0], self.true)

    @property
    def f1(self) -> NDArray[np.float64]:
        """The harmonic mean of precision and recall; 0 where both are."""
        return _ratio(2 * self.by_class[0], self.predicted + self.true)

    @property
    def predicted(self) -> Integers:
        """Samples predicted to be of each class."""
        counts: Integers = self.by_class[1]
        return counts

    @property
    def true(self) -> Integers:
        """Samples of each class."""
        counts: Integers = self.by_class[2]
        return counts

    @property
    def calibration_error(self) -> float:
        """The expected calibration error: how far confidence and accuracy of a bin differ, on average over the samples.

        C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, eq. (3).
        """
        count, correct = self.bins
        return math.fsum(np.abs(correct - count * self.confidence)) / self.n_samples

    def rows(self) -> Iterator[tuple[str, float, float, float, int]]:
        """Yield (class, precision, recall, F1, number of samples) for each class."""
        columns = (self.precision.tolist(), self.recall.tolist(), self.f1.tolist(), self.true.tolist())
        yield from zip(self.classes, *columns, strict=True)

    def as_json(self) -> dict[str, object]:
        """Return what `evaluate --json` prints, and `evaluation` in a run's result.json.

        "reliability" is a list of bins of the largest probability, each with the samples in it, the mean of that
        probability and the fraction that is correct; both are None where a bin is empty.
        """
        per_class = {
            name: {"precision": precision, "recall": recall, "f1": f1, "support": support}
            for name, precision, recall, f1, support in self.rows()
        }
        reliability = [
            {
                "from": low,
                "to": high,
                "samples": count,
                "confidence": confidence if count else None,
                "accuracy": correct / count if count else None,
            }
            for (low, high), count, correct, confidence in zip(
                pairwise(EDGES), *self.bins.tolist(), self.confidence.tolist(), strict=True
            )
        ]
        return {
            "n_samples": self.n_samples,
            "accuracy": self.accuracy,
            "log_loss": self.log_loss,
            "classes": per_class,
            "confusion": None if self.confusion is None else self.confusion.tolist(),
            "reliability": reliability,
            "calibration_error": self.calibration_error,
        }


class ClassificationCounts:
    """The integers that a report is made of, in one array: those of several shards, threads and ranks are added.

    Parameters
    ----------
    n_classes : int
    n_samples : int
        Of all ranks.
    confusion : bool
        Whether a confusion matrix is counted.
    """

    def __init__(self, n_classes: int, n_samples: int, *, confusion: bool) -> None:
        sizes = (3 * n_classes, 2 * N_BINS, N_BINS, n_classes * n_classes if confusion else 0)
        self.array: Integers = np.zeros(sum(int(size) for size in sizes), dtype=np.int64)
        by_class, bins, self._confidence, matrix = np.split(self.array, np.cumsum(sizes[:-1], dtype=np.int64))
        self._by_class, self._bins = by_class.reshape(3, n_classes), bins.reshape(2, N_BINS)
        self._confusion = matrix.reshape(n_classes, n_classes) if confusion else None
        self._fixed = FixedPoint(float(n_samples))  # a probability is at most 1

    def add(self, scorer: Scorer, rows: CoreRows, classes: Integers) -> float:
        """Count the samples of a shard, and return the sum of their losses; none are counted where it is not finite."""
        loss, predicted = scorer.loss_and_prediction(rows)
        if not math.isfinite(loss):
            return loss
        is_correct = predicted == classes
        for row, of in zip(self._by_class, (classes[is_correct], predicted, classes), strict=True):
            row += np.bincount(of, minlength=row.size)
        if self._confusion is not None:
            np.add.at(self._confusion, (classes, predicted), 1)
        largest = _largest_probabilities(scorer, rows, predicted)
        bins = np.minimum(np.searchsorted(EDGES, largest, side="right") - 1, N_BINS - 1)
        self._bins[0] += np.bincount(bins, minlength=N_BINS)
        self._bins[1] += np.bincount(bins[is_correct], minlength=N_BINS)
        np.add.at(self._confidence, bins, self._fixed.limbs(largest)[0])
        return loss

    @property
    def n_samples(self) -> int:
        """The samples counted so far."""
        return int(self._bins[0].sum(dtype=np.int64))

    def report(self, classes: tuple[str, ...], log_loss: float) -> ClassificationReport:
        """Return what has been counted, once it is summed over all ranks."""
        samples, confidence = self._bins[0], np.zeros(N_BINS)
        np.divide(self._fixed.value(self._confidence[None]), samples, out=confidence, where=samples > 0)
        return ClassificationReport(classes, self._by_class, self._confusion, log_loss, self._bins, confidence)


def report_on(fit: CrossEntropy, parameters: NDArray[np.float64], log_loss: float) -> ClassificationReport:
    """Report on the held-out samples in memory, or on the training samples where none are held out. Collective.

    Parameters
    ----------
    parameters : ndarray of float64, (n_classes, n_features + 1)
        In training's units.
    log_loss : float
        Theirs on these samples, which is known (`CrossEntropy.scores`).
    """
    dataset, dtype = fit.dataset, fit.dataset.dtype
    n_classes, n_samples = len(parameters), dataset.n_held_out or dataset.n_training
    scorer = fit.scorer(fit.for_stored(parameters), dtype)

    def counts() -> ClassificationCounts:
        return ClassificationCounts(n_classes, n_samples, confusion=n_classes <= MOST_CLASSES)

    def work(samples: Iterable[Samples]) -> Integers:
        own = counts()
        for of_shard in samples:
            own.add(scorer, of_shard.rows(dtype), of_shard.classes)
        return own.array

    total = counts()
    total.array[:] = fit.sums.sum(work, dataset.held_out if dataset.n_held_out else dataset.training)
    return total.report(dataset.classes, log_loss)


def _largest_probabilities(scorer: Scorer, rows: CoreRows, predicted: Integers) -> NDArray[np.floating]:
    """Return the probability of the class predicted for each sample, some samples at a time, to bound the memory."""
    largest = np.empty(rows.n_rows, dtype=scorer.dtype)
    size = max(MOST_PROBABILITIES // scorer.n_classes, 1)
    for start in range(0, rows.n_rows, size):
        taken = np.arange(start, min(start + size, rows.n_rows))
        probabilities = scorer.probabilities(rows.taking(taken))
        largest[taken] = probabilities[np.arange(taken.size), predicted[taken]]
    return largest


def _ratio(part: Integers, whole: Integers) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
