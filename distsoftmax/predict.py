"""Predict the class of each sample: python -m distsoftmax.predict MODEL --data F --out predictions.csv

Works alone and under mpirun; the rows stand in the order of the data. A row with a missing cell has an empty prediction
where the model was trained with --drop-rows-missing; it is an error where that was with neither this nor --impute.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from distsoftmax.command_line import run_command
from distsoftmax.config import ScoringConfig
from distsoftmax.config.values import Words
from distsoftmax.errors import InputError

if TYPE_CHECKING:
    from distsoftmax.cluster.communicator import Communicator

_COMPRESSED = (".gz", ".gzip", ".zst", ".zstd", ".bz2", ".xz", ".zip")
_OTHERS = (".npz", ".h5", ".hdf5", ".svm", ".svmlight", ".libsvm", ".xlsx", ".xls", ".json", ".feather", ".arrow")
NOT_WRITTEN = (*_COMPRESSED, *_OTHERS)


@dataclass(frozen=True, kw_only=True)
class PredictConfig(ScoringConfig):
    """The options of `predict`."""

    out: Annotated[str, arg(metavar="FILE")]
    """The file to write, .csv, .tsv or .parquet: a column prediction and, with --probabilities, one for each class.
    A .npy file holds the predicted classes or, with --probabilities, the probabilities alone, a column a class.
    With - the CSV file goes to standard output."""
    keep: Words = ()
    """The columns of the data to write before the predictions, as they stand, such as one that names the rows."""
    probabilities: bool = False
    """Write the probability of each class, in the order of the model's classes."""

    def __post_init__(self) -> None:
        """Refuse a call without samples, or without a file that can be written."""
        super().__post_init__()
        if not self.out:
            raise InputError("--out names nothing, as where a variable of the shell is not set; name a file")
        ending = os.path.splitext(self.out)[1].lower()
        if ending in NOT_WRITTEN:
            raise InputError(f"--out {self.out}: no {ending} file is written; name one in .csv, .tsv, .parquet or .npy")
        if self.keep and ending == ".npy":
            raise InputError(f"--out {self.out}: a .npy file has no place for --keep; write .csv or .parquet")


def command(config: PredictConfig, cluster: Communicator) -> int:
    """Predict, and return the exit status. Collective.

    Raises
    ------
    DistSoftmaxError
        On every rank: the model, the data or the output cannot be used.

    Examples
    --------
    >>> import numpy as np
    >>> from pathlib import Path
    >>> from distsoftmax.cluster.communicator import Alone
    >>> from distsoftmax.durable import write_atomically
    >>> from distsoftmax.model import Encoding, Model
    >>> model = Model(np.eye(2), np.zeros(2), ("cat", "dog"), Encoding(numeric=("x0", "x1")))
    >>> write_atomically(Path("model.safetensors"), *model.file_content())
    >>> np.savez("animals.npz", X=[[1.0, 0.0], [2.0, 5.0]])
    >>> command(PredictConfig(model=".", data=("animals.npz",), out="predictions.csv"), Alone())
    2 predictions: predictions.csv
    0
    >>> Path("predictions.csv").read_text().split()
    ['"prediction"', '"cat"', '"dog"']
    """
    from distsoftmax.data.preparation import SCORING_DTYPE
    from distsoftmax.output_file import STANDARD_OUTPUT, output_file, require_no_input, require_output
    from distsoftmax.scoring.prediction_file import PredictionTable
    from distsoftmax.scoring.source_scorer import SourceScorer, open_for_scoring

    with cluster.agreement():
        if cluster.rank == 0:
            require_output(config.out)
    model, divided = open_for_scoring(config, needs_labels=False, cluster=cluster, keep=config.keep)
    with cluster.agreement():
        if cluster.rank == 0:
            parts = (part.path for part in divided.source.parts)
            require_no_input(config.out, (config.model_path, *config.labels, *parts))
        table = PredictionTable(config.out, model.classes, config.probabilities, divided.source.kept_names)
    source = SourceScorer(model, divided, labelled=False)
    own = bytearray()
    with cluster.agreement():
        for shard, samples in source.shards():
            rows = samples.rows(SCORING_DTYPE)
            _, predicted = source.scorer.loss_and_prediction(rows)
            probabilities = source.scorer.probabilities(rows) if config.probabilities else None
            own += table.encode(predicted, probabilities, shard)
    received = cluster.in_rank_order(own)
    with cluster.agreement():
        try:
            if cluster.rank == 0:
                with output_file(config.out) as file:
                    table.write(file, divided.source.n_rows, received)
        finally:
            for _ in received:  # what could not be written is taken all the same, for the others wait for that
                pass
    source.say_unseen(cluster)
    if config.out != STANDARD_OUTPUT:
        cluster.say(f"{divided.source.n_rows} predictions: {config.out}")
    return 0


if __name__ == "__main__":
    run_command(PredictConfig, command)
