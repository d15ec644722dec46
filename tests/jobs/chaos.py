"""The cases of the chaos suite, drawn by a seed, and what is asked of each.

A case is a run of one of PROBLEMS under the supervisor in which something happens at a random call of a random place,
on a random rank. It must end by itself, in the model of the run in which nothing happens.
"""

import itertools
import json
import os
import random
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

N_SHARDS = 6
COMMON = ["--data", "samples.npz", "--shards", N_SHARDS, "--tolerance", 0]
HELD_OUT = ["--valid-fraction", 0.3, "--evaluate-every", 1]
PROBLEMS = {
    "accelerated": ["--solver", "gradient-descent", "--max-steps", 30],
    "momentum": ["--solver", "gradient-descent", "--learning-rate", 0.1, "--momentum", 0.9, "--max-steps", 30],
    "lbfgs": ["--solver", "lbfgs", "--l2", 1e-3, "--max-steps", 12],
    "proximal": ["--solver", "lbfgs", "--l1", 1e-3, "--max-steps", 12],
    "trust-region": ["--solver", "trust-region", "--l2", 1e-3, "--max-steps", 8],
    "sgd": ["--solver", "sgd", "--batch", 40, "--epochs", 3],
    "path": ["--l2-path", "1e-1:1e-3:3", "--solver", "lbfgs", "--max-steps", 6, *HELD_OUT],
    "early-stopping": ["--solver", "gradient-descent", "--learning-rate", 2, "--patience", 3, *HELD_OUT],
}
WHATS = ["kill", "kill", "kill", "kill-all", "kill-launcher", "stop", "terminate"]
WHATS += ["raise", "exit0", "exit3", "segfault", "memory"]
PLACES = ["read", "gradient", "allreduce", "commit", "save", "repair"]
TIMEOUT = 4  # seconds without progress that the watchdog allows
DEADLINE = 120  # seconds for a case


@dataclass(frozen=True)
class Fault:
    """What happens where, on which rank, and after which fraction of the calls of the place."""

    place: str
    what: str
    rank: int
    fraction: float

    def __str__(self):
        return f"{self.what} in {self.place} on {self.rank}"

    def in_environment(self, n_steps, n_ranks):
        """Return it as faults/sitecustomize.py takes it, for a run of so many steps."""
        # a save that comes while one is in flight may be left out, but for the last: two are sure
        calls = {"read": N_SHARDS // n_ranks, "save": 2, "repair": 1}.get(self.place, n_steps)
        return f"{self.place}:{self.what}:{self.rank}:{1 + int(self.fraction * calls)}"


@dataclass(frozen=True)
class Case:
    """A run, and what happens in it."""

    number: int
    problem: str
    n_ranks: int
    checkpoint_every: int
    faults: tuple[Fault, ...]
    repairs: bool  # whether the job is one that MPI can repair in place

    def __str__(self):
        how = "-repaired" if self.repairs else ""
        return f"{self.number}-{self.problem}{how}-{'-and-'.join(map(str, self.faults))}".replace(" ", "-")


def draw(seed, number, *, can_repair):
    """Return a case; the same for the same seed and number."""
    generator = random.Random(f"{seed} {number}")
    repairs = can_repair and generator.random() < 0.5
    n_ranks = 3 if repairs else generator.choice([2, 3])
    while True:
        place, what = generator.choice(PLACES), generator.choice(WHATS)
        rank = 0 if place == "save" else generator.randrange(n_ranks)
        if place == "repair" and not repairs:
            continue
        faults = [Fault(place, what, rank, generator.random())]
        if place == "repair":  # something must be there to repair
            other = generator.choice([other for other in range(n_ranks) if other != rank])
            faults.insert(
                0, Fault(generator.choice(["gradient", "allreduce", "commit"]), "kill", other, generator.random())
            )
        problem = generator.choice(list(PROBLEMS))
        return Case(number, problem, n_ranks, generator.choice([1, 2, 3, 5, 7]), tuple(faults), repairs)


def write_samples(folder):
    """Write the samples that all cases train on."""
    generator = np.random.default_rng(11)
    X = generator.standard_normal((240, 5))
    noise = generator.standard_normal((240, 3))
    y = (X @ generator.standard_normal((5, 3)) + noise).argmax(axis=1)
    np.savez(folder / "samples.npz", X=X, y=y)


def reference_options(problem):
    return " ".join(map(str, [*COMMON, *PROBLEMS[problem], "--out", problem]))


def words(case, out):
    """Return the command line of a case."""
    launcher = ["mpirun", *(["--with-ft", "ulfm"] if case.repairs else []), "-n", case.n_ranks]
    options = [*COMMON, *PROBLEMS[case.problem], "--checkpoint-every", case.checkpoint_every, "--out", out]
    options += ["--timeout", TIMEOUT]
    supervise = ["python", "-m", "distsoftmax.supervise", "--max-restarts", 5, "--"]
    return [*supervise, *launcher, "python", "-m", "distsoftmax.train", *options]


def environment(case, reference, marks):
    """Return the environment that makes the faults of a case happen.

    Parameters
    ----------
    reference : Path
        The folder of the same run in which nothing happens.
    marks : Path
        A folder for the proof that they have happened.
    """
    n_steps = sum(len(lines) - 1 for lines in metrics(reference).values())
    faults = [fault.in_environment(n_steps, case.n_ranks) for fault in case.faults]
    root = Path(__file__).parents[2]
    path = os.pathsep.join(map(str, [root / "tests" / "jobs" / "faults", root]))
    return {"PYTHONPATH": path, "FAULTS": ",".join(faults), "FAULT_MARKS": str(marks)}


def metrics(folder):
    """Return the lines of metrics.jsonl of each run in a folder, without the times.

    Raises an exception where a line is torn, or one of the steps is missing or doubled.
    """
    found = {}
    for path in sorted([*folder.glob("metrics.jsonl"), *folder.glob("path/*/metrics.jsonl")]):
        text = path.read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        steps = [line["step"] for line in lines]
        if not text.endswith("\n") or steps != list(range(len(steps))):
            raise ValueError(f"{path}: {steps}")
        timed = re.compile("^time$|seconds|per_second|cluster")
        found[path.parent.name if path.parent != folder else ""] = [
            {name: value for name, value in line.items() if not timed.search(name)} for line in lines
        ]
    return found


def unfired(case, marks):
    """Return the faults of a case that have not happened."""
    return [str(fault) for number, fault in enumerate(case.faults) if not (marks / str(number)).exists()]


def processes_of(marks):
    """Return the processes that still run of a case."""
    tag = str(marks)
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("FAULT_MARKS") == tag and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def leftovers(folder):
    """Return the files that were not finished."""
    return list(itertools.chain(folder.rglob("*.tmp"), folder.rglob(".*.tmp")))
