"""Predict the class of each sample: python -m distsoftmax.predict MODEL --data F --out predictions.csv

Works alone and under mpirun; the rows stand in the order of the data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from distsoftmax.command_line import run_command
from distsoftmax.config import ScoringConfig

if TYPE_CHECKING:
    from distsoftmax.cluster.communicator import Communicator


@dataclass(frozen=True, kw_only=True)
class PredictConfig(ScoringConfig):
    """The options of `predict`. With --label the file's label column is left out."""

    out: str
    """The CSV file to write: a column prediction and, if asked for, one of probabilities for each class."""
    probabilities: bool = False
    """Write the probability of each class, too."""


def command(config: PredictConfig, cluster: Communicator) -> int:
    """Predict, and return the exit status. Collective.

    Raises
    ------
    DistSoftmaxError
        On every rank: the model, the data or the output cannot be used.
    """
    import io
    import os
    from pathlib import Path

    import numpy as np
    import pyarrow as pa
    from pyarrow import csv

    from distsoftmax.durable import write_atomically
    from distsoftmax.errors import InputError
    from distsoftmax.scoring.source_scorer import DTYPE, SourceScorer, open_for_scoring

    out = Path(config.out)
    with cluster.agreement():
        if cluster.rank == 0 and (not out.parent.is_dir() or out.is_dir() or not os.access(out.parent, os.W_OK)):
            raise InputError(f"--out {out}: cannot be written there; name a file in a folder that exists")
    model, divided = open_for_scoring(config, needs_labels=False, cluster=cluster)
    names = np.array(model.classes)
    source = SourceScorer(model, divided, labelled=False)
    text = io.BytesIO()
    with cluster.agreement():
        for samples in source.samples():
            probabilities = source.scorer.probabilities(samples.rows(DTYPE))
            columns = {"prediction": pa.array(names[probabilities.argmax(axis=1)])}
            if config.probabilities:
                for name, column in zip(model.classes, probabilities.T, strict=True):
                    columns[f"probability_{name}"] = pa.array(column)
            first = samples.shard == 0
            csv.write_csv(pa.table(columns), text, csv.WriteOptions(include_header=first, quoting_style="needed"))
    parts = list(cluster.in_rank_order(text.getvalue()))
    with cluster.agreement():
        if cluster.rank == 0:
            write_atomically(out, *parts)
    source.say_unseen(cluster)
    cluster.say(f"{divided.source.n_rows} predictions: {config.out}")
    return 0


if __name__ == "__main__":
    run_command(PredictConfig, command)
