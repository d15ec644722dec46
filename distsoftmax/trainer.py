"""The loop: every rank takes the same steps, and each step is committed by all ranks or by none.

config -> dataset -> objective, solver -> state -> step, commit, record -> ... -> result -> model
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.cluster.control import commit
from distsoftmax.cluster.cores import choose_threads
from distsoftmax.config import TrainConfig
from distsoftmax.coordinator.coordinator import Coordinator
from distsoftmax.coordinator.progress import ProgressLine
from distsoftmax.coordinator.report import closing, interrupted, opening
from distsoftmax.data.dataset import Dataset, load_dataset
from distsoftmax.objective.softmax_objective import SoftmaxObjective
from distsoftmax.solvers import choose_solver, make_solver
from distsoftmax.solvers.protocol import certified, stop_reason
from distsoftmax.solvers.schedule import step_limit
from distsoftmax.training.early_stopping import EarlyStopping
from distsoftmax.training.result import Interruption, Result, conclude
from distsoftmax.training.signals import StopSignals

RESUMABLE = 75  # EX_TEMPFAIL of sysexits.h: try again later


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
    deadline : float
        When the time for training is up, by `time.perf_counter`.
    """

    cluster: Communicator
    signals: StopSignals
    dataset: Dataset
    objective: SoftmaxObjective
    deadline: float


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
    coordinator = Coordinator(config, cluster)
    session = open_session(config, cluster, signals, coordinator.progress)
    ended = fit(config, session.objective, coordinator, session)
    signals.ignore()
    if isinstance(ended, Interruption):
        cluster.say(interrupted(ended, config, coordinator.folder, cluster.size))
        return RESUMABLE
    model = ended.model(session.dataset)
    place = coordinator.save_model(model)
    cluster.say(closing(ended, config, session.dataset, model.sha256, place))
    return 0


def open_session(config: TrainConfig, cluster: Communicator, signals: StopSignals, progress: ProgressLine) -> Session:
    """Read the data, measure it, and say what is about to be done. Collective.

    Raises
    ------
    InputError
        On every rank: what is wrong with the data, and where.
    """
    dataset = load_dataset(config.data, config.objective.intercept, cluster, progress.show)
    threads = choose_threads(config.run.threads, cluster)
    objective = SoftmaxObjective(dataset, config.objective, cluster, threads, config.data.seed)
    progress.leave()
    name, why = choose_solver(config.solver, config.objective, preconditioned=objective.is_preconditioned)
    cluster.say(opening(dataset, cluster, threads, f"solver: {name} ({why})" if why else ""))
    deadline = time.perf_counter() + (config.solver.max_seconds or math.inf)
    return Session(cluster, signals, dataset, objective, deadline)


def fit(
    config: TrainConfig, objective: SoftmaxObjective, coordinator: Coordinator, session: Session
) -> Result | Interruption:
    """Take the steps of a run from its start, or from where it was interrupted, to its end. Collective.

    Raises
    ------
    DistSoftmaxError
        On every rank: a save that failed, an objective that left the finite numbers, a folder of another run.
    """
    cluster, dataset = session.cluster, session.dataset
    patience, every = config.solver.patience, config.run.evaluate_every
    solver = make_solver(config.solver, config.objective, preconditioned=objective.is_preconditioned)
    limit = step_limit(config.solver, dataset.n_training)
    compute, communication = objective.compute_seconds, cluster.communication_seconds
    restored = coordinator.restore(dataset, solver.state_type)
    state, best = restored or (solver.init(objective, coordinator.start(dataset)), EarlyStopping())
    coordinator.open_folder(state)
    coordinator.progress.leave()

    started: float | None = None  # the first round takes no step: nothing to measure
    while True:
        state = certified(objective, state, config.solver.tolerance)
        reason = stop_reason(state, config.solver.tolerance, limit.steps, limit.reason)
        held_out = None
        if dataset.n_held_out and every and state.step % every == 0:
            held_out = objective.scores(state.solution, held_out=True)
            if patience is not None:
                best = best.evaluated(state.step, held_out.log_loss, state.solution)
                reason = reason or best.stop_reason(patience)
        now = time.perf_counter()
        verdict = commit(
            cluster,
            state.parameters,
            signal=session.signals.received,
            out_of_time=started is not None and now >= session.deadline,
            failed=bool(coordinator.failure),
            compute_seconds=objective.compute_seconds - compute,
            communication_seconds=cluster.communication_seconds - communication,
        )
        if verdict.failed:
            coordinator.check_saved()
        last = reason is not None or verdict.interrupted
        if last and dataset.n_held_out and held_out is None:
            held_out = objective.scores(state.solution, held_out=True)
        seconds = None if started is None else now - started
        n_samples = state.n_sampled or dataset.n_training
        result = None
        if reason is not None:
            tolerance = config.solver.tolerance
            result = conclude(objective, state, reason, best=best, held_out=held_out, tolerance=tolerance)
        coordinator.record(
            state, best, verdict, held_out, result, seconds=seconds, n_samples=n_samples, n_steps=limit.steps, last=last
        )
        if last:
            break
        started, compute, communication = now, objective.compute_seconds, cluster.communication_seconds
        state = solver.step(objective, state)

    coordinator.check_saved()
    return Interruption(state.step, verdict.signal) if result is None else result
