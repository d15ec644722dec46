"""What the ranks say to each other in a step of each solver: python tests/benchmarks/communication.py

Counted in a run of one process. The calls and their bytes do not depend on the number of ranks: each rank gives so many
bytes to an Allreduce and gets as many back, and gives its control message to all.
"""

from __future__ import annotations

import contextlib
import io
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distsoftmax.cluster.communicator import Alone
from distsoftmax.config import DataConfig, ObjectiveConfig, RunConfig, SolverConfig, TrainConfig
from distsoftmax.trainer import train

SHAPE = (2000, 40, 5)  # rows, features, classes
STEPS = 12  # of a run; those from SETTLED on count
SETTLED = 2
REDUCTIONS = ("sum_integers", "maximum")  # the calls that are an Allreduce
SOLVERS = {
    "gradient-descent, --learning-rate": ({"solver": "gradient-descent", "learning_rate": 0.1}, {}),
    "gradient-descent": ({"solver": "gradient-descent"}, {}),
    "lbfgs": ({"solver": "lbfgs"}, {"l2": 1e-4}),
    "lbfgs, --l1": ({"solver": "lbfgs"}, {"l1": 1e-4}),
    "trust-region": ({"solver": "trust-region"}, {"l2": 1e-6}),
    "sgd, a mini-batch": ({"solver": "sgd", "batch": 200, "epochs": 2}, {"l2": 1e-4}),
}


@dataclass(frozen=True)
class Call:
    """A collective call: its name, and the bytes that this rank has given."""

    name: str
    n_bytes: int


class CountingCommunicator(Alone):
    """A job of one process that keeps its collective calls, by the step they were made in; -1 before the first."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[int, list[Call]] = {}

    def _count(self, name: str, n_bytes: int) -> None:
        self.calls.setdefault(self.step, []).append(Call(name, n_bytes))

    def allgather(self, value: Any) -> list[Any]:
        self._count("allgather", 0)  # of a small record, which is pickled
        return super().allgather(value)

    def broadcast(self, value: Any) -> Any:
        self._count("broadcast", 0)
        return super().broadcast(value)

    def sum_integers(self, values: Any) -> None:
        self._count("sum_integers", values.nbytes)

    def maximum(self, values: Any) -> None:
        self._count("maximum", values.nbytes)

    def gather_records(self, record: Any) -> Any:
        self._count("gather_records", record.nbytes)
        return super().gather_records(record)

    def steps(self) -> Iterator[list[Call]]:
        """Yield the calls of each step that was taken: its control message, and what the solver has asked for."""
        *taken, _last = sorted(step for step in self.calls if step >= 0)
        yield from (self.calls[step] for step in taken)


def allreduces(calls: list[Call]) -> tuple[int, int]:
    """Return how many of the calls are an Allreduce, and their bytes."""
    sizes = [call.n_bytes for call in calls if call.name in REDUCTIONS]
    return len(sizes), sum(sizes)


def write_samples(path: Path, shape: tuple[int, int, int]) -> None:
    """Write samples of which a linear model tells the classes more or less."""
    rows, n_features, n_classes = shape
    generator = np.random.default_rng(5)
    features = generator.standard_normal((rows, n_features))
    scores = features @ generator.standard_normal((n_features, n_classes)) + 3 * generator.gumbel(
        size=(rows, n_classes)
    )
    np.savez(path, X=features, y=scores.argmax(axis=1))


def configuration(samples: Path, out: Path, name: str, steps: int = STEPS) -> TrainConfig:
    """Return the options of a run by one of SOLVERS."""
    solver, objective = SOLVERS[name]
    limit = {} if solver["solver"] == "sgd" else {"max_steps": steps}
    return TrainConfig(
        data=DataConfig(data=(str(samples),)),
        objective=ObjectiveConfig(**objective),
        solver=SolverConfig(**solver, **limit, tolerance=0.0),
        run=RunConfig(out=str(out), progress="never", threads=1, evaluate_every=0, checkpoint_seconds=1e9),
    )


def main() -> None:
    """Train by each solver, and print a line for each."""
    _, n_features, n_classes = SHAPE
    n_parameters = n_classes * (n_features + 1)
    print(f"{n_classes} classes, {n_features} features: {n_parameters} parameters, {8 * n_parameters} bytes in float64")
    with tempfile.TemporaryDirectory() as folder:
        samples = Path(folder, "samples.npz")
        write_samples(samples, SHAPE)
        for number, name in enumerate(SOLVERS):
            cluster = CountingCommunicator()
            with contextlib.redirect_stdout(io.StringIO()):
                train(configuration(samples, Path(folder, str(number)), name), cluster)
            counts = [allreduces(calls) for calls in list(cluster.steps())[SETTLED:]]
            n_calls, n_bytes = (statistics.mean(column) for column in zip(*counts, strict=True))
            few, many = min(counts)[0], max(counts)[0]
            print(f"{name:38} {n_calls:6.2f} Allreduce a step ({few} to {many}), {n_bytes / n_calls:,.0f} bytes each")


if __name__ == "__main__":
    main()
