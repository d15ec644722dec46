"""What a model gets right and wrong on labelled samples, and how it is shown."""

from __future__ import annotations

import json

import numpy as np

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.cluster.exact_sum import ShardSum, exact_sum
from distsoftmax.config import ScoringConfig
from distsoftmax.objective.classification_report import ClassificationCounts, ClassificationReport
from distsoftmax.scoring.source_scorer import DTYPE, SourceScorer, open_for_scoring


def evaluate(config: ScoringConfig, cluster: Communicator) -> ClassificationReport:
    """Evaluate a model on a source. Collective.

    Raises
    ------
    InputError
        On every rank: the model or the data cannot be used, or a class is unknown to the model.
    """
    model, divided = open_for_scoring(config, needs_labels=True, cluster=cluster)
    n_samples = divided.source.n_rows
    counts = ClassificationCounts(len(model.classes), n_samples, confusion=True)
    losses = []
    source = SourceScorer(model, divided, labelled=True)
    with cluster.agreement():
        for samples in source.samples():
            # the loss is from the scores: a probability may be 0 in floating point, its true logarithm is finite
            loss = counts.add(source.scorer, samples.rows(DTYPE), samples.classes)
            losses.append(ShardSum(samples.shard, np.array(loss)))
    source.say_unseen(cluster)
    cluster.sum_integers(counts.array)
    total = exact_sum(losses, (), divided.n_shards, cluster)
    return counts.report(model.classes, float(total) / n_samples)


def as_json(report: ClassificationReport) -> str:
    """Return one JSON object."""
    return json.dumps(report.as_json())


def as_table(report: ClassificationReport) -> str:
    """Return a table for people: the classes, and the confusion matrix."""
    width = max(5, *(len(name) for name in report.classes))
    rows = [
        f"{name:<{width}}  {precision:9.4f}  {recall:6.4f}  {f1:6.4f}  {support:7d}"
        for name, precision, recall, f1, support in report.rows()
    ]
    head = f"{'class':<{width}}  precision  recall      f1  samples"
    summary = f"accuracy {report.accuracy:.4f}, log loss {report.log_loss:.6f} on {report.n_samples} samples"
    return "\n".join([summary, "", head, *rows, "", *_confusion_lines(report)])


def _confusion_lines(report: ClassificationReport) -> list[str]:
    names, confusion = report.classes, report.confusion
    assert confusion is not None
    cell = max(len(str(confusion.max())), *(len(name) for name in names))
    lines = ["confusion matrix, rows true, columns predicted"]
    lines.append(" " * cell + "  " + " ".join(f"{name:>{cell}}" for name in names))
    for name, row in zip(names, confusion, strict=True):
        lines.append(f"{name:>{cell}}  " + " ".join(f"{count:>{cell}d}" for count in row))
    return lines
