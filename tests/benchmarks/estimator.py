"""`SoftmaxRegression` beside scikit-learn's LogisticRegression in one process: time, start-up, memory.

    python tests/benchmarks/estimator.py
    python tests/benchmarks/estimator.py --only digits letter --repeats 1 --limit 20

Fit: the same features, the same l2, until the gap to the optimum is 1e-6 of the objective. Ours proves it
(`certified_gap_`). Of each solver of scikit-learn's the largest `tol` among 1e-2, 1e-3, ... is taken that reaches the
gap, and the fit with that is timed; the best solver counts. The gap is that of the parameters in float64, by the
objective of `optimum_contenders.py`, to an optimum that ours has certified to 1e-9.

Start-up: a process that imports what it needs and fits the digits. Memory: by how much the largest resident memory of a
process grows during a fit, as a part of the features' bytes. What the preconditioner takes, some 50 MB at most, does
not depend on the number of samples.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optimum_problems as problems
from optimum_contenders import objective
from scipy import sparse

GAP = 1e-6
SHARED = Path(__file__).parents[3] / "shared" / "data"
DENSE_SOLVERS, SPARSE_SOLVERS = ("lbfgs", "newton-cholesky", "saga"), ("lbfgs", "newton-cg", "saga")
MOST_FOR_CHOLESKY = 2000  # n_classes * n_features

FIT_DIGITS = {
    "ours": "from distsoftmax import SoftmaxRegression as C; options = {'tol': 1e-6}",
    "scikit-learn": "from sklearn.linear_model import LogisticRegression as C; options = {'max_iter': 10000}",
}
START_UP = """
{imports}
import gzip, importlib.util, pathlib, numpy
home = pathlib.Path(importlib.util.find_spec("sklearn").submodule_search_locations[0])
with gzip.open(home / "datasets" / "data" / "digits.csv.gz", "rt") as file:
    table = numpy.loadtxt(file, delimiter=",")  # to import load_digits would take a second
C(**options).fit(table[:, :-1] / 16, table[:, -1].astype(int))
"""
MEMORY = """
import sys, warnings
import numpy as np
from scipy import sparse
from distsoftmax import SoftmaxRegression

def memory(name):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

warnings.simplefilter("ignore")
kind, generator, rows = sys.argv[1], np.random.default_rng(0), np.arange(1_000_000)
SoftmaxRegression(max_iter=2).fit(generator.standard_normal((100, 3)), np.arange(100) % 3)
if kind == "csr":
    columns = (np.arange(0, 200, 10) + rows[:, None] % 10).astype(np.int32)
    ends = np.arange(0, columns.size + 1, 20, dtype=np.int32)
    X = sparse.csr_array((generator.standard_normal(columns.size), columns.ravel(), ends), shape=(rows.size, 200))
    size = X.data.nbytes + X.indices.nbytes + X.indptr.nbytes
else:
    X = generator.standard_normal((rows.size, 54), dtype=kind)
    size = X.nbytes
