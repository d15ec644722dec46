"""A session of training, and its loop (`fit`): all ranks take the same steps, each committed by all of them or by none.

config -> dataset -> objective, solver -> state -> step, commit, record -> ... -> result -> model
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.cluster.control import commit
from distsoftmax.cluster.cores import choose_threads
from distsoftmax.cluster.survival import surviving
from distsoftmax.config import TrainConfig
from distsoftmax.coordinator.coordinator import Coordinator
from distsoftmax.coordinator.progress import ProgressLine
from distsoftmax.coordinator.report import closing, interrupted, opening
from distsoftmax.data.dataset import Dataset, load_dataset, take_over
from distsoftmax.errors import Interrupted
from distsoftmax.objective.softmax_objective import SoftmaxObjective
from distsoftmax.solvers import choose_solver, make_solver
from distsoftmax.training.clock import Clock
from distsoftmax.training.memory import Memory
from distsoftmax.training.result import Interruption, Result
from distsoftmax.training.signals import StopSignals
from distsoftmax.training.stopping import Look, Stopping, certified

RESUMABLE = Interrupted.exit_status


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
    deadline : float
        When the time for training is up, by `time.perf_counter`.
    """

    cluster: Communicator
    signals: StopSignals
    config: TrainConfig
    dataset: Dataset
    objective: SoftmaxObjective
    deadline: float

    def turn_to(self, config: TrainConfig) -> None:
        """Go on with the next run of a path over the same samples. Not collective."""
        self.config, self.objective = config, self.objective.with_penalties(config.objective)

    def mend(self) -> None:
        """Let the survivors take over the shards of lost ranks. Collective, and as often as it takes."""
        config = self.config
        self.dataset = take_over(self.dataset, config.data, self.cluster)
        threads = choose_threads(config.run.threads, self.cluster)
        self.objective = SoftmaxObjective(self.dataset, config.objective, self.cluster, threads, config.data.seed)


def train(config: TrainConfig, cluster: Communicator) -> int:
    """Train a model as the options say and save it. Collective.

    Returns
    -------
    int
        The exit status: 0 when the run has ended by itself, 75 when a signal or --max-seconds ended it and it can be
        resumed.

    Raises
    ------
    DistSoftmaxError
        On every rank: bad input, a save that failed, an objective that left the finite numbers.
    """
    signals = StopSignals()
    with surviving(cluster, lambda: Coordinator(config, cluster)) as coordinator:
        session = surviving(cluster, lambda: open_session(config, cluster, signals, coordinator.progress))
        ended, sha256 = fit_and_save(config, coordinator, session)
        signals.ignore()
        if isinstance(ended, Interruption):
            cluster.say(interrupted(ended, config, coordinator.folder, cluster.size))
            return RESUMABLE
        cluster.say(closing(ended, config, session.dataset, sha256, coordinator.model_path))
        return 0


def open_session(config: TrainConfig, cluster: Communicator, signals: StopSignals, progress: ProgressLine) -> Session:
    """Read the data, measure it, and say what is about to be done. Collective.

    Raises
    ------
    InputError
        On every rank: what the solver does not take, or what is wrong with the data, and where.
    """

    def show(description: str, completed: int, total: int) -> None:
        signals.check("the data were read")
        progress.show(description, completed, total)

    make_solver(config.solver, config.objective).check(config.objective)
    dataset = load_dataset(config.data, config.objective.intercept, cluster, show)
    threads = choose_threads(config.run.threads, cluster)
    objective = SoftmaxObjective(dataset, config.objective, cluster, threads, config.data.seed)
    progress.leave()
    name, why = choose_solver(config.solver, config.objective, preconditioned=objective.is_preconditioned)
    cluster.say(opening(dataset, cluster, threads, f"solver: {name} ({why})" if why else ""))
    deadline = time.perf_counter() + (config.solver.max_seconds or math.inf)
    return Session(cluster, signals, config, dataset, objective, deadline)


def fit_and_save(config: TrainConfig, coordinator: Coordinator, session: Session) -> tuple[Result | Interruption, str]:
    """Take a run to its end, whichever ranks are lost on the way, and save its model. Collective.

    Returns
    -------
    result : Result or Interruption
    sha256 : str
        Of the model; empty where the run was interrupted.

    Raises
    ------
    DistSoftmaxError
        As `fit`; or the model could not be saved.
    """
    memory = Memory()

    def work() -> tuple[Result | Interruption, str]:
        ended = fit(config, coordinator, session, memory)
        if isinstance(ended, Interruption):
            return ended, ""
        model = ended.model(session.dataset)
        coordinator.save_model(model)
        return ended, model.sha256

    return surviving(session.cluster, work, session.mend)


def fit(config: TrainConfig, coordinator: Coordinator, session: Session, memory: Memory) -> Result | Interruption:
    """Take the steps of a run, from its start or from where it was interrupted, to its end. Collective.

    Raises
    ------
    DistSoftmaxError
        On every rank: a save that failed, an objective that left the finite numbers, a folder of another run.
    """
    cluster, dataset, signals, objective = session.cluster, session.dataset, session.signals, session.objective
    solver = make_solver(config.solver, config.objective, preconditioned=objective.is_preconditioned)
    stopping, clock = Stopping.of(config, dataset), Clock(objective, cluster, session.deadline)
    newest = memory.recall(cluster) or coordinator.restore(dataset, solver.state_type)
    state, look = newest or (solver.init(objective, coordinator.start(dataset)), Look())
    coordinator.open_folder(state, dataset, stopping.limit)
    while True:
        state = certified(objective, state, stopping.tolerance)
        look = stopping.look(objective, state, look)
        memory.propose(state, look)
        lap = clock.lap()
        verdict = commit(cluster, state.parameters, lap, signal=signals.received, failed=bool(coordinator.failure))
        memory.commit()
        if verdict.failed:
            coordinator.check_saved()
        is_last = look.reason is not None or verdict.interrupted
        if is_last:
            look = stopping.last_look(objective, state, look)
        coordinator.record(state, look, lap, verdict, is_last=is_last)
        if is_last:
            break
        state = solver.step(objective, state)
    coordinator.check_saved()
    return look.result or Interruption(state.step, verdict.signal)
