"""What a process sets up once, before the first step: the samples, what is measured of them, and the objective."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from distsoftmax.cluster.assignment import Assignment, initial_assignment
from distsoftmax.cluster.communicator import Communicator
from distsoftmax.cluster.control import Verdict
from distsoftmax.cluster.cores import choose_threads
from distsoftmax.cluster.weights import choose_weights
from distsoftmax.config import TrainConfig
from distsoftmax.coordinator.coordinator import Coordinator
from distsoftmax.coordinator.progress import ProgressLine
from distsoftmax.coordinator.report import opening
from distsoftmax.data.dataset import Dataset, load_dataset, take_over
from distsoftmax.data.moving import costs_of, move_shards
from distsoftmax.data.shards import shard_bounds
from distsoftmax.monitoring.report import ClusterReport
from distsoftmax.monitoring.reporter import Reporter, Work
from distsoftmax.objective.softmax_objective import SoftmaxObjective
from distsoftmax.run_folder import position
from distsoftmax.scratch import warm_folder
from distsoftmax.solvers import choose_solver
from distsoftmax.training.balancing import Balancing
from distsoftmax.training.clock import TimeLimit, choose_deadline
from distsoftmax.training.signals import ReceivedSignals, StopSignals


@dataclass
class Session:
    """What a process sets up once, for one run or for all runs of a path; where ranks are lost, `mend` sets it right.

    Attributes
    ----------
    cluster : Communicator
    signals : ReceivedSignals
    config : TrainConfig
        Of the run at hand.
    dataset : Dataset
    objective : SoftmaxObjective
        With the penalties of the run at hand.
    limit : TimeLimit
    progress : ProgressLine
        Shows what is read once more. A signal does not end that: the step after it saves.
    reporter : Reporter
        Tells rank 0 what this rank and its node do.
    warm : Path or None
        The folder in scratch where prepared samples are kept; None without --warm, or where it cannot be made.
    balancing : Balancing or None
        Has shards moved in mid-run; None where they stay.
    read_seconds : float
        Spent on reading and preparing the data so far.
    """

    cluster: Communicator
    signals: ReceivedSignals
    config: TrainConfig
    dataset: Dataset
    objective: SoftmaxObjective
    limit: TimeLimit
    progress: ProgressLine
    reporter: Reporter
    warm: Path | None = None
    balancing: Balancing | None = None
    read_seconds: float = 0.0

    @property
    def compute_seconds(self) -> float:
        """Seconds this rank has spent on its own samples."""
        return self.objective.compute_seconds

    def turn_to(self, config: TrainConfig) -> None:
        """Go on with the next run of a path over the same samples. Not collective."""
        self.config, self.objective = config, self.objective.with_penalties(config.objective)
        self.reporter.begin()

    def rebalance(self, verdict: Verdict, step: int, most_steps: int) -> None:
        """Let shards move where that is worth its time, once a step is committed. Collective; mostly no call.

        Nothing that is computed changes by it. Who has kept an objective or a dataset of the session must not go on
        with it: it would hold in memory what this rank has given away.
        """
        if self.balancing is None:
            return
        wanted = self.balancing.look(verdict, most_steps - step)
        if wanted is not None:
            dataset = self.balancing.carry_out(wanted, self._moved)
            if dataset is not None:
                self.dataset, self.objective = dataset, self.objective.over(dataset)
                if dataset.bytes_spooled:  # what was given away was in memory meanwhile
                    self.dataset = dataset.settled()
                    self.objective = self.objective.over(self.dataset)
            self._tell(step)

    def _moved(self, wanted: Assignment) -> Dataset:
        return move_shards(self.dataset, wanted, self.config.data, self.cluster, warm=self.warm)

    def _tell(self, step: int) -> None:
        """Say that shards have moved: the first time, the second, the fourth, the eighth, ..."""
        assert self.balancing is not None
        text, count = self.balancing.trouble, self.balancing.n_rebalances
        if text:
            text = f"shards stay where they are: {text}"
        elif count & (count - 1) == 0:
            moved = "1 shard has" if self.balancing.n_moved == 1 else f"{self.balancing.n_moved} shards have"
            text = f"the ranks are not equally fast: {moved} moved by step {step} (--balance)"
        if text:
            self.progress.leave()
            self.cluster.say(f"note: {text}")

    def mend(self) -> None:
        """Let the survivors take over the shards of lost ranks. Collective, and as often as it takes."""
        config, start = self.config, time.perf_counter()
        self.dataset = take_over(self.dataset, config.data, self.cluster, self.progress.show, self.warm)
        threads = choose_threads(config.run.threads, self.cluster)
        self.objective = SoftmaxObjective(self.dataset, config.objective, self.cluster, threads, config.data.seed)
        if self.balancing is not None:
            self.balancing.begin(self.dataset, threads)
        self.read_seconds += time.perf_counter() - start
        self.reporter.meet(threads)

    def report(self, save_seconds: float) -> ClusterReport | None:
        """Return what the ranks measured since the last report; None on other ranks than 0. Collective."""
        dataset, shards = self.dataset, self.dataset.training.store.numbers
        rows = shard_bounds(dataset.n_rows, dataset.n_shards)
        work = Work(
            shards=len(shards),
            rows=sum(int(rows[shard + 1] - rows[shard]) for shard in shards),
            moved_shards=0 if self.balancing is None else self.balancing.n_received,
            compute_seconds=self.compute_seconds,
            read_seconds=self.read_seconds,
            save_seconds=save_seconds,
        )
        return self.reporter.report(work)


def open_session(config: TrainConfig, cluster: Communicator, signals: StopSignals, coordinator: Coordinator) -> Session:
    """Read the data, measure it, and say what is about to be done. Collective.

    Raises
    ------
    InputError
        On every rank: what is wrong with the data, and where.
    """

    def show(description: str, completed: int, total: int) -> None:
        signals.check("the data were read")
        coordinator.progress.show(description, completed, total)

    warm = warm_folder(config.data.scratch_folder, coordinator.whole_folder) if config.run.warm else None
    if config.run.warm and warm is None:
        cluster.say(f"note: --scratch {config.data.scratch_folder} keeps nothing for a restart: name a folder of yours")
    restarted = config.run.warm and _has_steps(coordinator.whole_folder)
    deadline = choose_deadline(config.run.deadline, cluster, restarted=restarted)
    threads = choose_threads(config.run.threads, cluster)
    start = time.perf_counter()
    weights = choose_weights(config.run, threads, cluster)
    dataset = load_dataset(config.data, config.objective.intercept, cluster, show, warm, weights)
    if config.run.balance == "round-robin":  # they were read in runs of consecutive ones
        dealt = initial_assignment(config.run.balance, costs_of(dataset, cluster), cluster.size)
        dataset = move_shards(dataset, dealt, config.data, cluster, show, warm)
        dataset = dataset.settled()  # the others were in memory meanwhile
    objective = SoftmaxObjective(dataset, config.objective, cluster, threads, config.data.seed)
    read_seconds = time.perf_counter() - start
    coordinator.progress.leave()
    name, why = choose_solver(config.solver, config.objective, preconditioned=objective.is_preconditioned)
    cluster.say(opening(dataset, cluster, threads, f"solver: {name} ({why})" if why else ""))
    limit = TimeLimit.of(config.solver.max_seconds, deadline)
    balancing = Balancing(dataset, cluster, threads) if config.run.balance == "dynamic" else None
    reporter = Reporter(cluster, threads, config.run.metrics_every)
    return Session(
        cluster=cluster,
        signals=signals,
        config=config,
        dataset=dataset,
        objective=objective,
        limit=limit,
        progress=coordinator.progress,
        warm=warm,
        balancing=balancing,
        reporter=reporter,
        read_seconds=read_seconds,
    )


def _has_steps(folder: Path) -> bool:
    """Whether a run has left steps in its folder; False where that cannot be read, which restoring it tells of."""
    try:
        return position(folder).step >= 0
    except OSError:
        return False
