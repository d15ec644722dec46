"""Standard errors and tests of a model's coefficients: python -m distsoftmax.summary MODEL --data F --label L [--json]

The table of a multinomial logistic regression: for each class against a reference class, and each feature, the
coefficient, its standard error, z, p, confidence interval and odds ratio; log-likelihood, AIC, BIC, McFadden's R2, and
the likelihood-ratio test. Works alone and under mpirun, with the same output. The samples are those that the model was
trained on.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from distsoftmax.command_line import run_command
from distsoftmax.errors import InputError
from distsoftmax.inference.options import SummaryConfig

if TYPE_CHECKING:
    from distsoftmax.cluster.communicator import Communicator


def command(config: SummaryConfig, cluster: Communicator) -> int:
    """Estimate, print, write, and return the exit status. Collective.

    Raises
    ------
    DistSoftmaxError
        On every rank: the model, the samples or the output cannot be used, or there are no such estimates.
    """
    from distsoftmax.coordinator.progress import ProgressLine
    from distsoftmax.durable import write_atomically
    from distsoftmax.inference.summarise import summarise
    from distsoftmax.inference.table import as_csv, as_json, as_npy, as_table

    with cluster.agreement():
        if cluster.rank == 0:
            _require_outputs(config)
    progress = ProgressLine("auto", silent=cluster.rank != 0)
    summary = summarise(config, cluster, progress.show)
    progress.leave()
    with cluster.agreement():
        if summary is not None:
            if config.csv is not None:
                write_atomically(Path(config.csv), as_csv(summary))
            if config.vcov is not None:
                assert summary.vcov is not None
                write_atomically(Path(config.vcov), *as_npy(summary.vcov))
            cluster.say(as_json(summary) if config.json else as_table(summary, odds_ratios=config.odds_ratios))
    return 0


def _require_outputs(config: SummaryConfig) -> None:
    """Refuse files that cannot be written, or are read, before anything is read."""
    from distsoftmax.durable import require_writable

    for option, name in (("csv", config.csv), ("vcov", config.vcov)):
        if name is None:
            continue
        inputs = (*config.data, *config.labels, str(config.model_path))
        if os.path.isdir(name) or any(_is_same(name, path) for path in inputs):
            raise InputError(f"--{option} {name}: is a folder, or what is read; name another file")
        try:
            require_writable(Path(name))
        except OSError as error:
            raise InputError(
                f"--{option} {name}: cannot be written there: {error.strerror}; name a file in a folder that can be "
                "written to"
            ) from None


def _is_same(name: str, other: str) -> bool:
    return os.path.exists(name) and os.path.exists(other) and os.path.samefile(name, other)


if __name__ == "__main__":
    run_command(SummaryConfig, command)
