"""The jobs that the benchmarks start: processes under mpirun, and a training run with what it has measured."""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RANKS = 2
WARMING = 3  # steps left out
# A rank of a training run, which leaves its peak memory beside the results.
RANK = """
import os, resource, runpy, sys
sys.argv = sys.argv[1:]
out = sys.argv[-1]
try:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
finally:
    with open(f"{out}.{os.getpid()}.rss", "w") as file:
        file.write(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
"""


def mpirun(ranks: int, *arguments: str) -> list[str]:
    """Return the command that starts Python so many times, by the mpirun of this environment where it has one."""
    beside = Path(sys.executable).with_name("mpirun")
    return [str(beside) if beside.exists() else "mpirun", "-n", str(ranks), sys.executable, *arguments]


def output_of(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """Run a command, and return its standard output.

    Raises
    ------
    RuntimeError
        It has failed; with all that it said.
    """
    ended = subprocess.run(
        command, check=False, capture_output=True, text=True, env={**os.environ, **(environment or {})}
    )
    if ended.returncode:
        raise RuntimeError(f"status {ended.returncode}: {' '.join(command)}\n{ended.stdout}{ended.stderr}")
    return ended.stdout


def run_ranks(script: str, *arguments: str, ranks: int = RANKS, environment: Mapping[str, str] | None = None) -> Any:
    """Start a script on so many ranks, and return what rank 0 printed last, as JSON."""
    return json.loads(output_of(mpirun(ranks, script, *arguments), environment).splitlines()[-1])


@dataclass(frozen=True)
class MeasuredRun:
    """What a training run has shown.

    Attributes
    ----------
    metrics : list of dict
        The lines of metrics.jsonl.
    peak_mib : float
        The resident memory of the rank that had most, as the operating system counts it.
    """

    sha256: str
    metrics: list[dict[str, Any]]
    peak_mib: float

    @property
    def seconds(self) -> list[float]:
        """The time of each step, control message and all; the first steps are left out."""
        return [line["seconds"] for line in self.metrics[1 + WARMING :]]

    @property
    def step_seconds(self) -> float:
        """The median of them."""
        return statistics.median(self.seconds)


def train(options: Sequence[str], ranks: int = RANKS, threads: int = 1, instruction_set: str = "") -> MeasuredRun:
    """Train as a user does, to the last step, and measure."""
    environment = {"DISTSOFTMAX_ISA": instruction_set} if instruction_set else {}
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "run"
        command = mpirun(ranks, "-c", RANK, "distsoftmax.train", *options)
        command += ["--threads", str(threads), "--tolerance", "0", "--checkpoint-seconds", "1e9", "--out", str(out)]
        (sha256,) = re.findall(r"^model sha256 (\w+)", output_of(command, environment), re.MULTILINE)
        metrics = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        peak = max(int(path.read_text()) for path in out.parent.glob("run.*.rss"))
    return MeasuredRun(sha256, metrics, peak / 1024)


def train_steps(options: Sequence[str], steps: int, learning_rate: float = 0.01, **circumstances: Any) -> list[float]:
    """Take so many full-batch steps of gradient descent; return the seconds of each but the first. See `train`."""
    descent = ["--solver", "gradient-descent", "--learning-rate", str(learning_rate), "--max-steps", str(steps)]
    return train([*options, *descent], **circumstances).seconds
