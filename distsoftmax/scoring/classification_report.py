"""What a model gets right and wrong on labelled samples."""

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
    counts = ClassificationCounts(len(model.classes), divided.source.n_rows, confusion=True)
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
    return counts.report(model.classes, float(total) / counts.n_samples)


def as_json(report: ClassificationReport) -> str:
    """Return one JSON object."""
    return json.dumps(report.as_json())
