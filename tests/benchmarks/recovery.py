"""From the death of a rank to the next committed step: python tests/benchmarks/recovery.py [--rows N] [--ranks N]

With --minutes N it says what a kill a minute costs a run of so many minutes instead: the part of its time in which it
took no steps that last. In place a rank that is lost stays lost: give more --ranks than minutes.

Under Open MPI the job is repaired in place (mpirun --with-ft ulfm) and, as a second case, started again warm by
`distsoftmax.supervise`; under MPICH it is started again. Of the mpirun on PATH. The data are a CSV file whose reading
takes a while, which is timed, too.
"""

import argparse
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from distsoftmax.run_folder import last_metrics_step

TRAIN = [sys.executable, "-m", "distsoftmax.train", "--label", "y", "--solver", "gradient-descent", "--tolerance", "0"]
TRAIN += ["--evaluate-every", "0", "--max-steps", "1000000", "--learning-rate", "0.01"]
DEADLINE = 300  # seconds, for each kill
SETTLED_SECONDS = 0.05  # after a kill, in which the step that was nearly done may still be committed


def table(path, rows, columns=60):
    """Write a CSV file of random numbers."""
    generator = np.random.default_rng(0)
    with path.open("w") as file:
        file.write(",".join([*(f"x{column}" for column in range(columns)), "y"]) + "\n")
        for start in range(0, rows, 10_000):
            count = min(10_000, rows - start)
            cells = generator.standard_normal((count, columns)).round(5)
            labels = generator.integers(0, 5, count)
            file.writelines(
                ",".join(map(str, row)) + f",{label}\n" for row, label in zip(cells.tolist(), labels, strict=True)
            )


def ranks_of(process):
    """Return the ranks that a launcher has started."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            words = child.cmdline()
        except psutil.Error:
            continue
        if "distsoftmax.train" in words and not {"mpirun", "prterun"} & {Path(word).name for word in words[:1]}:
            found.append(child)
    return found


def wait_for(condition):
    """Wait for a condition, and return the seconds that it took."""
    start = time.perf_counter()
    while not condition():
        if time.perf_counter() - start > DEADLINE:
            raise TimeoutError
        time.sleep(0.002)
    return time.perf_counter() - start


def measure(name, launcher, data, folder, n_kills, minutes=0):
    """Kill a rank now and then, or once a minute, and print what that costs."""
    out = folder / name
    command = [*launcher, *TRAIN, "--data", str(data), "--out", str(out), "--scratch", str(folder)]
    log = (folder / f"{name}.log").open("w")
    process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    metrics, seconds = out / "metrics.jsonl", []
    try:
        first = wait_for(lambda: last_metrics_step(metrics) >= 5)
        if minutes:
            endure(name, process, metrics, minutes)
            return
        for kill in range(n_kills):
            time.sleep(1)
            random.Random(kill).choice(ranks_of(process)).send_signal(signal.SIGKILL)
            start = time.perf_counter()
            time.sleep(SETTLED_SECONDS)
            step = last_metrics_step(metrics)
            wait_for(lambda step=step: last_metrics_step(metrics) > step)
            seconds.append(time.perf_counter() - start)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        for rank in psutil.process_iter():
            try:
                if str(out) in rank.cmdline():
                    rank.kill()
            except psutil.Error:
                pass
        process.wait()
    steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
    assert steps == list(range(len(steps))), "a line of metrics is lost or doubled"
    print(
        f"{name}: the first steps after {first:.1f} s; after a kill {statistics.median(seconds):.2f} s (median of "
        f"{len(seconds)}: {', '.join(f'{second:.2f}' for second in seconds)})",
        flush=True,
    )


def endure(name, process, metrics, minutes):
    """Kill a rank in the middle of each minute, and print how much of the time went without steps that last.

    The undisturbed step is taken from the same run, as the machine's speed changes: in each minute, from a second after
    the run goes on to the end of the minute.
    """
    start, first = time.perf_counter(), last_metrics_step(metrics)
    idle = []
    for minute in range(minutes):
        begin, before = time.perf_counter(), last_metrics_step(metrics)
        time.sleep(max(0.0, start + 60 * minute + 30 - time.perf_counter()))
        undisturbed = (time.perf_counter() - begin) / (last_metrics_step(metrics) - before)  # seconds a step
        begin, before = time.perf_counter(), last_metrics_step(metrics)
        random.Random(minute).choice(ranks_of(process)).send_signal(signal.SIGKILL)
        time.sleep(max(0.0, start + 60 * minute + 60 - time.perf_counter()))
        steps = last_metrics_step(metrics) - before
        idle.append(time.perf_counter() - begin - steps * undisturbed)
    total = time.perf_counter() - start
    print(
        f"{name}: {minutes} kills in {total:.0f} s, {last_metrics_step(metrics) - first} steps; without lasting steps "
        f"{sum(idle):.1f} s, {sum(idle) / total:.1%} (after each kill: {', '.join(f'{s:.2f}' for s in idle)})",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--minutes", type=int, default=0)
    options = parser.parse_args()
    version = subprocess.run(["mpirun", "--version"], capture_output=True, text=True, check=False).stdout
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "table.csv"
        table(data, options.rows)
        ranks = ["-n", str(options.ranks)]
        supervise = [sys.executable, "-m", "distsoftmax.supervise", "--max-restarts", "100", "--"]
        if re.search("Open MPI", version):
            ulfm = ["mpirun", "--with-ft", "ulfm", *ranks]
            n_kills = min(options.kills, options.ranks - 1)
            measure("in-place", [*supervise, *ulfm], data, folder, n_kills, options.minutes)
            if not options.minutes:
                measure("restart-openmpi", [*supervise, "mpirun", *ranks], data, folder, options.kills)
        else:
            measure("restart-mpich", [*supervise, "mpirun", *ranks], data, folder, options.kills, options.minutes)


if __name__ == "__main__":
    main()