y = generator.integers(0, 7, rows.size)
before = memory("VmRSS")
open("/proc/self/clear_refs", "w").write("5")  # the peak is counted anew
SoftmaxRegression(max_iter=5).fit(X, y)
print((memory("VmHWM") - before) / size)
"""


class Task:
    """Features, classes and l2 of a problem, and its optimum."""

    def __init__(self, features: Any, classes: np.ndarray, l2: float) -> None:
        self.features, self.classes, self.l2 = features, classes, l2
        exact = ours(self, 1e-9)
        self.optimum = exact.objective_
        self.certified = exact.certified_gap_ / exact.objective_

    def gap(self, model: Any) -> float:
        """Return the relative gap of a model, with a row of coefficients for each class."""
        coef, intercept = model.coef_, model.intercept_
        value, _ = objective(self.features, self.classes, self.l2, coef, intercept)
        return value / self.optimum - 1


def ours(task: Task, tol: float) -> Any:
    from distsoftmax import SoftmaxRegression

    return SoftmaxRegression(l2=task.l2, tol=tol, max_iter=10_000).fit(task.features, task.classes)


def theirs(task: Task, solver: str, tol: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    inverse = 1 / (task.l2 * task.features.shape[0])
    model = LogisticRegression(C=inverse, solver=solver, tol=tol, max_iter=100_000, random_state=0)
    return model.fit(task.features, task.classes)


def best_of(work: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    seconds, result = math.inf, None
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        seconds = min(seconds, time.perf_counter() - start)
    return seconds, result


def scikit_learn(task: Task, solver: str, options: argparse.Namespace) -> tuple[float, float, float] | None:
    """Return the seconds, the gap and the tol of the fit that reaches the gap; None where none does in time."""
    for exponent in range(2, 13):
        tol = 10.0**-exponent
        seconds, model = best_of(lambda tol=tol: theirs(task, solver, tol), 1)
        gap = task.gap(model)
        if gap <= GAP:
            return min(seconds, best_of(lambda tol=tol: theirs(task, solver, tol), options.repeats)[0]), gap, tol
        if seconds > options.limit:
            return None
    return None


def compare(name: str, task: Task, options: argparse.Namespace) -> None:
    seconds, model = best_of(lambda: ours(task, GAP), options.repeats)
    print(f"{name}: {task.features.shape[0]} x {task.features.shape[1]}, {len(np.unique(task.classes))} classes")
    print(f"  ours             {seconds:8.3f} s, certified {model.certified_gap_ / model.objective_:.1e}", flush=True)
    best = math.inf
    is_sparse = sparse.issparse(task.features)
    size = task.features.shape[1] * len(np.unique(task.classes))
    for solver in SPARSE_SOLVERS if is_sparse else DENSE_SOLVERS:
        if solver == "newton-cholesky" and size > MOST_FOR_CHOLESKY:
            continue
        found = scikit_learn(task, solver, options)
        text = f"not within {options.limit:g} s"
        if found is not None:
            text = f"{found[0]:8.3f} s, gap {found[1]:.1e}, tol {found[2]:g}"
        print(f"  {solver:16} {text}", flush=True)
        best = min(best, found[0] if found else math.inf)
    print(f"  the best of theirs takes {best / seconds:.1f} times as long", flush=True)


def digits(folder: Path, options: argparse.Namespace) -> tuple[Any, np.ndarray, float]:
    from sklearn.datasets import load_digits

    features, classes = load_digits(return_X_y=True)
    return features / 16, classes, 1 / len(classes)


def wide(folder: Path, options: argparse.Namespace) -> tuple[Any, np.ndarray, float]:
    """60,000 x 2,000 sparse counts, 30 non-zeros a row, 5 classes."""
    generator = np.random.default_rng(4)
    features = sparse.random_array((60_000, 2_000), density=0.015, format="csr", rng=generator, dtype=np.float64)
    classes = problems.drawn(generator, features @ (3 * generator.standard_normal((2_000, 5))))
    return sparse.csr_matrix(features), classes, 1e-5


def of_problem(name: str) -> Callable[[Path, argparse.Namespace], tuple[Any, np.ndarray, float]]:
    def make(folder: Path, options: argparse.Namespace) -> tuple[Any, np.ndarray, float]:
        problem = problems.PROBLEMS[name](folder, options)
        features = problem.features
        if sparse.issparse(features):  # some of scikit-learn's solvers take no others
            features.indices, features.indptr = features.indices.astype(np.int32), features.indptr.astype(np.int32)
        return features, problem.classes, problem.l2

    return make


TASKS = {"digits": digits, "wide": wide} | {name: of_problem(name) for name in ("letter", "agnews", "covtype")}


def start_up(repeats: int) -> None:
    seconds = dict.fromkeys(FIT_DIGITS, math.inf)
    for _ in range(max(repeats, 2)):
        for name, imports in FIT_DIGITS.items():
            command = [sys.executable, "-W", "ignore", "-c", START_UP.format(imports=imports)]
            taken, _ = best_of(lambda command=command: subprocess.run(command, check=True), 1)
            seconds[name] = min(seconds[name], taken)
    ratio = seconds["ours"] / seconds["scikit-learn"]
    print(f"start-up and a fit of the digits: {seconds['ours']:.2f} s, {ratio:.2f} times scikit-learn's")


def memory() -> None:
    for kind in ("float32", "float64", "csr"):
        process = subprocess.run([sys.executable, "-c", MEMORY, kind], capture_output=True, text=True, check=True)
        print(f"memory of a fit, {kind}: {1 + float(process.stdout):.2f} times the data, which are counted")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=[*TASKS, "start-up", "memory"], help="some of them")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds of a fit of scikit-learn's")
    parser.add_argument("--letter", type=Path, default=SHARED / "letter.csv")
    parser.add_argument("--agnews", type=Path, default=SHARED / "agnews.train.svm")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    wanted = options.only or [*TASKS, "start-up", "memory"]
    for name in TASKS:
        if name in wanted:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    features, classes, l2 = TASKS[name](Path(folder), options)
                except problems.Skipped as reason:
                    print(f"{name}: left out, {reason}")
                    continue
                compare(name, Task(features, classes, l2), options)
    if "start-up" in wanted:
        start_up(options.repeats)
    if "memory" in wanted:
        memory()


if __name__ == "__main__":
    main()
