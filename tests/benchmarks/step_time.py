"""The time of a full-batch step against PyTorch DistributedDataParallel's and against the roofline, in one run.

    pip install -e ".[mpich,benchmark]"      in an environment of its own
    python tests/benchmarks/step_time.py --isa v3

All train softmax regression in float32 on the same random samples, split over 2 processes of one thread: ours as a
user runs it (the step's time is read from metrics.jsonl, control message and all), DDP with gloo, SGD and
cross_entropy. They take turns, and so does measuring the roofline (see roofline.py); the median over the steps of all
turns counts. For the first shape there are also rows whose features are stored as uint8, as they are and standardised,
against our own with float32. With --isa ours runs on a core for that instruction set as well.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from functools import partial
from pathlib import Path

from comparison import Measure, Table, medians, parser_of
from ddp_processes import join_group, own_samples, print_steps, run_processes
from jobs import WARMING, train_steps
from random_samples import SHAPES, Shape, parse_shape, text_of, write_bytes, write_dense
from roofline import least_seconds

AS_STORED = "--no-standardize"
SMALL_STEP = 1e-8  # a learning rate that suits numbers up to 255
KINDS = {"float32": ("DDP", 4), "uint8": ("float32", 1), "uint8, standardised": ("float32", 1)}  # against; itemsize


def ddp_seconds(folder: Path, steps: int) -> list[float]:
    return list(run_processes(__file__, "--ddp", str(folder), "--steps", str(steps)))[WARMING:]


def ddp_process(folder: Path, rank: int, steps: int) -> None:
    """Be one of the two processes of DistributedDataParallel."""
    import torch

    join_group(rank)
    x, y, n_classes = own_samples(folder, rank)
    print_steps(torch.nn.Linear(x.shape[1], n_classes), x, y, steps)


def compare(shape: Shape, kinds: list[str], options: argparse.Namespace, table: Table) -> None:
    """Print the rows of a shape, one for each kind of storage."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stored = write_dense(folder, shape)
        runs = {"float32": partial(train_steps, [*stored, AS_STORED])}
        if len(kinds) > 1:
            small = write_bytes(folder)
            runs["uint8"] = partial(train_steps, [*small, AS_STORED], learning_rate=SMALL_STEP)
            runs["uint8, standardised"] = partial(train_steps, small)
        contenders: dict[str, Measure] = {kind: partial(run, options.steps) for kind, run in runs.items()}
        contenders["DDP"] = partial(ddp_seconds, folder, options.steps)
        for kind in kinds:
            contenders[f"least, {kind}"] = lambda itemsize=KINDS[kind][1]: [least_seconds(shape, itemsize)]
            if options.isa:
                contenders[f"forced, {kind}"] = partial(runs[kind], options.steps, instruction_set=options.isa)
        seconds = medians(contenders, options.turns)
    for kind in kinds:
        ours, against = seconds[kind], KINDS[kind][0]
        least, forced = seconds[f"least, {kind}"], seconds.get(f"forced, {kind}", math.nan)
        theirs = seconds[against]
        table.row(
            f"{text_of(shape)}, {kind}", 1e3 * ours, against, 1e3 * theirs, theirs / ours,
            1e3 * least, ours / least, 1e3 * forced, forced / ours,
        )  # fmt: skip


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--shapes", nargs="+", type=parse_shape, default=SHAPES, help="such as 60000x784x10")
    parser.add_argument("--isa", default="", help="an instruction set for a second run of ours: baseline, v3 or v4")
    parser.add_argument("--ddp", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ddp:
        ddp_process(options.ddp, options.rank, options.steps)
        return
    forced = (f"{options.isa}, ms", f"{options.isa} / ours") if options.isa else ("", "")
    table = Table(
        "rows x features x classes, storage", "ours, ms", "against", "it, ms", "it / ours", "roofline, ms",
        "ours / roofline", *forced, width=44,
    )  # fmt: skip
    for number, shape in enumerate(options.shapes):
        compare(shape, list(KINDS) if number == 0 else ["float32"], options, table)


if __name__ == "__main__":
    main()
