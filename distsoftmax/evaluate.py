"""Measure a trained model on labelled samples: python -m distsoftmax.evaluate MODEL --data F --label L [--json]

Accuracy, log loss, calibration, per-class precision, recall and F1, and the confusion matrix; with --json the numbers
of a reliability diagram, too. The same on any number of ranks.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distsoftmax.command_line import run_command
from distsoftmax.config import ScoringConfig

if TYPE_CHECKING:
    from distsoftmax.cluster.communicator import Communicator
    from distsoftmax.objective.classification_report import ClassificationReport


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(ScoringConfig):
    """The options of `evaluate`."""

    json: bool = False
    """Print one JSON object instead of a table."""


def command(config: EvaluateConfig, cluster: Communicator) -> int:
    """Evaluate, print, and return the exit status. Collective.

    Raises
    ------
    InputError
        On every rank: the model or the data cannot be used, or a class is unknown to the model.
    """
    from distsoftmax.scoring.report_table import as_table

    report = evaluate(config, cluster)
    width = shutil.get_terminal_size().columns  # 80 where it is no terminal
    cluster.say(json.dumps(report.as_json()) if config.json else as_table(report, width))
    return 0


def evaluate(config: ScoringConfig, cluster: Communicator) -> ClassificationReport:
    """Evaluate a model on a source. Collective.

    Raises
    ------
    InputError
        See `command`.
    """
    import numpy as np

    from distsoftmax.cluster.exact_sum import ShardSum, exact_sum
    from distsoftmax.data.preparation import SCORING_DTYPE
    from distsoftmax.objective.classification_report import MOST_OF_EVALUATE, ClassificationCounts
    from distsoftmax.scoring.source_scorer import SourceScorer, open_for_scoring

    model, divided = open_for_scoring(config, needs_labels=True, cluster=cluster)
    n_classes = len(model.classes)
    counts = ClassificationCounts(n_classes, divided.source.n_rows, confusion=n_classes <= MOST_OF_EVALUATE)
    losses = []
    source = SourceScorer(model, divided, labelled=True)
    with cluster.agreement():
        for samples in source.samples():
            # the loss is from the scores: a probability may be 0 in floating point, its true logarithm is finite
            loss = counts.add(source.scorer, samples.rows(SCORING_DTYPE), samples.classes)
            losses.append(ShardSum(samples.shard, np.array(loss)))
    source.say_unseen(cluster)
    cluster.sum_integers(counts.array)
    total = exact_sum(losses, (), divided.n_shards, cluster)
    return counts.report(model.classes, float(total) / counts.n_samples)


if __name__ == "__main__":
    run_command(EvaluateConfig, command)
