"""The contenders of `time_to_optimum.py`, each a process of its own, which it starts with a problem's folder.

    mpirun -n 2 python optimum_contenders.py ours FOLDER --solver gradient-descent
    python optimum_contenders.py scikit-learn FOLDER --solver lbfgs --dtype float32
    python optimum_contenders.py spark FOLDER
    python optimum_contenders.py optimum FOLDER

Each prints lines of JSON, [iterations, seconds, relative gap]; the gap is that of the parameters reached, by
`objective` below in float64, whatever the contender itself computes in. Where ours ends there is a fourth number, the
relative gap that it certifies, if it does. The optimum prints [P*, a bound on its error, the accuracy there].

A solver that shows nothing of its way is fitted again and again, each time with more iterations (`more`): a fit's time
is that of reaching what it reached. What only one contender has is imported by it: Spark's Python has none of ours.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

GAPS = (1e-2, 1e-4, 1e-6)
LOOKS = (1.0, 0.9, 0.7, 0.5)  # of a gap: where our own value, rounded in float32, passes these, the true gap is taken
LIMIT = 60.0  # seconds, of a run of ours and of a fit
MOST_STEPS = 10_000  # of ours
MOST_FOR_CHOLESKY = 2000  # n_classes * n_features: newton-cholesky factorises a matrix of that size
CHUNK = 4096  # rows


def objective(
    features: Any, classes: np.ndarray, l2: float, coef: np.ndarray, intercept: np.ndarray
) -> tuple[float, np.ndarray]:
    """Return mean cross-entropy + l2/2 ||coef||^2 and its gradient, (n_classes, n_features + 1), in float64.

    Written for being checked, not for speed: it judges all contenders, so it shares no code with any of them.
    """
    coef, intercept = np.asarray(coef, dtype=np.float64), np.asarray(intercept, dtype=np.float64)
    losses, gradient = [], np.zeros((len(coef), coef.shape[1] + 1))
    for start in range(0, features.shape[0], CHUNK):
        block, own = features[start : start + CHUNK].astype(np.float64), classes[start : start + CHUNK]
        scores = block @ coef.T + intercept  # (rows, n_classes)
        scores -= scores.max(axis=1, keepdims=True)
        of_class = scores[np.arange(own.size), own]
        np.exp(scores, out=scores)
        sums = scores.sum(axis=1, keepdims=True)
        losses.append(np.log(sums[:, 0]) - of_class)
        scores /= sums
        scores[np.arange(own.size), own] -= 1
        gradient[:, :-1] += (block.T @ scores).T
        gradient[:, -1] += scores.sum(axis=0)
    gradient /= features.shape[0]
    gradient[:, :-1] += l2 * coef
    return float(np.mean(np.concatenate(losses)) + l2 / 2 * np.sum(coef**2)), gradient


class Task:
    """A problem as its folder holds it, in the units of training."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.facts = json.loads((folder / "problem.json").read_text())
        self.l2: float = self.facts["l2"]
        self.classes = np.load(folder / "classes.npy")
        if self.facts["sparse"]:
            from scipy import sparse

            self.features = sparse.load_npz(folder / "features.npz")
        else:
            self.features = np.load(folder / "features.npy")

    def gap(self, coef: np.ndarray, intercept: np.ndarray) -> float:
        """Return the true relative gap of parameters."""
        value, _ = objective(self.features, self.classes, self.l2, coef, intercept)
        return value / self.facts["optimum"] - 1


def tell(*facts: float) -> None:
    print(json.dumps(facts), flush=True)


