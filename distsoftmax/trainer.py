"""The loop: every rank takes the same steps, and each step is committed by all ranks or by none.

config -> partition -> objective, solver -> state -> step, commit, record -> ... -> model
"""

from __future__ import annotations

import time

import numpy as np

from distsoftmax.cluster.communicator import Cluster
from distsoftmax.cluster.control import commit
from distsoftmax.config import TrainConfig
from distsoftmax.coordinator.coordinator import Coordinator
from distsoftmax.coordinator.report import closing, interrupted, opening
from distsoftmax.coordinator.signals import StopSignals
from distsoftmax.data.partition import load_partition
from distsoftmax.model import Model
from distsoftmax.objective.distributed import SoftmaxObjective
from distsoftmax.solvers import make_solver
from distsoftmax.solvers.protocol import certified, stop_reason

RESUMABLE = 75  # EX_TEMPFAIL of sysexits.h: try again later


def train(config: TrainConfig, cluster: Cluster) -> int:
    """Train a model as the options say and save it. Collective.

    Returns
    -------
    int
        The exit status: 0 when the run has ended by itself, 75 when a signal ended it and it can be resumed.

    Raises
    ------
    DistSoftmaxError
        On every rank: bad input, a save that failed, an objective that left the finite numbers.
    """
    signals = StopSignals()
    coordinator = Coordinator(config, cluster)
    partition = load_partition(config.data, config.objective.intercept, cluster, coordinator.progress.show)
    objective = SoftmaxObjective(partition, config.objective, cluster, config.run.threads, config.data.seed)
    solver = make_solver(config.solver, config.objective)
    state = coordinator.restore(partition, solver.state_type) or solver.init(objective, np.zeros(objective.shape))
    coordinator.open_folder(state)
    coordinator.progress.leave()
    cluster.say(opening(partition, cluster, config.run.threads))

    started: float | None = None  # the first round takes no step: nothing to measure
    compute, communication, reason = 0.0, 0.0, None
    while True:
        state = certified(objective, state, config.solver.tolerance)
        reason = stop_reason(state, config.solver.tolerance, config.solver.max_steps or 1000)
        verdict = commit(
            cluster,
            state.parameters,
            signal=signals.received,
            failed=bool(coordinator.failure),
            compute_seconds=objective.compute_seconds - compute,
            communication_seconds=cluster.communication_seconds - communication,
        )
        if verdict.failed:
            coordinator.check_saved()
        last = reason is not None or verdict.signal != 0
        every = config.run.evaluate_every
        scored = partition.n_held_out > 0 and (last or (every > 0 and state.step % every == 0))
        held_out = objective.scores(state.parameters, held_out=True) if scored else None
        now = time.perf_counter()
        seconds = None if started is None else now - started
        coordinator.record(state, verdict, held_out, seconds=seconds, n_samples=partition.n_training, last=last)
        if last:
            break
        started, compute, communication = now, objective.compute_seconds, cluster.communication_seconds
        state = solver.step(objective, state)

    signals.ignore()
    coordinator.check_saved()
    if reason is None:
        cluster.say(interrupted(state, verdict.signal, coordinator.folder, cluster.size))
        return RESUMABLE
    coef, intercept = partition.standardization.in_own_units(state.parameters)
    model = Model(coef, intercept, partition.classes, partition.encoding)
    path = coordinator.save_model(model)
    scores = objective.scores(state.parameters, held_out=False), held_out
    cluster.say(closing(state, reason, scores, partition, model, str(path)))
    return 0
