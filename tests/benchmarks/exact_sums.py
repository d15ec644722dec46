"""What exact sums cost: an evaluation of loss and gradient against the same with a plain Allreduce of float64.

    pip install -e ".[mpich]"
    python tests/benchmarks/exact_sums.py

Exact is what a step does, as it stands: a bound on the loss, the scales, each shard's sums rounded to int64, one
Allreduce of integers, and back to float64. Plain gives that up: a rank's samples are one array, whose sums the same
core adds up in float64 from its first row to its last, one Allreduce adds the ranks' in float64, and the mean is taken.
Both pack the parameters and multiply by the same code on the same samples. In the plain one, too, the core rounds its
sums, but once a rank instead of once a shard: only this part of the price is not counted. (The plain sums are made from
those integers while the clock stands still.)

The two take turns within a job of 2 ranks, which start each of them together; the slower rank counts. The price is the
median over the turns of 1 - plain / exact.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from comparison import Table, parser_of
from jobs import run_ranks
from random_samples import SHAPES, Shape, parse_shape, text_of, write_dense


def seconds_of(work: Callable[[], Any]) -> tuple[float, Any]:
    """Do work on all ranks at once; return the seconds of the slowest rank, and what the work returns."""
    from mpi4py import MPI

    MPI.COMM_WORLD.Barrier()
    start = time.perf_counter()
    result = work()
    return float(MPI.COMM_WORLD.allreduce(time.perf_counter() - start, op=MPI.MAX)), result


class Plain:
    """Evaluates the mean loss of a `CrossEntropy` with this rank's samples as one array and sums in float64."""

    def __init__(self, fit: Any) -> None:
        from distsoftmax.arithmetic.fixed_point import FixedPoint
        from distsoftmax.arithmetic.samples import dense_rows
        from distsoftmax.arithmetic.sums import Sums

        self._fit, training = fit, fit.dataset.training
        features = np.concatenate([samples.features for samples in training])
        classes = np.concatenate([samples.classes for samples in training])
        self._rows = dense_rows(features, fit.dataset.dtype, classes)
        loss_bound = FixedPoint(1e3 * fit.dataset.n_training)
        self._sums = Sums(FixedPoint(fit.bounds.magnitudes), loss_bound, fit.shape[0], by_column=False)

    def __call__(self, parameters: Any) -> tuple[float, Any]:
        """Return the seconds, and the gradient. Collective: one Allreduce."""
        kernel_seconds, array = seconds_of(lambda: self._of_samples(parameters))
        loss, gradient = self._sums.value(array)
        floats = np.concatenate([gradient[:, :-1].ravel(), gradient[:, -1], [loss]])
        sum_seconds, gradient = seconds_of(lambda: self._over_ranks(floats))
        return kernel_seconds + sum_seconds, gradient

    def _of_samples(self, parameters: Any) -> Any:
        totals = self._sums.empty()
        self._fit.scorer(parameters, self._fit.dataset.dtype).add_loss_and_gradient(self._rows, totals)
        return totals.array

    def _over_ranks(self, floats: Any) -> Any:
        from mpi4py import MPI

        MPI.COMM_WORLD.Allreduce(MPI.IN_PLACE, floats)
        n_classes, width = self._fit.shape
        floats /= self._fit.dataset.total_weight
        gradient = np.empty((n_classes, width))
        gradient[:, :-1] = floats[: n_classes * (width - 1)].reshape(n_classes, -1)
        gradient[:, -1] = floats[-1 - n_classes : -1]
        return gradient


def be_rank(folder: Path, steps: int) -> None:
    """Be a rank that evaluates each way in turn; rank 0 prints the seconds, [exact, plain] for each turn."""
    from distsoftmax.cluster.startup import join_job

    cluster = join_job()
    from distsoftmax.config import DataConfig
    from distsoftmax.data.dataset import load_dataset
    from distsoftmax.objective.cross_entropy import CrossEntropy

    source = DataConfig(data=(str(folder / "X.npy"),), labels=(str(folder / "y.npy"),), standardize=False)
    dataset = load_dataset(source, True, cluster)
    fit = CrossEntropy(dataset, cluster, 1, by_class=False)
    plain = Plain(fit)
    parameters = np.random.default_rng(0).standard_normal(fit.shape) / 100
    turns = []
    for _ in range(1 + steps):
        exact_seconds, exact = seconds_of(lambda: fit.evaluate(parameters, dataset.dtype))
        plain_seconds, gradient = plain(parameters)
        turns.append((exact_seconds, plain_seconds))
        np.testing.assert_allclose(gradient, exact.gradient, atol=1e-6)
    cluster.say(json.dumps(turns[1:]))
    cluster.leave(0)


def compare(shape: Shape, steps: int, table: Table) -> None:
    with tempfile.TemporaryDirectory() as name:
        write_dense(Path(name), shape)
        turns = run_ranks(__file__, "--folder", name, "--steps", str(steps))
    exact, plain = (1e3 * statistics.median(column) for column in zip(*turns, strict=True))
    price = statistics.median(1 - plain / exact for exact, plain in turns)
    table.row(text_of(shape), exact, plain, f"{100 * price:.1f} %")


def main() -> None:
    parser = parser_of(__doc__, turns=None, steps=30)
    parser.add_argument("--shapes", nargs="+", type=parse_shape, default=SHAPES, help="such as 60000x784x10")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder:
        be_rank(options.folder, options.steps)
        return
    table = Table("rows x features x classes", "exact, ms", "plain, ms", "price, of the exact")
    for shape in options.shapes:
        compare(shape, options.steps, table)


if __name__ == "__main__":
    main()
