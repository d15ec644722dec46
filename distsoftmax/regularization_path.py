"""The path of solutions for falling l2: one reading of the data, each run started from the model of the one before.

A run of the path is the run that `--l2 VALUE --init MODEL-BEFORE` makes, with the same bits, in a folder of its own:
what was finished is known by its checkpoints, and an interrupted path goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.cluster.survival import surviving
from distsoftmax.config import TrainConfig, parse_l2_path
from distsoftmax.coordinator.coordinator import Coordinator
from distsoftmax.coordinator.path_folder import PathFolder
from distsoftmax.coordinator.report import choose, interrupted, path_closing, stop_cause
from distsoftmax.session import open_session
from distsoftmax.trainer import NOT_CONVERGED, RESUMABLE, fit_and_save
from distsoftmax.training.result import Interruption, Leg
from distsoftmax.training.signals import StopSignals


def train_path(config: TrainConfig, cluster: Communicator) -> int:
    """Train a model for each l2 of a path, and keep the one with the lowest held-out log loss. Collective.

    Returns
    -------
    int
        The exit status, as of `train`.

    Raises
    ------
    DistSoftmaxError
        As `train`.
    """
    assert config.objective.l2_path is not None
    signals = StopSignals(cluster)
    values = parse_l2_path(config.objective.l2_path)
    with surviving(cluster, lambda: PathFolder(config, values, cluster)) as folder:
        return _train_runs(config, values, cluster, signals, folder)


def _train_runs(
    config: TrainConfig, values: tuple[float, ...], cluster: Communicator, signals: StopSignals, folder: PathFolder
) -> int:
    runs = list(_runs(config, values, folder))
    coordinator = surviving(cluster, lambda: Coordinator(runs[0], cluster, None, _name(values, 0), folder))
    session = surviving(cluster, partial(open_session, runs[0], cluster, signals, coordinator))
    legs: list[Leg] = []
    for number, run in enumerate(runs):
        if number > 0:
            session.turn_to(run)
            name = _name(values, number)
            following = partial(Coordinator, run, cluster, coordinator.progress, name, folder)
            coordinator = surviving(cluster, following, session.mend)
        with coordinator:
            ended, sha256 = fit_and_save(run, coordinator, session)
        coordinator.progress.leave()
        if isinstance(ended, Interruption):
            reason = f"stopped by {stop_cause(ended, config)}"
            surviving(cluster, partial(folder.stop, legs, coordinator.folder, reason), session.mend)
            signals.ignore()
            cluster.say(interrupted(ended, config, folder.folder, cluster.size, _name(values, number)))
            return RESUMABLE
        ended = replace(ended, parameters=np.empty((0, 0)))  # they are in the file, and may be large
        legs.append(Leg(values[number], coordinator.folder, coordinator.training_seconds, sha256, ended))
        surviving(cluster, partial(folder.save, legs, None), session.mend)
    signals.ignore()
    chosen = choose(legs)
    model_path = surviving(cluster, partial(folder.save, legs, chosen), session.mend)
    cluster.say(path_closing(legs, chosen, model_path, config.solver.tolerance))
    has_converged = all(leg.result.converged for leg in legs)
    return NOT_CONVERGED if config.run.strict and not has_converged else 0


def _runs(config: TrainConfig, values: tuple[float, ...], folder: PathFolder) -> Iterator[TrainConfig]:
    """Yield the options of each run of the path."""
    init = config.solver.init
    for number, l2 in enumerate(values):
        out = folder.of_leg(number)
        yield replace(
            config,
            objective=replace(config.objective, l2=l2, l2_path=None),
            solver=replace(config.solver, init=init),
            run=replace(config.run, out=str(out)),
        )
        init = str(out / "model.safetensors")


def _name(values: tuple[float, ...], number: int) -> str:
    return f"l2 {values[number]:.3g} ({number + 1} of {len(values)})"
