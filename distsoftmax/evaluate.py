"""Measure a trained model on labelled samples: python -m distsoftmax.evaluate MODEL --data F --label L [--json]

Accuracy, log loss, calibration, per-class precision, recall and F1, and the confusion matrix; with --json the numbers
of a reliability diagram, too. The same on any number of ranks.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distsoftmax.command_line import run_command
from distsoftmax.config import ScoringConfig

if TYPE_CHECKING:
    from distsoftmax.cluster.communicator import Communicator


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
    from distsoftmax.scoring.classification_report import as_json, evaluate
    from distsoftmax.scoring.report_table import as_table

    report = evaluate(config, cluster)
    width = shutil.get_terminal_size().columns  # 80 where it is no terminal
    cluster.say(as_json(report) if config.json else as_table(report, width))
    return 0


if __name__ == "__main__":
    run_command(EvaluateConfig, command)
