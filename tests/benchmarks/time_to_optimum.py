"""The time to come within 1e-2, 1e-4 and 1e-6 of the optimum, against scikit-learn's solvers and Spark MLlib.

    pip install -e ".[mpich,benchmark]"      in an environment of its own
    python tests/benchmarks/time_to_optimum.py --spark-python SPARK_ENVIRONMENT/bin/python

All minimise P = mean cross-entropy + l2/2 ||coef||^2 with a free intercept, on the same numbers, on two cores: ours
with 2 ranks, scikit-learn with 2 BLAS threads, Spark as local[2]. The gap is (P - P*) / P*, computed in float64 for
the parameters that a contender has reached; P* is by scikit-learn's newton-cg in float64. Reading and standardising
are not counted, on any side. Of scikit-learn's solvers, each on float32 and on float64, the fastest to each gap counts.
Spark takes Java and an environment with pyspark, numpy and scipy; it is skipped where these are missing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
from optimum_contenders import GAPS, LIMIT
from scipy import sparse

from distsoftmax.cluster.platform import THREAD_VARIABLES
from distsoftmax.config import SolverConfig

PROCESSES = 2
OURS = ("gradient-descent", "lbfgs", "trust-region", "auto")  # one that the package does not offer is passed over
THEIRS = ("newton-cg", "lbfgs", "newton-cholesky", "sag", "saga")
MOST_FOR_CHOLESKY = 2000  # n_classes * n_features: it factorises a matrix of that size
SIDES = ("ours", "sklearn", "spark")
SLACK = 1.25  # how far a fit's time may lie above the best so far, by chance, for a solver still to be followed
CERTAIN = 1e-10  # how far P* may be off, relatively
CONTENDERS = Path(__file__).with_name("optimum_contenders.py")
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"

Times = dict[float, float]  # gap -> seconds


class Skipped(Exception):
    """A contender or a problem that cannot take part, and why."""


@dataclass(frozen=True)
class Problem:
    """Samples, and how our readers find the same ones.

    Attributes
    ----------
    features : ndarray or csr_matrix, float32
        In the units of training.
    source : dict
        The arguments of `DataConfig`.
    names : list of str
        The label of class 0, 1, ...
    """

    features: Any
    classes: np.ndarray
    source: dict[str, Any]
    names: list[str]
    l2: float

    @classmethod
    def of_arrays(cls, folder: Path, features: np.ndarray, classes: np.ndarray, l2: float, scaled: bool) -> Problem:
        np.save(folder / "X.npy", features)
        np.save(folder / "y.npy", classes)
        source = {"data": [str(folder / "X.npy")], "labels": [str(folder / "y.npy")], "standardize": scaled}
        names = [str(number) for number in range(int(classes.max()) + 1)]
        return cls(standardized(features) if scaled else features, classes, source, names, l2)


def standardized(features: np.ndarray) -> np.ndarray:
    mean, deviation = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    return ((features - mean) / deviation).astype(np.float32)


def drawn(generator: np.random.Generator, scores: np.ndarray) -> np.ndarray:
    """Draw each row's class by the softmax of its scores."""
    return np.argmax(scores + generator.gumbel(size=scores.shape), axis=1)


def letter(folder: Path, options: argparse.Namespace) -> Problem:
    """20,000 x 16, 26 classes: real, and its optimum is far from any separation."""
    path = present(options.letter)
    table = np.loadtxt(path, dtype=str, delimiter=",")
    label = int(np.flatnonzero(table[0] == "Letter")[0])
    names, classes = np.unique(table[1:, label], return_inverse=True)
    features = np.delete(table[1:], label, axis=1).astype(np.float32)
    return Problem(standardized(features), classes, {"data": [str(path)], "label": "Letter"}, names.tolist(), 1e-4)


def agnews(folder: Path, options: argparse.Namespace) -> Problem:
    """6,000 x 131,070 sparse, 4 classes: text, with far more features than samples."""
    from sklearn.datasets import load_svmlight_file

    path = present(options.agnews)
    features, labels = load_svmlight_file(str(path), dtype=np.float32)
    names, classes = np.unique(labels.astype(int), return_inverse=True)
    source = {"data": [str(path)], "standardize": False}
    return Problem(sparse.csr_matrix(features), classes, source, [str(name) for name in names], 1e-5)


def spectrum(folder: Path, options: argparse.Namespace) -> Problem:
    """60,000 x 784, 10 classes: correlated as pixels are; the j-th principal deviation is 1/j."""
    generator = np.random.default_rng(1)
    rotation = np.linalg.qr(generator.standard_normal((784, 784)))[0]
    features = (generator.standard_normal((60_000, 784)) / np.arange(1, 785)) @ rotation
    classes = drawn(generator, 8 * features @ generator.standard_normal((784, 10)))
    return Problem.of_arrays(folder, features.astype(np.float32), classes, 1e-5, scaled=False)


