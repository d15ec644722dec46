"""Samples a second of mini-batch steps against PyTorch DistributedDataParallel's, as a ratio in one run.

    pip install -e ".[mpich,benchmark]"      in an environment of its own
    python tests/benchmarks/sgd_throughput.py

Both train softmax regression in float32 from 0 on the same random samples, with the same batch, learning rate and
schedule, on 2 processes of one thread: ours as a user runs it (the step's time is read from metrics.jsonl, control
message and all), DDP with gloo, SGD and cross_entropy, each process on its half of the samples, which are in memory and
shuffled by a permutation an epoch. The two take turns; the median over the steps of all turns counts, which leaves out
what is done at the end of an epoch. The losses are those over all samples after each epoch, of the last turn.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from functools import partial
from pathlib import Path

from comparison import Table, medians, parser_of
from ddp_processes import PROCESSES, join_group, leave_group, own_samples, run_processes
from jobs import WARMING, train
from random_samples import Shape, parse_shape, text_of, write_dense

SHAPES: tuple[Shape, ...] = ((60_000, 784, 10), (200_000, 54, 7))
BATCHES = (4096, 16_384)
EPOCHS = 3
LEARNING_RATE = 0.5

Losses = dict[str, list[float]]


def our_seconds(stored: list[str], batch: int, epochs: int, losses: Losses) -> list[float]:
    descent = ["--solver", "sgd", "--batch", str(batch), "--epochs", str(epochs), "--schedule", "cosine"]
    run = train([*stored, "--no-standardize", *descent, "--learning-rate", str(LEARNING_RATE)])
    losses["ours"] = [line["objective"] for line in run.metrics[1:] if line["objective"] is not None]
    return run.seconds


def ddp_seconds(folder: Path, batch: int, epochs: int, losses: Losses) -> list[float]:
    arguments = ("--ddp", str(folder), "--batch", str(batch), "--epochs", str(epochs))
    seconds, losses["DDP"] = run_processes(__file__, *arguments)
    return list(seconds[WARMING:])


def ddp_process(folder: Path, batch: int, epochs: int, rank: int) -> None:
    """Be one of the two processes of DistributedDataParallel; print the seconds of each step, and the losses."""
    import torch
    import torch.distributed as dist
    from torch.nn.functional import cross_entropy
    from torch.nn.parallel import DistributedDataParallel

    join_group(rank)
    torch.manual_seed(rank)
    x, y, n_classes = own_samples(folder, rank)
    linear = torch.nn.Linear(x.shape[1], n_classes)
    torch.nn.init.zeros_(linear.weight)
    torch.nn.init.zeros_(linear.bias)
    model = DistributedDataParallel(linear)
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    own = batch // PROCESSES
    n_steps = epochs * math.ceil(len(x) / own)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (1 + math.cos(math.pi * step / n_steps)) / 2)
    seconds, losses = [], []
    for _ in range(epochs):
        order = torch.randperm(len(x))
        for begin in range(0, len(x), own):
            start = time.perf_counter()
            rows = order[begin : begin + own]
            optimizer.zero_grad()
            cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
            schedule.step()
            seconds.append(time.perf_counter() - start)
        with torch.no_grad():
            loss = cross_entropy(linear(x), y) / PROCESSES
        dist.all_reduce(loss)
        losses.append(float(loss))
    leave_group([seconds, losses])


def main() -> None:
    parser = parser_of(__doc__, steps=None)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--shapes", nargs="+", type=parse_shape, default=SHAPES, help="such as 60000x784x10")
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES)
    parser.add_argument("--ddp", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ddp:
        ddp_process(options.ddp, options.batch, options.epochs, options.rank)
        return
    table = Table("rows x features x classes", "batch", "ours, 1/s", "DDP, 1/s", "ours / DDP", "losses: ours; DDP")
    for shape in options.shapes:
        with tempfile.TemporaryDirectory() as name:
            stored = write_dense(Path(name), shape)
            for batch in options.batches:
                losses: Losses = {}
                contenders = {
                    "ours": partial(our_seconds, stored, batch, options.epochs, losses),
                    "DDP": partial(ddp_seconds, Path(name), batch, options.epochs, losses),
                }
                ours, ddp = (batch / seconds for seconds in medians(contenders, options.turns).values())
                text = "; ".join(" ".join(f"{loss:.4f}" for loss in losses[called]) for called in contenders)
                table.row(text_of(shape), batch, ours, ddp, ours / ddp, text)


if __name__ == "__main__":
    main()
