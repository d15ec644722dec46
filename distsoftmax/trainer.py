"""A session of training, and its loop (`fit`): all ranks take the same steps, each committed by all of them or by none.

config -> dataset -> objective, solver -> state -> step, commit, record -> ... -> result -> model
"""

from __future__ import annotations

from dataclasses import dataclass

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.cluster.control import commit
from distsoftmax.cluster.cores import choose_threads
from distsoftmax.config import TrainConfig
from distsoftmax.coordinator.coordinator import Coordinator
from distsoftmax.coordinator.progress import ProgressLine
from distsoftmax.coordinator.report import closing, interrupted, opening
from distsoftmax.data.dataset import Dataset, load_dataset
from distsoftmax.errors import Interrupted
from distsoftmax.objective.softmax_objective import SoftmaxObjective
from distsoftmax.solvers import choose_solver, make_solver
from distsoftmax.training.clock import Clock, TimeLimit, choose_deadline
from distsoftmax.training.result import Interruption, Result
from distsoftmax.training.signals import StopSignals
from distsoftmax.training.stopping import Look, Stopping, certified

RESUMABLE = Interrupted.exit_status


@dataclass(frozen=True)
class Session:
    """What a process sets up once, for one run or for all runs of a path.

    Attributes
    ----------
    cluster : Communicator
    signals : StopSignals
    dataset : Dataset
    objective : SoftmaxObjective
        With the first run's penalties.
    limit : TimeLimit
    """

    cluster: Communicator
    signals: StopSignals
    dataset: Dataset
    objective: SoftmaxObjective
    limit: TimeLimit


def train(config: TrainConfig, cluster: Communicator) -> int:
    """Train a model as the options say and save it. Collective.

    Returns
    -------
    int
        The exit status: 0 when the run has ended by itself, 75 when a signal, --max-seconds or --deadline ended it and
        it can be resumed.

    Raises
    ------
    DistSoftmaxError
        On every rank: bad input, a save that failed, an objective that left the finite numbers.
    """
    signals = StopSignals(cluster)
    coordinator = Coordinator(config, cluster)
    session = open_session(config, cluster, signals, coordinator.progress)
    ended = fit(config, session.objective, coordinator, session)
    signals.ignore()
    if isinstance(ended, Interruption):
        cluster.say(interrupted(ended, config, coordinator.folder, cluster.size))
        return RESUMABLE
    model = ended.model(session.dataset)
    path = coordinator.save_model(model)
    cluster.say(closing(ended, config, session.dataset, model.sha256, path))
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
    deadline = choose_deadline(config.run.deadline, cluster)
    dataset = load_dataset(config.data, config.objective.intercept, cluster, show)
    threads = choose_threads(config.run.threads, cluster)
    objective = SoftmaxObjective(dataset, config.objective, cluster, threads, config.data.seed)
    progress.leave()
    name, why = choose_solver(config.solver, config.objective, preconditioned=objective.is_preconditioned)
    cluster.say(opening(dataset, cluster, threads, f"solver: {name} ({why})" if why else ""))
    return Session(cluster, signals, dataset, objective, TimeLimit.of(config.solver.max_seconds, deadline))


def fit(
    config: TrainConfig, objective: SoftmaxObjective, coordinator: Coordinator, session: Session
) -> Result | Interruption:
    """Take the steps of a run from its start, or from where it was interrupted, to its end. Collective.

    Raises
    ------
    DistSoftmaxError
        On every rank: a save that failed, an objective that left the finite numbers, a folder of another run.
    """
    cluster, dataset, signals = session.cluster, session.dataset, session.signals
    solver = make_solver(config.solver, config.objective, preconditioned=objective.is_preconditioned)
    stopping, clock = Stopping.of(config, dataset), Clock(objective, cluster, session.limit)
    restored = coordinator.restore(dataset, solver.state_type)
    state, look = restored or (solver.init(objective, coordinator.start(dataset)), Look())
    coordinator.open_folder(state, dataset, stopping.limit)
    while True:
        cluster.step = state.step
        state = certified(objective, state, stopping.tolerance)
        look = stopping.look(objective, state, look)
        lap = clock.lap()
        verdict = commit(cluster, state.parameters, lap, signal=signals.received, failed=bool(coordinator.failure))
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
    return look.result or Interruption(state.step, verdict.signal, verdict.out_of_time)