def covtype(folder: Path, options: argparse.Namespace) -> Problem:
    """200,000 x 54, 7 classes of unequal size: 10 correlated numbers, and two columns of categories as indicators."""
    generator = np.random.default_rng(2)
    rows = 200_000
    numbers = generator.standard_normal((rows, 10)) @ (np.eye(10) + 0.5 * generator.standard_normal((10, 10)))
    area = drawn(generator, numbers @ generator.standard_normal((10, 4)))
    soil = drawn(generator, numbers @ generator.standard_normal((10, 40)) / 2 - np.arange(40) / 10)
    features = np.hstack([numbers, np.eye(4)[area], np.eye(40)[soil]])
    coef = generator.standard_normal((54, 7)) * np.repeat([0.5, 1.0], [10, 44])[:, None]
    classes = drawn(generator, features @ coef - np.arange(7) / 2)
    return Problem.of_arrays(folder, features.astype(np.float32), classes, 1e-6, scaled=True)


def embedding(folder: Path, options: argparse.Namespace) -> Problem:
    """20,000 x 512, 200 classes: centres and noise in which neighbours overlap (3 of 4 new samples could be told)."""
    generator = np.random.default_rng(3)
    rotation = np.linalg.qr(generator.standard_normal((512, 512)))[0]
    classes = np.arange(20_000) % 200
    points = 0.2 * generator.standard_normal((200, 512))[classes] + generator.standard_normal((20_000, 512))
    features = (points / np.sqrt(np.arange(1, 513))) @ rotation
    return Problem.of_arrays(folder, features.astype(np.float32), classes, 1e-4, scaled=True)


PROBLEMS: dict[str, Callable[[Path, argparse.Namespace], Problem]] = {
    "letter": letter,
    "agnews": agnews,
    "spectrum": spectrum,
    "covtype": covtype,
    "embedding": embedding,
}


def present(path: Path) -> Path:
    if not path.exists():
        raise Skipped(f"there is no {path}")
    return path.resolve()


def progress(text: str, end: str = "\n") -> None:
    print(f"\r{text:<100}", end=end, file=sys.stderr, flush=True)


def lines(command: list[str], called: str) -> Iterator[list[float]]:
    """Yield what a contender tells: [iterations, seconds, gap], as it comes."""
    environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(PROCESSES))}
    last: list[float] = []
    with tempfile.TemporaryFile("w+") as errors:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("["):
                    last = json.loads(line)
                    progress(f"{called}: {last}", end="")
                    yield last
        progress(f"{called}: {last}")
        if process.returncode:
            errors.seek(0)
            complaint = errors.read().rstrip()
            progress(complaint)
            said = [line for line in complaint.splitlines() if line[:1].strip()]  # no trace
            raise Skipped(f"status {process.returncode}: {said[-1] if said else 'no complaint'}")


def times(command: list[str], called: str) -> Times:
    """Return the least time in which a contender came within each gap; one that it did not is left out."""
    found: Times = {}
    for _, seconds, reached in lines(command, called):
        for gap in GAPS:
            if reached <= gap:
                found[gap] = min(seconds, found.get(gap, seconds))
    return found


def write(problem: Problem, folder: Path, *, for_spark: bool) -> tuple[float, float]:
    """Write what the contenders read, and return P* and the accuracy there; they are kept for a run on the same folder.

    Raises
    ------
    Skipped
        P* is not certain enough.
    """
    kept = folder / "optimum.json"
    np.save(folder / "classes.npy", problem.classes)
    is_sparse = sparse.issparse(problem.features)
    if is_sparse:
        sparse.save_npz(folder / "features.npz", problem.features, compressed=False)
    else:
        np.save(folder / "features.npy", problem.features)
        if for_spark:
            write_parquet(problem, folder / "spark.parquet")
    facts = {"source": problem.source, "names": problem.names, "l2": problem.l2, "sparse": is_sparse}
    numbers = problem.features.data if is_sparse else problem.features
    digest = hashlib.sha256(numbers.tobytes() + problem.classes.tobytes() + str(problem.l2).encode()).hexdigest()
    known = json.loads(kept.read_text()) if kept.exists() else {}
    if known.get("digest") != digest:
        (folder / "problem.json").write_text(json.dumps(facts))
        ((value, off, accuracy),) = lines(
            [sys.executable, str(CONTENDERS), "optimum", str(folder)], f"{folder.name}, optimum"
        )
        known = {"digest": digest, "optimum": value, "off": off, "accuracy": accuracy}
        kept.write_text(json.dumps(known))
    if known["off"] > CERTAIN * known["optimum"]:
        raise Skipped(f"P* is {known['optimum']}, but only to {known['off']:.1e}")
    (folder / "problem.json").write_text(json.dumps({**facts, **known}))
    return known["optimum"], known["accuracy"]


