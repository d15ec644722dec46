"""Look at samples before training on them: python -m distsoftmax.describe DATA ... --label L [--ranks R] [--json]

Rows, features, classes, missing values, the memory a run will need, and what is wrong, with the options of training
that say how files are read; at the end the command line that trains on them. Works alone and under mpirun, with the
same output. Exit status: 0 if nothing would stop training, 2 otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal, Optional

from tyro.conf import Positional, arg

from distsoftmax.command_line import run_command
from distsoftmax.config import DataConfig, Text
from distsoftmax.config.values import TIMEOUT, Words, require_timeout
from distsoftmax.errors import InputError

if TYPE_CHECKING:
    from distsoftmax.cluster.communicator import Communicator


@dataclass(frozen=True, kw_only=True)
class DescribeConfig(DataConfig):
    """The options of `describe`: those of training, but for what training does to the samples."""

    data: Positional[Annotated[Words, arg(metavar="DATA ...")]] = field()
    """Files, globs or folders of parts: CSV, TSV, svmlight, Parquet, .npy, .npz or HDF5."""
    ranks: Optional[int] = None
    """The number of ranks to tell the memory for; by default 1, 2, 4 and so on, up to the number of shards."""
    json: bool = False
    """Print one JSON object instead of a table."""
    timeout: float = TIMEOUT
    """End the job when no rank has made progress for so many seconds, and say which rank is late; 0: never."""
    class_weight: Text = field(init=False, default=None)
    valid: Words = field(init=False, default=())
    valid_labels: Words = field(init=False, default=())
    valid_fraction: Optional[float] = field(init=False, default=None)
    standardize: bool = field(init=False, default=True)
    center: Literal["auto", "yes", "no"] = field(init=False, default="auto")
    seed: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        """Refuse a call without samples, or with no ranks."""
        if not self.data:
            raise InputError("no samples are given: name their files first, as in describe DATA --label L")
        if self.ranks is not None and not 1 <= self.ranks <= 2**20:
            raise InputError(f"--ranks is {self.ranks}; it must be at least 1 and at most 2^20")
        require_timeout(self.timeout)
        super().__post_init__()


def command(config: DescribeConfig, cluster: Communicator) -> int:
    """Describe, print, and return the exit status. Collective.

    Raises
    ------
    InputError
        On every rank: the samples cannot be read.
    """
    from distsoftmax.coordinator.progress import ProgressLine
    from distsoftmax.inspection.description import as_json, describe
    from distsoftmax.inspection.table import as_table

    progress = ProgressLine("auto", silent=cluster.rank != 0)
    description = describe(config, config.ranks, cluster, progress.show)
    progress.leave()
    for note in description.notes:
        cluster.say(f"note: {note}", to_stderr=True)
    cluster.say(as_json(description) if config.json else as_table(description))
    return 2 if description.stops_training else 0


if __name__ == "__main__":
    run_command(DescribeConfig, command)
