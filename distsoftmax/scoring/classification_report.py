"""What a model gets right and wrong on labelled samples, summed exactly over all ranks, and how it is shown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.cluster.exact_sum import ShardSum, exact_sum
from distsoftmax.config import ScoringConfig
from distsoftmax.scoring.source_scorer import DTYPE, SourceScorer, open_for_scoring


@dataclass(frozen=True)
class ClassificationReport:
    """How a model does on some samples.

    Attributes
    ----------
    classes : tuple of str
    confusion : ndarray of int64, (n_classes, n_classes)
        Rows are the true classes, columns the predicted ones.
    log_loss : float
        The mean cross-entropy, natural logarithm.
    """

    classes: tuple[str, ...]
    confusion: NDArray[np.int64]
    log_loss: float

    @property
    def n_samples(self) -> int:
        """The number of samples."""
        return int(self.confusion.sum(dtype=np.int64))

    @property
    def accuracy(self) -> float:
        """The share of samples predicted correctly."""
        return int(np.trace(self.confusion)) / self.n_samples

    @property
    def precision(self) -> NDArray[np.float64]:
        """Of the samples predicted to be of a class, the share that are; 0 where none was predicted."""
        return _ratio(np.diag(self.confusion), self._predicted)

    @property
    def recall(self) -> NDArray[np.float64]:
        """Of the samples of a class, the share predicted so; 0 where there are none."""
        return _ratio(np.diag(self.confusion), self._true)

    @property
    def f1(self) -> NDArray[np.float64]:
        """The harmonic mean of precision and recall; 0 where both are."""
        return _ratio(2 * np.diag(self.confusion), self._predicted + self._true)

    @property
    def _predicted(self) -> NDArray[np.int64]:
        """Samples predicted to be of each class."""
        counts: NDArray[np.int64] = self.confusion.sum(axis=0, dtype=np.int64)
        return counts

    @property
    def _true(self) -> NDArray[np.int64]:
        """Samples of each class."""
        counts: NDArray[np.int64] = self.confusion.sum(axis=1, dtype=np.int64)
        return counts

    def by_class(self) -> Iterator[tuple[str, float, float, float, int]]:
        """Yield (class, precision, recall, F1, number of samples) for each class."""
        columns = (self.precision.tolist(), self.recall.tolist(), self.f1.tolist(), self._true.tolist())
        yield from zip(self.classes, *columns, strict=True)


def evaluate(config: ScoringConfig, cluster: Communicator) -> ClassificationReport:
    """Evaluate a model on a source. Collective.

    Raises
    ------
    InputError
        On every rank: the model or the data cannot be used, or a class is unknown to the model.
    """
    model, divided = open_for_scoring(config, needs_labels=True, cluster=cluster)
    n_classes = len(model.classes)
    confusion = np.zeros((n_classes, n_classes), dtype=np.int64)
    losses = []
    source = SourceScorer(model, divided, labelled=True)
    with cluster.agreement():
        for samples in source.samples():
            # the loss is from the scores: a probability may be 0 in floating point, its true logarithm is finite
            loss, predicted = source.scorer.loss_and_prediction(samples.rows(DTYPE))
            np.add.at(confusion, (samples.classes, predicted), 1)
            losses.append(ShardSum(samples.shard, np.array(loss)))
    source.say_unseen(cluster)
    cluster.sum_integers(confusion)
    total = exact_sum(losses, (), divided.n_shards, cluster)
    return ClassificationReport(model.classes, confusion, float(total) / int(confusion.sum(dtype=np.int64)))


def as_json(report: ClassificationReport) -> str:
    """Return one JSON object."""
    per_class = {
        name: {"precision": precision, "recall": recall, "f1": f1, "support": support}
        for name, precision, recall, f1, support in report.by_class()
    }
    return json.dumps(
        {
            "n_samples": report.n_samples,
            "accuracy": report.accuracy,
            "log_loss": report.log_loss,
            "classes": per_class,
            "confusion": report.confusion.tolist(),
        }
    )


def as_table(report: ClassificationReport) -> str:
    """Return a table for people: the classes, and the confusion matrix."""
    width = max(5, *(len(name) for name in report.classes))
    rows = [
        f"{name:<{width}}  {precision:9.4f}  {recall:6.4f}  {f1:6.4f}  {support:7d}"
        for name, precision, recall, f1, support in report.by_class()
    ]
    head = f"{'class':<{width}}  precision  recall      f1  samples"
    summary = f"accuracy {report.accuracy:.4f}, log loss {report.log_loss:.6f} on {report.n_samples} samples"
    return "\n".join([summary, "", head, *rows, "", *_confusion_lines(report)])


def _confusion_lines(report: ClassificationReport) -> list[str]:
    names = report.classes
    cell = max(len(str(report.confusion.max())), *(len(name) for name in names))
    lines = ["confusion matrix, rows true, columns predicted"]
    lines.append(" " * cell + "  " + " ".join(f"{name:>{cell}}" for name in names))
    for name, row in zip(names, report.confusion, strict=True):
        lines.append(f"{name:>{cell}}  " + " ".join(f"{count:>{cell}d}" for count in row))
    return lines


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