def more(iterations: int) -> int:
    """Return the next number of iterations to try: each to 6, then a sixth to a quarter more."""
    return max(iterations + 1, iterations * 6 // 5)


def hopeless(seconds: float, iterations: int, beat: float) -> bool:
    """Return whether more iterations are in vain, or would take too long."""
    return seconds > beat or seconds * more(iterations) / iterations > LIMIT


def seconds_of(fit: Callable[[], object], iterations: int, beat: float = LIMIT) -> float:
    """Return the time of a fit, the lesser of two where one would be the end: it may have been chance."""
    seconds = math.inf
    for _ in range(2):
        start = time.perf_counter()
        fit()
        seconds = min(seconds, time.perf_counter() - start)
        if not hopeless(seconds, iterations, beat):
            break
    return seconds


def ours(folder: Path, name: str) -> None:
    """Be one rank of a training as `distsoftmax/trainer.py` does it, but for checkpoints and metrics.

    It ends where the least gap is certified. Certifying is a part of its time, as in a user's run.
    """
    from distsoftmax.cluster.startup import join_job, load_core
    from distsoftmax.config import DataConfig, ObjectiveConfig, RunConfig, SolverConfig, TrainConfig
    from distsoftmax.data.dataset import load_dataset
    from distsoftmax.objective.softmax_objective import SoftmaxObjective
    from distsoftmax.solvers import make_solver
    from distsoftmax.training.stopping import StepLimit, Stopping, certified

    cluster = join_job()
    load_core(cluster)
    task = Task(folder)
    source = {key: tuple(value) if isinstance(value, list) else value for key, value in task.facts["source"].items()}
    config = TrainConfig(
        data=DataConfig(**source),
        objective=ObjectiveConfig(l2=task.l2),
        solver=SolverConfig(solver=name),
        run=RunConfig(threads=1),
    )
    dataset = load_dataset(config.data, config.objective.intercept, cluster)
    distributed = SoftmaxObjective(dataset, config.objective, cluster, config.run.threads, config.data.seed)
    solver = make_solver(config.solver, config.objective, preconditioned=distributed.is_preconditioned)
    distributed(np.zeros(distributed.shape))  # to warm up; what a solver needs besides is made within its time
    stopping = Stopping(tolerance=GAPS[-1], limit=StepLimit.of_steps(MOST_STEPS))
    targets = [task.facts["optimum"] * (1 + look * gap) for gap in GAPS for look in LOOKS]
    seen = []
    cluster.allgather(None)  # the barrier
    start = time.perf_counter()
    state = solver.init(distributed, np.zeros(distributed.shape))
    while True:
        state = certified(distributed, state, GAPS[-1])
        gap = state.certified_gap
        is_proven = gap is not None and gap <= GAPS[-1] * state.value
        seconds = cluster.broadcast(time.perf_counter() - start)  # all ranks end with the same step
        passed = sum(state.value <= target for target in targets)
        ended = stopping.reason(state) or seconds > LIMIT
        if passed or ended:
            seen.append((state.step, seconds, state.measured, [gap / state.value] if is_proven else []))
            targets = targets[passed:]
        if ended:
            break
        state = solver.step(distributed, state)
    if cluster.rank == 0:
        order = [dataset.classes.index(name) for name in task.facts["names"]]
        trained = dataset.standardization.trained  # columns that hold nothing are not trained
        for step, seconds, parameters, certificate in seen:
            coef = np.zeros((len(order), task.features.shape[1]))
            coef[:, slice(None) if trained is None else trained] = parameters[order, :-1]
            tell(step, seconds, task.gap(coef, parameters[order, -1]), *certificate)
    cluster.leave(0)


def scikit_learn(folder: Path, solver: str, dtype: str, beat: float) -> None:
    """Fit with a solver of scikit-learn until it reaches the least gap, or takes longer than another that did."""
    from sklearn.linear_model import LogisticRegression

    task = Task(folder)
    features = task.features.astype(dtype)
    inverse = 1 / (task.l2 * features.shape[0])
    model = LogisticRegression(C=inverse, solver=solver, tol=0.0, max_iter=1, random_state=0)
    warnings.simplefilter("ignore")
    iterations = 1
    model.fit(features, task.classes)  # to warm up
    while True:
        model.set_params(max_iter=iterations)
        seconds = seconds_of(lambda: model.fit(features, task.classes), iterations, beat)
        gap = task.gap(model.coef_, model.intercept_)
        tell(iterations, seconds, gap)
        ended = gap <= GAPS[-1] or int(model.n_iter_.max()) < iterations
        if ended or hopeless(seconds, iterations, beat):
            return
        iterations = more(iterations)


def spark(folder: Path) -> None:
    """Fit with Spark MLlib on two cores, on data that it holds in memory."""
    from pyspark.ml.classification import LogisticRegression
    from pyspark.ml.functions import array_to_vector
    from pyspark.ml.linalg import Vectors
    from pyspark.sql import SparkSession

    task = Task(folder)
    here = "127.0.0.1"  # a large result is fetched from the driver's own address, which a name may not lead to
    settings = {"spark.driver.memory": "8g", "spark.ui.enabled": "false"}
    settings |= {"spark.driver.host": here, "spark.driver.bindAddress": here}
    session = SparkSession.builder.master("local[2]").config(map=settings).getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    if task.facts["sparse"]:
        width, ends = task.features.shape[1], task.features.indptr
        indices, values = np.split(task.features.indices, ends[1:-1]), np.split(task.features.data, ends[1:-1])
        rows = [
            (float(own), Vectors.sparse(width, *entries))
            for own, *entries in zip(task.classes, indices, values, strict=True)
        ]
        table = session.createDataFrame(rows, ["label", "features"])
    else:
        stored = session.read.parquet(str(folder / "spark.parquet"))
        table = stored.select("label", array_to_vector("features").alias("features"))
    table = table.repartition(2).cache()
    assert table.count() == task.classes.size
    estimator = LogisticRegression(
        family="multinomial", regParam=task.l2, elasticNetParam=0.0, standardization=False, tol=0.0, maxIter=20
    )
    model = estimator.fit(table)  # to warm up
    iterations = 1

    def fit() -> None:
        nonlocal model
        model = estimator.setMaxIter(iterations).fit(table)

    while True:
        seconds = seconds_of(fit, iterations)
        gap = task.gap(model.coefficientMatrix.toArray(), model.interceptVector.toArray())
        tell(iterations, seconds, gap)
        ended = gap <= GAPS[-1] or model.summary.totalIterations < iterations
        if ended or hopeless(seconds, iterations, LIMIT):
            break
        iterations = more(iterations)
    session.stop()


def optimum(folder: Path) -> None:
    """Find P* with a Newton solver of scikit-learn's in float64, and bound what it is off by.

    A function whose curvature is l2 or more is within ||gradient||^2 / (2 l2) of its optimum. Along the intercept,
    which has no penalty, that is an estimate: it takes the curvature that the samples give it to be no less.
    """
    from sklearn.linear_model import LogisticRegression

    task = Task(folder)
    inverse = 1 / (task.l2 * task.features.shape[0])
    size = len(task.facts["names"]) * task.features.shape[1]
    solver = "newton-cholesky" if size <= MOST_FOR_CHOLESKY else "newton-cg"
    model = LogisticRegression(C=inverse, solver=solver, tol=1e-12, max_iter=1000)
    warnings.simplefilter("ignore")
    model.fit(task.features.astype(np.float64), task.classes)
    value, gradient = objective(task.features, task.classes, task.l2, model.coef_, model.intercept_)
    tell(value, float(np.sum(gradient**2)) / (2 * task.l2), float(model.score(task.features, task.classes)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("contender", choices=("ours", "scikit-learn", "spark", "optimum"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--solver", default="")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--beat", type=float, default=LIMIT, help="seconds after which a fit cannot be the best")
    options = parser.parse_args()
    if options.contender == "ours":
        ours(options.folder, options.solver)
    elif options.contender == "scikit-learn":
        scikit_learn(options.folder, options.solver, options.dtype, options.beat)
    elif options.contender == "spark":
        spark(options.folder)
    else:
        optimum(options.folder)


if __name__ == "__main__":
    sys.exit(main())
