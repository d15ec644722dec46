"""The time of a full-batch step on compressed rows against scipy's products with numpy, and PyTorch's sparse CSR.

    pip install -e ".[mpich,benchmark]"      in an environment of its own
    python tests/benchmarks/sparse_step.py

200,000 x 50,000 in float32, 70 non-zeros a row, 20 classes; the columns equally common, or as unequally as words. All
take the same steps on 2 processes of one thread, which hold half of the rows each. Ours is as a user runs it (the
step's time is read from metrics.jsonl, control message and all). With scipy, loss and gradient are written in numpy
and one Allreduce of float32 adds the gradients; of X.T as a view and X.T converted to CSR, the one that multiplies
faster is taken. PyTorch's is DistributedDataParallel with gloo, SGD and cross_entropy over a sparse CSR tensor. They
take turns, and the median over the steps of all turns counts.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from comparison import Table, medians, parser_of
from ddp_processes import join_group, own_rows, print_steps, run_processes
from jobs import WARMING, run_ranks, train_steps
from random_samples import Shape, parse_shape, text_of, write_sparse

SHAPE: Shape = (200_000, 50_000, 20)
ENTRIES = 70
SKEWS = {"equally common": 1.0, "as words": 3.0}
LEARNING_RATE = 0.01


def own_half(folder: Path, rank: int) -> tuple[Any, np.ndarray, int]:
    """Return a process's half of the rows and of their classes, and the number of classes."""
    from scipy.sparse import csr_array, load_npz

    features, classes = load_npz(folder / "X.npz"), np.load(folder / "y.npy")
    own = own_rows(classes.size, rank)
    half = features[own]
    small = (half.data, half.indices.astype(np.int32), half.indptr.astype(np.int32))
    return csr_array(small, shape=half.shape), classes[own], int(classes.max()) + 1


def scipy_rank(folder: Path, steps: int) -> None:
    """Be one of the two ranks that multiply with scipy; rank 0 prints the seconds of each step."""
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    features, classes, n_classes = own_half(folder, world.rank)
    n_rows, n_features = features.shape
    rows = np.arange(n_rows)
    sums = np.zeros((n_features + 1, n_classes), dtype=np.float32)  # the gradient, that of the intercept last
    coef, intercept = np.zeros((n_features, n_classes), dtype=np.float32), np.zeros(n_classes, dtype=np.float32)
    transposed = faster([features.T, features.T.tocsr()], np.ones((n_rows, n_classes), dtype=np.float32))
    n_samples, seconds, losses = world.allreduce(n_rows), [], []
    for _ in range(steps):
        start = time.perf_counter()
        scores = features @ coef
        scores += intercept
        scores -= scores.max(axis=1, keepdims=True)
        own = scores[rows, classes]
        np.exp(scores, out=scores)
        normalizers = scores.sum(axis=1, keepdims=True)
        losses.append(world.allreduce(float(np.log(normalizers).sum() - own.sum())) / n_samples)
        scores /= normalizers
        scores[rows, classes] -= 1
        sums[:-1], sums[-1] = transposed @ scores, scores.sum(axis=0)
        world.Allreduce(MPI.IN_PLACE, sums)
        sums *= LEARNING_RATE / n_samples
        coef -= sums[:-1]
        intercept -= sums[-1]
        seconds.append(time.perf_counter() - start)
    assert losses[-1] < losses[0]
    if world.rank == 0:
        print(json.dumps(seconds))


def faster(matrices: list[Any], factor: np.ndarray) -> Any:
    """Return the matrix of which the product takes least."""
    seconds = []
    for matrix in matrices:
        start = time.perf_counter()
        matrix @ factor
        seconds.append(time.perf_counter() - start)
    return matrices[int(np.argmin(seconds))]


def torch_process(folder: Path, rank: int, steps: int) -> None:
    """Be one of the two processes of DistributedDataParallel."""
    import torch

    class Linear(torch.nn.Module):
        def __init__(self, n_features: int, n_classes: int) -> None:
            super().__init__()
            self.coef = torch.nn.Parameter(torch.zeros(n_features, n_classes))
            self.intercept = torch.nn.Parameter(torch.zeros(n_classes))

        def forward(self, features: Any) -> Any:
            return features @ self.coef + self.intercept

    warnings.simplefilter("ignore")  # that sparse CSR is in beta
    join_group(rank)
    features, classes, n_classes = own_half(folder, rank)
    x = torch.sparse_csr_tensor(features.indptr, features.indices, features.data, size=features.shape)
    print_steps(Linear(features.shape[1], n_classes), x, torch.from_numpy(classes), steps)


def scipy_seconds(folder: Path, steps: int) -> list[float]:
    environment = {"OPENBLAS_NUM_THREADS": "1"}
    return run_ranks(__file__, "--scipy", str(folder), "--steps", str(steps), environment=environment)[WARMING:]


def torch_seconds(folder: Path, steps: int) -> list[float]:
    return run_processes(__file__, "--torch", str(folder), "--steps", str(steps))[WARMING:]


def compare(shape: Shape, entries: int, turns: int, steps: int) -> None:
    print(f"{text_of(shape)}, {entries} non-zeros a row")
    table = Table("columns", "ours, ms", "scipy, ms", "PyTorch, ms", "scipy / ours", "PyTorch / ours")
    for columns, skew in SKEWS.items():
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            stored = [*write_sparse(folder, shape, entries, skew), "--no-standardize"]
            contenders = {
                "ours": partial(train_steps, stored, steps, LEARNING_RATE),
                "scipy": partial(scipy_seconds, folder, steps),
                "PyTorch": partial(torch_seconds, folder, steps),
            }
            seconds = medians(contenders, turns)
        ours, by_scipy, by_torch = seconds.values()
        table.row(columns, 1e3 * ours, 1e3 * by_scipy, 1e3 * by_torch, by_scipy / ours, by_torch / ours)


def main() -> None:
    parser = parser_of(__doc__, steps=12)
    parser.add_argument("--shape", type=parse_shape, default=SHAPE, help="such as 200000x50000x20")
    parser.add_argument("--entries", type=int, default=ENTRIES, help="non-zeros a row")
    parser.add_argument("--scipy", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--torch", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.scipy:
        scipy_rank(options.scipy, options.steps)
    elif options.torch:
        torch_process(options.torch, options.rank, options.steps)
    else:
        compare(options.shape, options.entries, options.turns, options.steps)


if __name__ == "__main__":
    main()
