"""What a restart saves by --warm: the time until the samples are at hand, read from CSV and mapped from scratch.

    python tests/benchmarks/warm_restart.py

Two ranks make the same dataset in turns: by a cold start, by one that keeps its samples for a restart, and by a warm
start. Then one of four ranks is lost, and the others take its shards over, from the source and from scratch. The
number printed is the time of the slowest rank, the median of the turns; what it costs to import and to join the job is
left out.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from jobs import run_ranks

ROWS, COLUMNS, CLASSES, RANKS, TURNS = 300_000, 256, 10, 2, 3
KINDS = ["cold", "cold, kept", "warm", "taken over from the source", "taken over from scratch"]


def write_csv(path: Path, rows: int) -> None:
    """Write the samples, some rows at a time."""
    import pyarrow as pa
    from pyarrow import csv

    generator = np.random.default_rng(0)
    for first in range(0, rows, 50_000):
        count = min(50_000, rows - first)
        features = generator.standard_normal((count, COLUMNS), dtype=np.float32).round(4)
        columns = {f"f{column}": features[:, column] for column in range(COLUMNS)}
        table = pa.table({**columns, "label": generator.integers(0, CLASSES, count)})
        with path.open("ab") as file:
            csv.write_csv(table, file, csv.WriteOptions(include_header=first == 0))


def measure(path: str, scratch: str) -> None:
    """Time each kind of start on this rank; print the seconds of the slowest, by kind."""
    from distsoftmax.cluster.startup import join_job, load_core
    from distsoftmax.config import DataConfig
    from distsoftmax.data.dataset import load_dataset, take_over
    from distsoftmax.scratch import private_folder, remove_private_folder

    cluster = join_job()
    load_core(cluster)
    config = DataConfig(data=(path,), label="label", scratch=scratch)
    seconds = {}

    def timed(kind, work):  # type: ignore[no-untyped-def]
        cluster.barrier()
        start = time.perf_counter()
        result = work()
        seconds[kind] = max(cluster.allgather(time.perf_counter() - start))
        return result

    folder = private_folder(scratch, Path(path))
    timed("cold", lambda: load_dataset(config, True, cluster))
    timed("cold, kept", lambda: load_dataset(config, True, cluster, warm=folder))
    dataset = timed("warm", lambda: load_dataset(config, True, cluster, warm=folder))
    store = dataset.training.store
    lost = range(dataset.n_shards // 4)  # as where the first of four ranks is lost
    store._shards = [kept for kept in store._shards if kept[0].number not in lost]
    timed("taken over from the source", lambda: take_over(dataset, config, cluster))
    taken = timed("taken over from scratch", lambda: take_over(dataset, config, cluster, warm=folder))
    n_bytes = sum(cluster.allgather(taken.bytes_held))
    cluster.barrier()
    remove_private_folder(folder)
    if cluster.rank == 0:
        print(json.dumps({**seconds, "MiB": n_bytes / 2**20}))


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS, help="the default takes about ten seconds to read")
    parser.add_argument("--scratch", help="a folder on the disk to measure; by default TMPDIR")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as name:
        path = Path(name, "samples.csv")
        write_csv(path, arguments.rows)
        turns = [run_ranks(os.path.abspath(__file__), str(path), name, ranks=RANKS) for _ in range(TURNS)]
        print(
            f"{arguments.rows} x {COLUMNS}, {path.stat().st_size >> 20} MiB of text, {turns[0]['MiB']:.0f} MiB in "
            f"memory, {RANKS} ranks"
        )
        cold = statistics.median(turn["cold"] for turn in turns)
        for kind in KINDS:
            seconds = statistics.median(turn[kind] for turn in turns)
            print(f"{kind:>28}  {seconds:8.3f} s  {seconds / cold:6.3f} of a cold start")


if __name__ == "__main__":
    if len(sys.argv) == 3 and os.path.isfile(sys.argv[1]):
        measure(*sys.argv[1:])
    else:
        main()
