"""What --balance dynamic makes of ranks whose cores others use as well: python tests/benchmarks/balancing.py

Each rank is bound to a core, in turn. Busy processes bound to the last core take half of it, or three quarters, from
its ranks; or a quota of its control group leaves the last rank so much, for which it takes root and Linux's groups. The
ideal step is the work of all shards divided by the ranks' speeds together: each rank's shards by the seconds that it
has computed, in the steps that are judged, as a machine that others use changes its speed by the minute. A step is
settled once no shard moves any more before the processes come or go. Undisturbed, shards should stay where they are,
and looking should cost nothing.
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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jobs import mpirun, output_of
from numpy.typing import NDArray

CORES = sorted(os.sched_getaffinity(0))[:2]
BUSY = "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: pass"
ROWS, FEATURES, CLASSES, SHARDS = 400_000, 200, 40, 64  # about 0.2 s a step on two cores
LEAD_SECONDS = 4.0  # undisturbed, before the processes come
GROUPS = Path("/sys/fs/cgroup")
# ranks; busy processes on the last core, or below 1 what a quota leaves the last rank of it; for how many seconds at a
# time (0: to the end)
SCENARIOS: dict[str, tuple[int, float, float]] = {
    "half": (2, 1, 0.0),
    "a quarter": (2, 3, 0.0),
    "half, coming and going": (2, 1, 12.0),
    "a quarter, coming and going": (2, 3, 12.0),
    "half, by a quota": (2, 0.5, 0.0),
    "a quarter, by a quota": (2, 0.25, 0.0),
    "half, by a quota, coming and going": (2, 0.5, 12.0),
    "undisturbed, 3 ranks": (3, 0, 0.0),
    "half, 3 ranks": (3, 1, 0.0),
    "undisturbed, 4 ranks": (4, 0, 0.0),
    "half, 4 ranks": (4, 1, 0.0),
}


class Quota:
    """A control group of one rank's own, and how much of a core it may have.

    Parameters
    ----------
    period : int
        Microseconds: after its part of them the group stands still for the rest. Linux takes 100,000 unless told so.

    Raises
    ------
    OSError
        There are no such groups here, or we may not make one.
    """

    def __init__(self, period: int) -> None:
        self._period = period
        parent = GROUPS if (GROUPS / "cgroup.controllers").exists() else GROUPS / "cpu"
        self.folder = parent / f"distsoftmax-{os.getpid()}"
        self.folder.mkdir()

    def leave(self, part: float) -> None:
        """Leave the group this part of a core; 1: all of it."""
        if (self.folder / "cpu.max").exists():
            (self.folder / "cpu.max").write_text(f"{int(part * self._period) if part < 1 else 'max'} {self._period}")
        else:
            (self.folder / "cpu.cfs_period_us").write_text(str(self._period))
            (self.folder / "cpu.cfs_quota_us").write_text(str(int(part * self._period) if part < 1 else -1))

    def remove(self) -> None:
        """Remove the group, which is empty when its rank has ended."""
        self.folder.rmdir()


@dataclass(frozen=True)
class Steps:
    """What rank 0 has noted of a run.

    Attributes
    ----------
    ends : ndarray of float64, (n_steps,)
        When each step was committed, by `time.time`.
    rebalances, moved : ndarray of int64, (n_steps,)
        Goes in which shards have moved by then, and the shards.
    computing : ndarray of float64, (n_steps, n_ranks)
        Seconds that each rank has computed.
    held : ndarray of int64, (n_steps, n_ranks)
        The shards that each rank had in the step.
    looking : ndarray of float64, (n_steps,)
        Seconds that rank 0 has looked at whether shards should move, or moved them.
    """

    ends: NDArray[np.float64]
    rebalances: NDArray[np.int64]
    moved: NDArray[np.int64]
    computing: NDArray[np.float64]
    held: NDArray[np.int64]
    looking: NDArray[np.float64]

    def between(self, start: float, end: float) -> slice:
        """Return the steps that were taken in a time."""
        return slice(int(np.searchsorted(self.ends, start)) + 1, int(np.searchsorted(self.ends, end)))


def be_a_rank(log: str, words: list[str]) -> None:
    """Train, bound to a core, and note each step."""
    rank = int(os.environ.get("PMI_RANK") or os.environ["OMPI_COMM_WORLD_RANK"])
    size = int(os.environ.get("PMI_SIZE") or os.environ["OMPI_COMM_WORLD_SIZE"])
    os.sched_setaffinity(0, {CORES[rank % len(CORES)]})
    if "QUOTA_GROUP" in os.environ and rank == size - 1:
        Path(os.environ["QUOTA_GROUP"], "cgroup.procs").write_text(str(os.getpid()))
    from distsoftmax.cluster.control import Verdict
    from distsoftmax.cluster.startup import join_job, load_core
    from distsoftmax.command_line import parse
    from distsoftmax.config import TrainConfig
    from distsoftmax.session import Session
    from distsoftmax.train import command

    lines: list[tuple[float, int, int, list[float], list[int], float]] = []
    rebalance = Session.rebalance

    def noted(session: Session, verdict: Verdict, step: int, most_steps: int) -> None:
        start, balancing = time.perf_counter(), session.balancing
        held = [0] if balancing is None else [len(own) for own in balancing._balancer.assignment]
        rebalance(session, verdict, step, most_steps)
        seconds = time.perf_counter() - start
        counts = (0, 0) if balancing is None else (balancing.n_rebalances, balancing.n_moved)
        lines.append((time.time(), *counts, verdict.compute_seconds.tolist(), held, seconds))

    Session.rebalance = noted  # type: ignore[method-assign]
    cluster = join_job()
    load_core(cluster)
    command(parse(TrainConfig, words, prog="balancing"), cluster)
    if cluster.rank == 0:
        Path(log).write_text(json.dumps(lines))
    cluster.leave(0)


def train(folder: Path, ranks: int, balance: str, *limits: str, meanwhile: Callable[[], None] | None = None) -> Steps:
    """Train on ranks bound to cores, while something else goes on."""
    log = folder / "steps.json"
    words = ["--data", str(folder / "X.npy"), "--labels", str(folder / "y.npy"), "--shards", str(SHARDS)]
    words += [
        "--solver",
        "gradient-descent",
        "--learning-rate",
        "0.01",
        "--tolerance",
        "0",
        "--checkpoint-seconds",
        "1e9",
        "--threads",
        "1",
    ]
    words += ["--balance", balance, "--progress", "never", "--resume", "never", *limits]
    with tempfile.TemporaryDirectory(dir=folder) as out:
        command = mpirun(ranks, __file__, "--rank", str(log), *words, "--out", str(Path(out) / "run"))
        if meanwhile is None:
            output_of(command)
        else:
            job = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            meanwhile()
            if job.wait():
                raise RuntimeError(f"status {job.returncode}: {command}")
    return Steps(*map(np.array, zip(*json.loads(log.read_text()), strict=True)))


def disturbed(
    folder: Path, ranks: int, disturbance: float, period: float, seconds: float, quota_period: int
) -> tuple[Steps, list[tuple[float, float, float]]]:
    """Return the steps of a run of so many seconds, and its times of (start, end, what there was of `SCENARIOS`)."""
    times: list[tuple[float, float, float]] = []
    quota = Quota(quota_period) if 0 < disturbance < 1 else None
    if quota is not None:
        os.environ["QUOTA_GROUP"] = str(quota.folder)

    def disturb() -> None:
        time.sleep(LEAD_SECONDS + 3.0)  # the ranks start, and read
        end, come = time.time() + seconds - LEAD_SECONDS, True
        while time.time() < end - 1.0:
            wanted = disturbance if come else 0
            if quota is not None:
                quota.leave(wanted or 1.0)
            n_busy = int(wanted)
            busy = [subprocess.Popen([sys.executable, "-c", BUSY, str(CORES[-1])]) for _ in range(n_busy)]
            start, until = time.time(), min(time.time() + period, end) if period else end
            time.sleep(max(until - start, 0.0))
            times.append((start, time.time(), wanted))
            for process in busy:
                process.kill()
                process.wait()
            come = not come

    limits = ["--max-steps", "1000000", "--max-seconds", str(seconds + 3.0)]
    try:
        return train(folder, ranks, "dynamic", *limits, meanwhile=disturb), times
    finally:
        os.environ.pop("QUOTA_GROUP", None)
        if quota is not None:
            quota.remove()


def report(name: str, steps: Steps, times: list[tuple[float, float, float]]) -> None:
    """Print what each time of a run has come to."""
    for start, end, disturbance in times:
        taken = steps.between(start, end)
        counts, ends = steps.rebalances[taken], steps.ends[taken]
        if ends.size < 10:
            continue
        before = steps.rebalances[max(taken.start - 1, 0)]
        settled = int(np.flatnonzero(counts != counts[-1]).max(initial=-1)) + 1
        judged = slice(taken.start + settled + 1, taken.stop)
        with np.errstate(divide="ignore", invalid="ignore"):
            ideal = SHARDS / float((steps.held[judged].mean(axis=0) / steps.computing[judged].mean(axis=0)).sum())
        seconds = np.diff(ends[settled:])
        ratio = float(seconds.mean()) / ideal if seconds.size else float("nan")
        what = f"{disturbance} left" if 0 < disturbance < 1 else f"{disturbance} busy"
        print(
            f"{name:34} {what}: ideal step {1e3 * ideal:5.1f} ms, settled / ideal {ratio:5.3f} "
            f"({seconds.size} steps), whole time / ideal {float(np.diff(ends).mean()) / ideal:5.3f}, "
            f"settled after {ends[settled] - start:4.1f} s and {counts[-1] - before} rebalances, "
            f"{steps.moved[taken][-1] - steps.moved[max(taken.start - 1, 0)]} shards",
            flush=True,
        )


def undisturbed(folder: Path, n_steps: int) -> None:
    """Print what balancing costs, and moves, where nothing disturbs the ranks."""
    limit = ["--max-steps", str(n_steps)]
    alone = [train(folder, 2, balance, *limit) for balance in ("contiguous", "dynamic") * 2]
    of_step = ", ".join(f"{1e3 * statistics.median(np.diff(steps.ends)):.2f}" for steps in alone)
    looking = statistics.median(np.concatenate([steps.looking for steps in alone[1::2]]))
    moved, n_taken = [int(steps.moved[-1]) for steps in alone[1::2]], len(alone[1].ends)
    print(
        f"undisturbed, 2 ranks: {moved} shards moved in {n_taken} steps; a step takes {of_step} ms without "
        f"and with it in turn; looking takes {1e6 * looking:.1f} us, {1e4 * looking:.3f} % of a step of 10 ms",
        flush=True,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=40.0, help="of a disturbed run")
    parser.add_argument("--steps", type=int, default=1000, help="of an undisturbed run")
    parser.add_argument("--only", default="", help="scenarios whose names contain this")
    parser.add_argument("--quota-period", type=int, default=100_000, help="microseconds")
    parser.add_argument("--classes", type=int, default=CLASSES, help="a step takes about 5 ms for each")
    arguments = parser.parse_args()
    classes = arguments.classes
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        features = generator.standard_normal((ROWS, FEATURES), dtype=np.float32)
        np.save(folder / "X.npy", features)
        np.save(folder / "y.npy", (features[:, :classes] + generator.standard_normal((ROWS, classes))).argmax(axis=1))
        if arguments.only in "undisturbed, 2 ranks":
            undisturbed(folder, arguments.steps)
        for name, (ranks, disturbance, period) in SCENARIOS.items():
            if arguments.only in name:
                try:
                    of_run = (ranks, disturbance, period, arguments.seconds, arguments.quota_period)
                    report(name, *disturbed(folder, *of_run))
                except OSError as error:
                    print(f"{name}: skipped: {error}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--rank"]:
        be_a_rank(sys.argv[2], sys.argv[3:])
    else:
        main()
