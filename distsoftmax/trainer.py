"""A run of training, and its loop (`fit`): all ranks take the same steps, each committed by all of them or by none.

config -> dataset -> objective, solver -> state -> step, commit, record -> ... -> result -> model
"""

from __future__ import annotations

from functools import partial

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.cluster.control import commit
from distsoftmax.cluster.survival import surviving
from distsoftmax.config import TrainConfig
from distsoftmax.coordinator.coordinator import Coordinator
from distsoftmax.coordinator.protocol import Recorder
from distsoftmax.coordinator.report import closing, interrupted
from distsoftmax.errors import Interrupted
from distsoftmax.session import Session, open_session
from distsoftmax.solvers import choose_solver, make_solver
from distsoftmax.training.clock import Clock
from distsoftmax.training.memory import Memory
from distsoftmax.training.result import Interruption, Result, Review, evaluated, so_far
from distsoftmax.training.signals import StopSignals
from distsoftmax.training.stopping import Stopping, certified

RESUMABLE = Interrupted.exit_status
NOT_CONVERGED = 3  # the exit status of a run that ends without having reached its tolerance, with --strict


def train(config: TrainConfig, cluster: Communicator) -> int:
    """Train a model as the options say and save it. Collective.

    Returns
    -------
    int
        The exit status: 0 when the run has ended by itself, 3 when it did with --strict without having reached its
        tolerance, 75 when a signal, --max-seconds or --deadline ended it and it can be resumed.

    Raises
    ------
    DistSoftmaxError
        On every rank: bad input, a save that failed, an objective that left the finite numbers.
    """
    signals = StopSignals(cluster)
    with surviving(cluster, lambda: Coordinator(config, cluster)) as coordinator:
        session = surviving(cluster, partial(open_session, config, cluster, signals, coordinator))
        ended, sha256 = fit_and_save(config, coordinator, session)
        signals.ignore()
        if isinstance(ended, Interruption):
            cluster.say(interrupted(ended, config, coordinator.folder, cluster.size))
            return RESUMABLE
        cluster.say(closing(ended, config, session.dataset, sha256, coordinator.model_path))
        return NOT_CONVERGED if config.run.strict and not ended.converged else 0


def fit_and_save(config: TrainConfig, coordinator: Coordinator, session: Session) -> tuple[Result | Interruption, str]:
    """Take a run to its end, whichever ranks are lost on the way, and save its model. Collective.

    Returns
    -------
    result : Result or Interruption
    sha256 : str
        Of the model.

    Raises
    ------
    DistSoftmaxError
        As `fit`; or the model could not be saved.
    """
    memory = Memory()

    def work() -> tuple[Result | Interruption, str]:
        ended = fit(config, coordinator, session, memory)
        objective = session.objective
        name, _ = choose_solver(config.solver, config.objective, preconditioned=objective.is_preconditioned)
        evaluation = evaluated(objective, ended) if isinstance(ended, Result) else None
        return ended, coordinator.save_outcome(ended, session.dataset, name, evaluation)

    return surviving(session.cluster, work, session.mend)


def fit(config: TrainConfig, coordinator: Recorder, session: Session, memory: Memory) -> Result | Interruption:
    """Take the steps of a run, from its start or from where it was interrupted, to its end. Collective.

    Raises
    ------
    DistSoftmaxError
        On every rank: a save that failed, an objective that left the finite numbers, a folder of another run.
    """
    cluster, signals = session.cluster, session.signals
    solver = make_solver(config.solver, config.objective, preconditioned=session.objective.is_preconditioned)
    stopping, clock = Stopping.of(config, session.dataset), Clock(session, cluster, session.limit)
    newest = memory.recall(cluster) or coordinator.restore(session.dataset, solver.state_type)
    state, review = newest or (solver.init(session.objective, coordinator.start(session.dataset)), Review())
    coordinator.open_folder(state, session.dataset, stopping.limit)
    while True:
        cluster.step = state.step
        state = certified(session.objective, state, stopping.tolerance)
        review = stopping.review(session.objective, state, review)
        memory.propose(state, review)
        lap = clock.lap(coordinator.save_seconds)
        due = session.reporter.is_due(state.step)
        failed = bool(coordinator.failure)
        verdict = commit(cluster, state.parameters, lap, signal=signals.received, failed=failed, report_due=due)
        memory.commit()
        if verdict.failed:
            coordinator.check_saved()
        is_last = review.reason is not None or verdict.interrupted
        if is_last:
            review = stopping.last_review(session.objective, state, review)
        report = session.report(coordinator.seconds_saving) if verdict.report_due or is_last else None
        coordinator.record(state, review, lap, verdict, report, is_last=is_last)
        if is_last:
            break
        session.rebalance(verdict, state.step, stopping.limit.steps)
        state = solver.step(session.objective, state)
    coordinator.check_saved()
    if review.result is not None:
        return review.result
    outcome = so_far(session.objective, state, review)
    return Interruption(state.step, verdict.signal, verdict.out_of_time, outcome)
