"""A training run under mpirun, with the steps' times and the peak memory of its ranks."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

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


@dataclass(frozen=True)
class MeasuredRun:
    """What a run has shown.

    Attributes
    ----------
    step_seconds : float
        The median over the steps, the first two left out.
    peak_mib : float
        The resident memory of the rank that had most, as the operating system counts it.
    """

    sha256: str
    step_seconds: float
    peak_mib: float


def train(out: Path, ranks: int, steps: int, options: list[str]) -> MeasuredRun:
    """Train for so many steps, and measure."""
    command = ["mpirun", "-n", str(ranks), sys.executable, "-c", RANK, "distsoftmax.train", *options]
    command += ["--tolerance", "0", "--max-steps", str(steps), "--checkpoint-seconds", "1e9", "--out", str(out)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    if ended.returncode:
        sys.exit(ended.stdout + ended.stderr)
    (sha256,) = re.findall(r"^model sha256 (\w+)", ended.stdout, re.MULTILINE)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    peak = max(int(path.read_text()) for path in out.parent.glob(f"{out.name}.*.rss"))
    return MeasuredRun(sha256, statistics.median(line["seconds"] for line in lines[2:]), peak / 1024)
