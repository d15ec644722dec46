"""What a process sets up once, before the first step: the samples, what is measured of them, and the objective."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.cluster.cores import choose_threads
from distsoftmax.config import TrainConfig
from distsoftmax.coordinator.coordinator import Coordinator
from distsoftmax.coordinator.report import opening
from distsoftmax.data.dataset import Dataset, load_dataset, take_over
from distsoftmax.data.shards import ShowProgress, shard_bounds
from distsoftmax.monitoring.report import ClusterReport
from distsoftmax.monitoring.reporter import Reporter, Work
from distsoftmax.objective.softmax_objective import SoftmaxObjective
from distsoftmax.scratch import warm_folder
from distsoftmax.solvers import choose_solver, make_solver
from distsoftmax.training.clock import TimeLimit, choose_deadline
from distsoftmax.training.signals import StopSignals


@dataclass
class Session:
    """What a process sets up once, for one run or for all runs of a path; where ranks are lost, `mend` sets it right.

    Attributes
    ----------
    cluster : Communicator
    signals : StopSignals
    config : TrainConfig
        Of the run at hand.
    dataset : Dataset
    objective : SoftmaxObjective
        With the penalties of the run at hand.
    limit : TimeLimit
    show : callable
        Takes the progress of reading once more. A signal does not end it: the step after it saves.
    warm : Path or None
        The folder in scratch where prepared samples are kept; None without --warm, or where it cannot be made.
    reporter : Reporter
        Of this rank's state to rank 0.
    read_seconds : float
        Spent on reading and preparing the data so far.
    """

    cluster: Communicator
    signals: StopSignals
    config: TrainConfig
    dataset: Dataset
    objective: SoftmaxObjective
    limit: TimeLimit
    show: ShowProgress
    warm: Path | None
    reporter: Reporter
    read_seconds: float

    def turn_to(self, config: TrainConfig) -> None:
        """Go on with the next run of a path over the same samples. Not collective."""
        self.config, self.objective = config, self.objective.with_penalties(config.objective)

    def mend(self) -> None:
        """Let the survivors take over the shards of lost ranks. Collective, and as often as it takes."""
        config, start = self.config, time.perf_counter()
        self.dataset = take_over(self.dataset, config.data, self.cluster, self.show, self.warm)
        threads = choose_threads(config.run.threads, self.cluster)
        self.objective = SoftmaxObjective(self.dataset, config.objective, self.cluster, threads, config.data.seed)
        self.read_seconds += time.perf_counter() - start
        self.reporter.meet(threads)

    def report(self, save_seconds: float) -> ClusterReport | None:
        """Return what the ranks measured since the last report; None on other ranks than 0. Collective."""
        dataset, shards = self.dataset, self.dataset.training.store.numbers
        rows = shard_bounds(dataset.n_rows, dataset.n_shards)
        work = Work(
            shards=len(shards),
            rows=sum(int(rows[shard + 1] - rows[shard]) for shard in shards),
            moved_shards=0,
            compute_seconds=self.objective.compute_seconds,
            read_seconds=self.read_seconds,
            save_seconds=save_seconds,
        )
        return self.reporter.report(work)


def open_session(config: TrainConfig, cluster: Communicator, signals: StopSignals, coordinator: Coordinator) -> Session:
    """Read the data, measure it, and say what is about to be done. Collective.

    Raises
    ------
    InputError
        On every rank: what the solver does not take, or what is wrong with the data, and where.
    """

    def show(description: str, completed: int, total: int) -> None:
        signals.check("the data were read")
        coordinator.progress.show(description, completed, total)

    make_solver(config.solver, config.objective).check(config.objective)
    warm = warm_folder(config.data.scratch_folder, coordinator.whole_folder) if config.run.warm else None
    if config.run.warm and warm is None:
        cluster.say(f"note: --scratch {config.data.scratch_folder} keeps nothing for a restart: name a folder of yours")
    deadline = choose_deadline(config.run.deadline, cluster)
    start = time.perf_counter()
    dataset = load_dataset(config.data, config.objective.intercept, cluster, show, warm)
    threads = choose_threads(config.run.threads, cluster)
    objective = SoftmaxObjective(dataset, config.objective, cluster, threads, config.data.seed)
    read_seconds = time.perf_counter() - start
    coordinator.progress.leave()
    name, why = choose_solver(config.solver, config.objective, preconditioned=objective.is_preconditioned)
    cluster.say(opening(dataset, cluster, threads, f"solver: {name} ({why})" if why else ""))
    limit = TimeLimit.of(config.solver.max_seconds, deadline)
    reporter = Reporter(cluster, threads, config.run.metrics_every)
    return Session(
        cluster, signals, config, dataset, objective, limit, coordinator.progress.show, warm, reporter, read_seconds
    )
