"""To how many ranks a step scales: a model of its time, fitted here, checked between two nodes, and carried further.

    python tests/benchmarks/scaling_model.py            Linux, as root; leave the machine alone

Two network namespaces stand for two nodes, one rank on each, at full speed and at 100 Mbit/s (`tc tbf`). First the time
of an Allreduce by its size gives the latency and the time a byte of each network. Then the model's step, from the
computation on one rank and these two numbers, is compared with a measured one. At last the computation of a shard of
three typical problems is measured, and the model says up to how many ranks the efficiency stays above 90 % on three
networks whose numbers are assumed. See `network_model.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from comparison import Table
from jobs import WARMING, mpirun, train
from network_model import Network, Problem, fitted, message_bytes
from random_samples import Shape, parse_shape, text_of, write_dense, write_sparse

sys.path.append(str(Path(__file__).parents[1] / "jobs"))
import two_nodes

SIZES = (8, 1_000, 10_000, 100_000, 1_000_000, 10_000_000)  # bytes of an Allreduce
MOST_BYTES = 20_000_000  # of all Allreduces of a size
RATES = {"full speed": "", "100 Mbit/s": "100mbit"}
CHECKED: tuple[Shape, ...] = ((60_000, 784, 10), (200_000, 54, 7), (20_000, 512, 1000))
SHARD_ROWS = 16_384  # as in large data by default
MEASURED_SHARDS = 2
NETWORKS = (  # assumed: the latencies are those of TCP, of a good Ethernet, and of InfiniBand
    Network.of_rate("1 Gbit/s", 50e-6, 1e9),
    Network.of_rate("10 Gbit/s", 20e-6, 1e10),
    Network.of_rate("100 Gbit/s", 3e-6, 1e11),
)
PROBLEMS = {  # name: rows, features, classes, non-zeros a row (0: dense)
    "measurements": (1_000_000_000, 54, 7, 0),
    "image embeddings": (14_000_000, 2048, 1000, 0),
    "hashed text": (50_000_000, 1 << 18, 20, 100),
}
LEAST_EFFICIENCY = 0.9
MOST_RANKS = 4096
ENVIRONMENT = {"UCX_TLS": "tcp,self", "PYTHONPATH": str(Path(__file__).parents[2])}  # see tests/jobs/test_hosts.py
DESCENT = ["--solver", "gradient-descent", "--learning-rate", "0.01", "--tolerance", "0", "--threads", "1"]


def allreduce_seconds() -> None:
    """Be one of two ranks: time an Allreduce of each size, and let rank 0 print the medians. Collective."""
    from distsoftmax.cluster.startup import join_job

    cluster = join_job()
    medians = []
    for size in SIZES:
        values, seconds = np.zeros(size // 8, dtype=np.int64), []
        for _ in range(min(300, max(5, MOST_BYTES // size))):
            cluster.barrier()
            start = time.perf_counter()
            cluster.sum_integers(values)
            seconds.append(time.perf_counter() - start)
        medians.append(statistics.median(seconds))
    cluster.say(json.dumps(medians))
    cluster.leave(0)


def on_two_nodes(nodes: two_nodes.Cluster, folder: Path, *words: str) -> str:
    """Start Python on each of two nodes, and return what rank 0 prints."""
    launcher, *rest = mpirun(2, *words)
    command = nodes.command(launcher, "--host", f"{two_nodes.RED}:1,{two_nodes.BLUE}:1", *rest, cwd=folder)
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    if ended.returncode:
        raise RuntimeError(f"status {ended.returncode}: {' '.join(command)}\n{ended.stdout}{ended.stderr}")
    return ended.stdout


def alone(stored: list[str], steps: int) -> tuple[float, float]:
    """Return the seconds of a step's computation on one rank, and those of all else in it."""
    lines = train([*stored, *DESCENT, "--max-steps", str(steps)], ranks=1).metrics[1 + WARMING :]
    compute = statistics.median(line["slowest_compute_seconds"] for line in lines)
    return compute, statistics.median(line["seconds"] for line in lines) - compute


