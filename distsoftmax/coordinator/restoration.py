"""Where a run starts: at the newest state that is kept of it, at a model, or at 0."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from distsoftmax.arithmetic.library import version_note
from distsoftmax.cluster.communicator import Communicator
from distsoftmax.config import TrainConfig, model_file
from distsoftmax.coordinator.checkpoint import Checkpoint, broadcast_checkpoint, checkpoint_paths, newest_checkpoint
from distsoftmax.coordinator.mirror import Mirror
from distsoftmax.coordinator.rank_0 import on_rank_0
from distsoftmax.coordinator.run_identity import RunIdentity, refuse_other_run
from distsoftmax.data.dataset import Dataset
from distsoftmax.errors import InputError
from distsoftmax.model import INTERIM_NOTE, Model, load_model
from distsoftmax.run_folder import last_metrics_step
from distsoftmax.solvers.protocol import Array
from distsoftmax.training.warm_start import start_parameters


class Restoration:
    """Finds the start of a run. Every rank makes one, and knows what comes of it; collective, as all its methods are.

    Parameters
    ----------
    config : TrainConfig
    folder : Path
        Of the run.
    cluster : Communicator

    Raises
    ------
    InputError
        On every rank: there is no model where the run is to start from, and no checkpoint that makes up for it.
    """

    def __init__(self, config: TrainConfig, folder: Path, cluster: Communicator) -> None:
        self._config = config
        self._folder = folder
        self._cluster = cluster
        self._model: Model | None = None  # on the rank that has read it
        self._init = on_rank_0(cluster, self._read_model)

    def identity(self, dataset: Dataset) -> RunIdentity:
        """Return that of the present run."""
        now = RunIdentity.of(self._config, dataset)
        if isinstance(self._init, InputError):
            return now
        return replace(now, options={**now.options, "init": self._init})

    def newest_checkpoint(self, now: RunIdentity, mirror: Mirror | None) -> Checkpoint | None:
        """Return the newest whole checkpoint of this run, on disk or in the memory of a node.

        Parameters
        ----------
        mirror : Mirror or None
            None where nothing is kept in memory.

        Raises
        ------
        InputError
            On every rank: the folder holds another run, or any run where none was wanted.
        """
        cluster = self._cluster
        checkpoint = None
        with cluster.agreement():
            if cluster.rank == 0:
                checkpoint = self._on_disk(now)
        if mirror is not None and self._config.run.resume == "auto":
            kept, reach = mirror.newest(now), on_rank_0(cluster, self._reach)
            if kept is not None and reach >= kept.step > (checkpoint.step if checkpoint else -1):
                checkpoint = kept
        steps = cluster.allgather(-1 if checkpoint is None else checkpoint.step)
        newest = broadcast_checkpoint(checkpoint, cluster, steps.index(max(steps)))
        if newest is not None:
            self._model = None  # it may be large
            cluster.say(f"resumed from {newest.path}, after step {newest.step}")
            note = version_note(newest.identity.arithmetic)
            if note:
                cluster.say(f"warning: {newest.path} {note} than from an uninterrupted run", to_stderr=True)
        return newest

    def start(self, dataset: Dataset) -> Array:
        """Return the parameters that a new run starts from, in training's units: the model's, or 0.

        Returns
        -------
        ndarray of float64, (n_classes, n_features + 1)

        Raises
        ------
        InputError
            On every rank: the model does not fit the data.
        """
        if isinstance(self._init, InputError):
            raise self._init
        if self._init is None:
            return np.zeros(dataset.shape)
        own: Array | None = None
        with self._cluster.agreement():
            if self._cluster.rank == 0:
                own = self._parameters_of_model(dataset)
        content = self._cluster.broadcast_bytes(None if own is None else own.tobytes())
        start: Array = np.frombuffer(bytearray(content)).reshape(dataset.shape)
        return start

    def _on_disk(self, now: RunIdentity) -> Checkpoint | None:
        """Return the newest whole checkpoint in the run's folder. Not collective."""
        checkpoint = newest_checkpoint(
            self._folder / "checkpoints", lambda text: self._cluster.say(text, to_stderr=True)
        )
        if checkpoint is None:
            return None
        if self._config.run.resume == "never":
            raise InputError(
                f"{self._folder} holds a run already; --resume auto goes on with it, another --out starts anew"
            )
        refuse_other_run(checkpoint.path, checkpoint.identity, now)
        return checkpoint

    def _reach(self) -> int:
        """Return the step up to which no line of metrics is missing; -1 for a folder made anew. Not collective."""
        last = last_metrics_step(self._folder / "metrics.jsonl")
        return last + self._config.run.metrics_every if last >= 0 else -1

    def _read_model(self) -> str | InputError | None:
        """Read the model to start from, and return what says which it is: None where there is none.

        A run that can be resumed does without it: then the error comes back.
        """
        if (self._folder / "path.json").exists():
            raise InputError(f"--out {self._folder} holds the runs of an --l2-path; name another folder")
        if self._config.solver.init is None:
            return None
        try:
            self._model = load_model(model_file(self._config.solver.init))
        except InputError as error:
            refusal = type(error)(f"--init {error}")
            if not checkpoint_paths(self._folder / "checkpoints"):
                raise refusal from None
            return refusal
        return f"a model with sha256 {self._model.sha256}"

    def _parameters_of_model(self, dataset: Dataset) -> Array:
        init, model = str(self._config.solver.init), self._model
        self._model = None  # it may be large
        if model is None:  # it was read by a rank that is lost
            model = load_model(model_file(init))
        for note in (version_note(model.arithmetic), INTERIM_NOTE if model.interim else ""):
            if note:
                self._cluster.say(f"note: --init {init} {note}", to_stderr=True)
        return np.ascontiguousarray(start_parameters(model, dataset, init, self._config.objective.intercept))
