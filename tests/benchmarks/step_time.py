"""The time of a full-batch step against PyTorch DistributedDataParallel's, as a ratio in one run.

    pip install -e ".[mpich,benchmark]"      in an environment of its own
    python tests/benchmarks/step_time.py

Both train softmax regression in float32 on the same random samples, split over 2 processes of one thread: ours as a
user runs it (the step's time is read from metrics.jsonl, control message and all), DDP with gloo, SGD and
cross_entropy. The two take turns, and the median over the steps of all turns counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from ddp_processes import PROCESSES, join_group, run_processes

SHAPES = [(60_000, 784, 10), (40_000, 512, 1000), (200_000, 54, 7)]


def our_steps(folder: Path, turn: int, steps: int) -> list[float]:
    out = folder / f"run-{turn}"
    command = ["mpirun", "-n", str(PROCESSES), sys.executable, "-m", "distsoftmax.train"]
    command += ["--data", str(folder / "X.npy"), "--labels", str(folder / "y.npy"), "--no-standardize"]
    command += [
        "--tolerance",
        "0",
        "--solver",
        "gradient-descent",
        "--learning-rate",
        "0.01",
        "--max-steps",
        str(steps),
        "--checkpoint-seconds",
        "1e9",
        "--out",
        str(out),
    ]
    subprocess.run(command, check=True, capture_output=True)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line["seconds"] for line in lines[4:]]


def ddp_steps(folder: Path, steps: int) -> list[float]:
    return list(run_processes(__file__, "--ddp", str(folder), "--steps", str(steps)))[3:]


def ddp_process(folder: Path, rank: int, steps: int) -> None:
    """Be one of the two processes of DistributedDataParallel; print the seconds of each step."""
    import time

    import torch
    import torch.distributed as dist
    from torch.nn.functional import cross_entropy
    from torch.nn.parallel import DistributedDataParallel

    x, y, n_classes = join_group(folder, rank)
    model = DistributedDataParallel(torch.nn.Linear(x.shape[1], n_classes))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    print(json.dumps(seconds))
    dist.destroy_process_group()


def compare(turns: int, steps: int) -> None:
    print(f"{'rows x features x classes':>26}  {'ours, ms':>9}  {'DDP, ms':>9}  ours / DDP")
    for rows, n_features, n_classes in SHAPES:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            generator = np.random.default_rng(0)
            np.save(folder / "X.npy", generator.standard_normal((rows, n_features), dtype=np.float32))
            np.save(folder / "y.npy", generator.integers(0, n_classes, rows))
            ours: list[float] = []
            theirs: list[float] = []
            for turn in range(turns):
                ours += our_steps(folder, turn, steps)
                theirs += ddp_steps(folder, steps)
        mine, other = statistics.median(ours), statistics.median(theirs)
        shape = f"{rows} x {n_features} x {n_classes}"
        print(f"{shape:>26}  {1e3 * mine:9.1f}  {1e3 * other:9.1f}  {mine / other:10.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--ddp", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ddp:
        ddp_process(options.ddp, options.rank, options.steps)
    else:
        compare(options.turns, options.steps)


if __name__ == "__main__":
    main()
