"""What the monitor costs a step of 10 ms: mpirun -n 2 python tests/benchmarks/monitor.py

Each step asks whether a report is due. A report, which comes every 5 s, reads the node, is gathered by all ranks, and
is written by rank 0 as a part of a line of metrics. Both are timed by themselves, between ranks that have just met, and
the sum is told as a part of a step. For jobs larger than any here, what rank 0 takes to assemble a report is timed.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.cluster.cores import Grant
from distsoftmax.cluster.startup import join_job
from distsoftmax.coordinator.metrics import MetricsFile
from distsoftmax.monitoring.reporter import RECORD, REPORT_SECONDS, Post, Reporter, Work, assemble

STEP_SECONDS = 0.010
REPORTS = 200
QUESTIONS = 100_000
RANKS, RANKS_ON_A_NODE = (1000, 4096), 64


def question_seconds(reporter: Reporter) -> float:
    """Return what it takes to ask whether a report is due."""
    start = time.perf_counter()
    for step in range(QUESTIONS):
        reporter.is_due(step)
    return (time.perf_counter() - start) / QUESTIONS


def report_seconds(reporter: Reporter, cluster: Communicator) -> float:
    """Return what a report takes until it is written, a median. Collective."""
    work = Work(shards=8, rows=1000, moved_shards=0, compute_seconds=1.0, read_seconds=1.0, save_seconds=0.0)
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        metrics = MetricsFile(Path(folder) / "metrics.jsonl", 0)
        for step in range(REPORTS):
            cluster.barrier()
            start = time.perf_counter()
            report = reporter.report(work)
            if report is not None:
                metrics.write({"step": step, "cluster": report.as_json()})
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def assembly_seconds(n_ranks: int) -> float:
    """Return what it takes to assemble the report of so many ranks, a median."""
    posts = [
        Post(Grant(f"node{rank // RANKS_ON_A_NODE}", frozenset([rank % RANKS_ON_A_NODE])), 1.0, 1e12, 1)
        for rank in range(n_ranks)
    ]
    records, seconds = np.ones(n_ranks, dtype=RECORD), []
    for _ in range(10):
        start = time.perf_counter()
        assemble(posts, records, REPORT_SECONDS, 1)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main() -> None:
    """Measure and print. Collective."""
    cluster = join_job(60.0)
    reporter = Reporter(cluster, 1, every=1)
    report = max(cluster.allgather(report_seconds(reporter, cluster)))
    question = max(cluster.allgather(question_seconds(reporter)))
    share = question / STEP_SECONDS + report / REPORT_SECONDS
    cluster.say(
        f"a report takes {1e3 * report:.2f} ms, every {REPORT_SECONDS:g} s; a step asks in {1e6 * question:.2f} us"
    )
    cluster.say(f"together {100 * share:.3f} % of a step of 10 ms")
    if cluster.rank == 0:
        for n_ranks in RANKS:
            seconds = assembly_seconds(n_ranks)
            share = seconds / REPORT_SECONDS
            print(f"assembled of {n_ranks} ranks: {1e3 * seconds:.1f} ms, {100 * share:.3f} % of the time")
    cluster.leave(0)


if __name__ == "__main__":
    main()
