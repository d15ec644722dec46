"""Samples a second of mini-batch steps against PyTorch DistributedDataParallel's, as a ratio in one run.

    pip install -e ".[mpich,benchmark]"      in an environment of its own
    python tests/benchmarks/sgd_throughput.py

Both train softmax regression in float32 from 0 on the same random samples, with the same batch, learning rate and
schedule, on 2 processes of one thread: ours as a user runs it (the step's time is read from metrics.jsonl, control
message and all), DDP with gloo, SGD and cross_entropy, each process on its half of the samples, which are in memory and
shuffled by a permutation an epoch. The two take turns; the median over the steps of all turns counts, which leaves out
what is done at the end of an epoch. The losses are those over all samples after each epoch.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ddp_processes import PROCESSES, join_group, run_processes

SHAPES = [(60_000, 784, 10), (200_000, 54, 7)]
BATCHES = [4096, 16_384]
PROCESSES, EPOCHS = 2, 3
LEARNING_RATE = 0.5
WARMING = 3  # steps left out


@dataclass
class Turns:
    """What one of the two has shown so far: seconds of steps, and the losses after the epochs of the last turn."""

    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)


def our_turn(folder: Path, batch: int, turn: int, ours: Turns) -> None:
    out = folder / f"run-{batch}-{turn}"
    command = ["mpirun", "-n", str(PROCESSES), sys.executable, "-m", "distsoftmax.train"]
    command += ["--data", str(folder / "X.npy"), "--labels", str(folder / "y.npy"), "--no-standardize"]
    command += ["--solver", "sgd", "--batch", str(batch), "--epochs", str(EPOCHS), "--schedule", "cosine"]
    command += [
        "--learning-rate",
        str(LEARNING_RATE),
        "--tolerance",
        "0",
        "--checkpoint-seconds",
        "1e9",
        "--out",
        str(out),
    ]
    subprocess.run(command, check=True, capture_output=True)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    ours.seconds += [line["seconds"] for line in lines[1 + WARMING :]]
    ours.losses = [line["objective"] for line in lines[1:] if line["objective"] is not None]


def ddp_turn(folder: Path, batch: int, theirs: Turns) -> None:
    seconds, theirs.losses = run_processes(__file__, "--ddp", str(folder), "--batch", str(batch))
    theirs.seconds += seconds[WARMING:]


def ddp_process(folder: Path, batch: int, rank: int) -> None:
    """Be one of the two processes of DistributedDataParallel; print the seconds of each step, and the losses."""
    import time

    import torch
    import torch.distributed as dist
    from torch.nn.functional import cross_entropy
    from torch.nn.parallel import DistributedDataParallel

    torch.manual_seed(rank)
    x, y, n_classes = join_group(folder, rank)
    linear = torch.nn.Linear(x.shape[1], n_classes)
    torch.nn.init.zeros_(linear.weight)
    torch.nn.init.zeros_(linear.bias)
    model = DistributedDataParallel(linear)
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    share = batch // PROCESSES
    n_steps = EPOCHS * math.ceil(len(x) / share)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (1 + math.cos(math.pi * step / n_steps)) / 2)
    seconds, losses = [], []
    for _ in range(EPOCHS):
        order = torch.randperm(len(x))
        for begin in range(0, len(x), share):
            start = time.perf_counter()
            rows = order[begin : begin + share]
            optimizer.zero_grad()
            cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
            schedule.step()
            seconds.append(time.perf_counter() - start)
        with torch.no_grad():
            loss = cross_entropy(linear(x), y) / PROCESSES
        dist.all_reduce(loss)
        losses.append(float(loss))
    print(json.dumps([seconds, losses]))
    dist.destroy_process_group()


def write_samples(folder: Path, rows: int, n_features: int, n_classes: int) -> None:
    """Write samples of which a linear model tells the classes apart, more or less."""
    generator = np.random.default_rng(0)
    features = generator.standard_normal((rows, n_features), dtype=np.float32)
    scores = features @ generator.standard_normal((n_features, n_classes), dtype=np.float32) / math.sqrt(n_features) * 3
    np.save(folder / "X.npy", features)
    np.save(folder / "y.npy", (scores + generator.gumbel(size=scores.shape)).argmax(axis=1))


def compare(turns: int) -> None:
    print(f"{'rows x features x classes':>26}  {'batch':>6}  {'ours, 1/s':>10}  {'DDP, 1/s':>10}  ours / DDP  losses")
    for shape in SHAPES:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_samples(folder, *shape)
            for batch in BATCHES:
                ours, theirs = Turns(), Turns()
                for turn in range(turns):
                    our_turn(folder, batch, turn, ours)
                    ddp_turn(folder, batch, theirs)
                mine, other = (batch / statistics.median(one.seconds) for one in (ours, theirs))
                words = " x ".join(map(str, shape))
                print(f"{words:>26}  {batch:6}  {mine:10.0f}  {other:10.0f}  {mine / other:10.2f}", end="")
                for losses in (ours.losses, theirs.losses):
                    print("  " + " ".join(f"{loss:.4f}" for loss in losses), end="")
                print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--ddp", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ddp:
        ddp_process(options.ddp, options.batch, options.rank)
    else:
        compare(options.turns)


if __name__ == "__main__":
    main()
