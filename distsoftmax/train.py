"""Train softmax regression: mpirun -n 4 python -m distsoftmax.train --data letter.csv --label Letter

The model's bits are the same on any number of ranks. Exit status: 0 done, 2 bad input or usage, 3 done with --strict
but short of its --tolerance, 75 stopped early and resumable, 1 anything else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from distsoftmax.command_line import run_command
from distsoftmax.config import TrainConfig

if TYPE_CHECKING:
    from distsoftmax.cluster.communicator import Communicator


def command(config: TrainConfig, cluster: Communicator) -> int:
    """Train, and return the exit status. Collective."""
    if not config.data.data:
        cluster.say("no --data is given, so this trains on scikit-learn's digits")
    # imported here so that --help is quick
    if config.objective.l2_path is not None:
        from distsoftmax.regularization_path import train_path

        return train_path(config, cluster)
    from distsoftmax.trainer import train

    return train(config, cluster)


if __name__ == "__main__":
    run_command(TrainConfig, command)
