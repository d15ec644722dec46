"""The time to come within 1e-2, 1e-4 and 1e-6 of the optimum, and to certify that, against scikit-learn's solvers.

    pip install -e ".[mpich]"
    python tests/benchmarks/time_to_optimum.py
    python tests/benchmarks/time_to_optimum.py --only ours sklearn spark --spark-python SPARK_ENVIRONMENT/bin/python

All minimise P = mean cross-entropy + l2/2 ||coef||^2 with a free intercept, on the same numbers, on two cores: ours
with 2 ranks, scikit-learn with 2 BLAS threads, Spark MLlib as local[2]. The gap is (P - P*) / P*, computed in float64
for the parameters that a contender has reached; P* is by a Newton solver of scikit-learn's in float64. Ours ends where
it has certified a gap of 1e-6, which takes longer than to reach it; the others certify nothing, so against that time
stands theirs to a true gap of 1e-6. Reading and standardising are not counted, on any side. Of scikit-learn's solvers,
each on float32 and on float64, the fastest to each gap counts. Spark takes Java and an environment with pyspark, numpy
and scipy; it is skipped where these are missing. With --folder the problems and their P*, which take a while, are kept
for another run.
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
from pathlib import Path
from typing import Any

import numpy as np
from jobs import RANKS, mpirun
from optimum_contenders import GAPS, LIMIT, MOST_FOR_CHOLESKY
from optimum_problems import PROBLEMS, Problem, Skipped
from scipy import sparse

OURS = ("auto", "lbfgs", "trust-region", "gradient-descent")
THEIRS = ("newton-cg", "lbfgs", "newton-cholesky", "sag", "saga")
SIDES = ("ours", "sklearn", "spark")
SLACK = 1.25  # how far a fit's time may lie above the best so far, by chance, for a solver still to be followed
CERTAIN = 1e-10  # how far P* may be off, relatively
CERTIFIED = 0.0  # stands for the least gap, certified
MARKS = (*GAPS, CERTIFIED)
CONTENDERS = Path(__file__).with_name("optimum_contenders.py")
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
THREADS = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(RANKS))

Times = dict[float, float]  # mark -> seconds


def progress(text: str, end: str = "\n") -> None:
    print(f"\r{text:<100}", end=end, file=sys.stderr, flush=True)


def lines(command: list[str], called: str) -> Iterator[list[float]]:
    """Yield what a contender tells: [iterations, seconds, gap], as it comes."""
    last: list[float] = []
    with tempfile.TemporaryFile("w+") as errors:
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env={**os.environ, **THREADS}
        ) as process:
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
    """Return the least time in which a contender came to each mark; one that it did not come to is left out.

    Raises
    ------
    SystemExit
        It has certified a gap below the true one.
    """
    reached: Times = {}
    for _, seconds, gap, *certificate in lines(command, called):
        marks = [mark for mark in GAPS if gap <= mark]
        if certificate:
            marks.append(CERTIFIED)
            if gap > certificate[0] + CERTAIN:
                sys.exit(f"{called}: a gap of {certificate[0]} is certified, but it is {gap}")
        reached.update({mark: min(seconds, reached.get(mark, seconds)) for mark in marks})
    return reached


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
    """Return the median time to each mark that all runs reach; where the first misses one, there are no more."""
    command = mpirun(RANKS, str(CONTENDERS), "ours", str(folder), "--solver", solver)
    runs: list[Times] = []
    while len(runs) < repeat and (not runs or CERTIFIED in runs[0]):
        runs.append(times(command, f"{folder.name}, ours, {solver}"))
    common = set.intersection(*(set(run) for run in runs))
    return {mark: statistics.median(run[mark] for run in runs) for mark in common}


def their_times(folder: Path, problem: Problem, solvers: list[str]) -> tuple[Times, dict[float, str]]:
    """Return the least time to each gap over solvers of scikit-learn and both types, and whose it is."""
    best: Times = {}
    names: dict[float, str] = {}
    size = len(problem.names) * problem.features.shape[1]
    for solver in solvers:
        for dtype in ("float32", "float64"):
            if solver == "newton-cholesky" and size > MOST_FOR_CHOLESKY:
                continue
            beat = str(SLACK * best[GAPS[-1]] if GAPS[-1] in best else LIMIT)
            command = [sys.executable, str(CONTENDERS), "scikit-learn", str(folder), "--solver", solver]
            command += ["--dtype", dtype, "--beat", beat]
            reached, _ = tried(times, command, f"{folder.name}, {solver}, {dtype}")
            for gap, seconds in reached.items():
                if seconds < best.get(gap, np.inf):
                    best[gap], names[gap] = seconds, f"{solver} {dtype}"
    return best, names


def tried(measure: Callable[..., Times], *arguments: Any) -> tuple[Times, str]:
    """Return the times, or none of them and why."""
    try:
        return measure(*arguments), ""
    except (Skipped, OSError) as reason:
        return {}, f"  skipped: {reason}"


def row(called: str, reached: Times, *others: Times) -> str:
    """Return a row of the table; of others, the time to the least gap over the time that this takes to certify it."""
    least = GAPS[-1]
    text = f"{called:<28}" + "".join(f"{reached[mark]:10.3f}" if mark in reached else f"{'-':>10}" for mark in MARKS)
    for other in others:
        known = least in other and CERTIFIED in reached
        text += f"{other[least] / reached[CERTIFIED]:16.2f}" if known else f"{'-':>16}"
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
        ours = {solver: tried(our_times, folder, solver, options.repeat) for solver in options.solvers}
    if "sklearn" in options.only:
        theirs, whose = their_times(folder, problem, options.theirs)
    if "spark" in options.only:
        command = [options.spark_python, str(CONTENDERS), "spark", str(folder)]
        by_spark, note = tried(times, command, f"{name}, Spark")
    rows, n_features = problem.features.shape
    shape = f"{rows} x {n_features} x {len(problem.names)}"
    print(f"{name}: {shape}, l2 {problem.l2:g}, P* {value:.12f}, accuracy there {accuracy:.3f}")
    heads = "".join(f"{gap:10.0e}" for gap in GAPS)
    print(f"{'seconds to a gap of':<28}{heads} certified  sklearn / ours    Spark / ours")
    for solver, (reached, failure) in ours.items():
        print(row(f"ours, {solver}", reached, theirs, by_spark) + failure)
    print(row("scikit-learn, best", theirs) + "  " + ", ".join(whose[gap] for gap in GAPS if gap in whose))
    print(row("Spark MLlib", by_spark) + note + "\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", choices=tuple(PROBLEMS), default=tuple(PROBLEMS))
    parser.add_argument("--only", nargs="+", choices=SIDES, default=SIDES[:2])
    parser.add_argument("--solvers", nargs="+", choices=OURS, default=OURS[:1], help="ours")
    parser.add_argument("--theirs", nargs="+", choices=THEIRS, default=THEIRS, help="scikit-learn's")
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