def write_parquet(problem: Problem, path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    rows = pa.FixedSizeListArray.from_arrays(problem.features.ravel(), problem.features.shape[1])
    table = pa.table({"label": problem.classes.astype(np.float64), "features": rows})
    parquet.write_table(table, path, row_group_size=10_000, use_dictionary=False)


def our_times(folder: Path, solver: str, repeat: int) -> Times:
    """Return the median time to each gap that all runs reach; where the first misses one, there are no more."""
    command = ["mpirun", "-n", str(PROCESSES), sys.executable, str(CONTENDERS), "ours", str(folder), "--solver", solver]
    runs: list[Times] = []
    while len(runs) < repeat and (not runs or GAPS[-1] in runs[0]):
        runs.append(times(command, f"{folder.name}, ours, {solver}"))
    shared = set.intersection(*(set(run) for run in runs))
    return {gap: statistics.median(run[gap] for run in runs) for gap in shared}


def their_times(folder: Path, problem: Problem) -> tuple[Times, dict[float, str]]:
    """Return the least time to each gap over scikit-learn's solvers and both types, and whose it is."""
    best: Times = {}
    names: dict[float, str] = {}
    size = len(problem.names) * problem.features.shape[1]
    for solver in THEIRS:
        for dtype in ("float32", "float64"):
            if solver == "newton-cholesky" and size > MOST_FOR_CHOLESKY:
                continue
            beat = str(SLACK * best[GAPS[-1]] if GAPS[-1] in best else LIMIT)
            command = [sys.executable, str(CONTENDERS), "scikit-learn", str(folder), "--solver", solver]
            command += ["--dtype", dtype, "--beat", beat]
            found, _ = tried(times, command, f"{folder.name}, {solver}, {dtype}")
            for gap, seconds in found.items():
                if seconds < best.get(gap, np.inf):
                    best[gap], names[gap] = seconds, f"{solver} {dtype}"
    return best, names


def tried(measure: Callable[..., Times], *arguments: Any) -> tuple[Times, str]:
    """Return the times, or none of them and why."""
    try:
        return measure(*arguments), ""
    except (Skipped, OSError) as reason:
        return {}, f"  skipped: {reason}"


def row(called: str, found: Times, *others: Times) -> str:
    """Return a row of the table; with others, how many times as long as this one they take to the least gap."""
    last = GAPS[-1]
    text = f"{called:<28}" + "".join(f"{found[gap]:10.3f}" if gap in found else f"{'-':>10}" for gap in GAPS)
    for other in others:
        text += f"{other[last] / found[last]:16.2f}" if last in other and last in found else f"{'-':>16}"
    return text


def compare(name: str, folder: Path, options: argparse.Namespace) -> None:
    """Print one problem's table."""
    folder.mkdir(parents=True, exist_ok=True)
    problem = PROBLEMS[name](folder, options)
    value, accuracy = write(problem, folder, for_spark="spark" in options.only)
    ours: dict[str, tuple[Times, str]] = {}
    theirs, whose = {}, {}
    by_spark, note = {}, ""
    if "ours" in options.only:
        offered = get_args(get_type_hints(SolverConfig)["solver"])
        solvers = [solver for solver in OURS if solver in offered]
        ours = {solver: tried(our_times, folder, solver, options.repeat) for solver in solvers}
    if "sklearn" in options.only:
        theirs, whose = their_times(folder, problem)
    if "spark" in options.only:
        command = [options.spark_python, str(CONTENDERS), "spark", str(folder)]
        by_spark, note = tried(times, command, f"{name}, Spark")
    rows, n_features = problem.features.shape
    shape = f"{rows} x {n_features} x {len(problem.names)}"
    print(f"{name}: {shape}, l2 {problem.l2:g}, P* {value:.12f}, accuracy there {accuracy:.3f}")
    heads = "".join(f"{gap:10.0e}" for gap in GAPS)
    print(f"{'seconds to a gap of':<28}{heads}  sklearn / ours    Spark / ours")
    for solver, (found, failure) in ours.items():
        print(row(f"ours, {solver}", found, theirs, by_spark) + failure)
    print(row("scikit-learn, best", theirs) + "  " + ", ".join(whose[gap] for gap in GAPS if gap in whose))
    print(row("Spark MLlib", by_spark) + note + "\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", choices=tuple(PROBLEMS), default=tuple(PROBLEMS))
    parser.add_argument("--only", nargs="+", choices=SIDES, default=SIDES)
    parser.add_argument("--repeat", type=int, default=3, help="runs of ours; their median counts")
    parser.add_argument("--letter", type=Path, default=SHARED / "letter.csv")
    parser.add_argument("--agnews", type=Path, default=SHARED / "agnews.train.svm")
    parser.add_argument("--spark-python", default=sys.executable, help="a Python that has pyspark")
    parser.add_argument("--folder", type=Path, help="keep the problems and their P* here, for another run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        for name in options.problems:
            try:
                compare(name, (options.folder or Path(temporary)).resolve() / name, options)
            except Skipped as reason:
                print(f"{name}: skipped: {reason}\n", flush=True)


if __name__ == "__main__":
    main()