def together(nodes: two_nodes.Cluster, folder: Path, stored: list[str], steps: int) -> float:
    """Return the seconds of a step on two nodes."""
    with tempfile.TemporaryDirectory(dir=folder) as out:
        options = [*stored, *DESCENT, "--max-steps", str(steps), "--out", f"{out}/run"]
        on_two_nodes(nodes, folder, "-m", "distsoftmax.train", *options)
        lines = [json.loads(line) for line in Path(out, "run", "metrics.jsonl").read_text().splitlines()]
    return statistics.median(line["seconds"] for line in lines[1 + WARMING :])


def check(nodes: two_nodes.Cluster, folder: Path, shapes: list[Shape], steps: int) -> None:
    """Fit each network, and print the model's steps beside the measured ones."""
    samples: dict[Shape, list[str]] = {}
    for number, shape in enumerate(shapes):
        (folder / str(number)).mkdir()
        samples[shape] = [*write_dense(folder / str(number), shape), "--no-standardize"]
    on_one_rank = {shape: alone(stored, steps) for shape, stored in samples.items()}
    table = Table("rows x features x classes, network", "compute / 2, ms", "serial, ms", "messages, ms", "model, ms",
                  "measured, ms", "measured / model", width=44)  # fmt: skip
    for name, rate in RATES.items():
        if rate:
            nodes.limit(rate)
        seconds = json.loads(on_two_nodes(nodes, folder, __file__, "--allreduce").splitlines()[-1])
        network = fitted(name, SIZES, seconds)
        times = ", ".join(f"{size:,}: {1e6 * of_size:,.0f}" for size, of_size in zip(SIZES, seconds, strict=True))
        print(f"{name}: Allreduce of bytes, us: {times}")
        print(f"{name}: latency {1e6 * network.latency:.0f} us, {8e-6 / network.byte_seconds:,.0f} Mbit/s")
        for shape, stored in samples.items():
            compute, serial = on_one_rank[shape]
            problem = Problem("", compute, message_bytes(*shape[1:]), serial)
            model, measured = problem.step_seconds(2, network), together(nodes, folder, stored, steps)
            messages = model - compute / 2 - serial
            cells = [1e3 * part for part in (compute / 2, serial, messages, model, measured)]
            table.row(f"{text_of(shape)}, {name}", *cells, measured / model)


def carry_further(folder: Path, steps: int) -> None:
    """Measure a shard of each typical problem, and print to how many ranks it scales."""
    table = Table("problem", "step on 1, s", "serial, ms", "message, MB", "shards",
                  *(network.name for network in NETWORKS), width=60)  # fmt: skip
    for name, (rows, n_features, n_classes, entries) in PROBLEMS.items():
        shape = (MEASURED_SHARDS * SHARD_ROWS, n_features, n_classes)
        own = folder / name.replace(" ", "-")
        own.mkdir()
        stored = write_sparse(own, shape, entries, skew=3.0) if entries else write_dense(own, shape)
        compute, serial = alone([*stored, "--no-standardize", "--shards", str(MEASURED_SHARDS)], steps)
        n_shards = -(-rows // SHARD_ROWS)
        of_all = compute / MEASURED_SHARDS * n_shards
        problem = Problem(name, of_all, message_bytes(n_features, n_classes), serial)
        most = [f"{problem.most_ranks(network, LEAST_EFFICIENCY, MOST_RANKS):,}" for network in NETWORKS]
        kind = f", {entries} non-zeros" if entries else ""
        table.row(f"{name}: {text_of((rows, n_features, n_classes))}{kind}", of_all + serial, 1e3 * serial,
                  problem.n_bytes / 1e6, float(n_shards), *most)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", type=parse_shape, default=CHECKED, help="such as 60000x784x10")
    parser.add_argument("--steps", type=int, default=15, help="of a run; the first few do not count")
    parser.add_argument("--allreduce", action="store_true", help=argparse.SUPPRESS)
    options: Any = parser.parse_args()
    if options.allreduce:
        allreduce_seconds()
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        reason = two_nodes.missing()
        if reason:
            print(f"the model is not checked: {reason}")
        else:
            os.environ.update(ENVIRONMENT)
            (folder / "nodes").mkdir()
            with two_nodes.Cluster(folder / "nodes") as nodes:
                check(nodes, folder, list(options.shapes), options.steps)
        carry_further(folder, options.steps)


if __name__ == "__main__":
    main()
