"""The coordinator: rank 0's folder, and what goes into it as the steps go by."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from distsoftmax.arithmetic.library import version_note
from distsoftmax.cluster.communicator import Communicator
from distsoftmax.cluster.control import Lap, Verdict
from distsoftmax.config import TrainConfig, model_file
from distsoftmax.coordinator.checkpoint import (
    Checkpoint,
    broadcast_checkpoint,
    checkpoint_paths,
    newest_checkpoint,
    save_checkpoint,
)
from distsoftmax.coordinator.circumstances import Circumstances, refuse_other_run
from distsoftmax.coordinator.folder import choose_folder, make_results_folder, resuming_options
from distsoftmax.coordinator.metrics import MetricsFile, last_step, metrics_of
from distsoftmax.coordinator.mirror import Mirror, memory_folder
from distsoftmax.coordinator.path_folder import PathFolder
from distsoftmax.coordinator.progress import ProgressLine
from distsoftmax.coordinator.rank_0 import on_rank_0
from distsoftmax.data.dataset import Dataset
from distsoftmax.durable import remove_leftovers, write_atomically
from distsoftmax.errors import InputError, OutputError
from distsoftmax.model import Model, load_model
from distsoftmax.solvers.protocol import Array
from distsoftmax.solvers.state import State
from distsoftmax.training.early_stopping import EarlyStopping
from distsoftmax.training.stopping import Look, StepLimit
from distsoftmax.training.warm_start import start_parameters


class Coordinator:
    """Keeps the results of a run. Every rank makes one; only rank 0's touches files.

    Parameters
    ----------
    config : TrainConfig
    cluster : Communicator
    progress : ProgressLine, optional
        An earlier run's, to go on with.
    task : str
        What the progress line calls the steps.
    path : PathFolder, optional
        Of the path that the run is a part of.

    Attributes
    ----------
    folder : Path
        The run's folder, the same on every rank.
    failure : str
        What rank 0 could not do; it travels to the other ranks with the next control message.
    progress : ProgressLine

    Raises
    ------
    InputError
        On every rank: the folder cannot be made where it was asked for, or there is no model where the run is to
        start from. Collective for this reason.
    """

    def __init__(
        self,
        config: TrainConfig,
        cluster: Communicator,
        progress: ProgressLine | None = None,
        task: str = "training",
        path: PathFolder | None = None,
    ) -> None:
        self._config = config
        self._path = path
        self._cluster = cluster
        self._task = task
        self.folder = choose_folder(config, cluster)
        self.failure = ""
        self.progress = progress or ProgressLine(config.run.progress, silent=cluster.rank != 0)
        self._circumstances: Circumstances | None = None
        self._seconds_before = 0.0
        self._opened = time.perf_counter()
        self._last_save = time.monotonic()
        self._saved_step = -1
        self._n_steps = self._n_samples = 0
        # what follows is rank 0's
        self._model: Model | None = None
        self._metrics: MetricsFile | None = None
        self._memory = memory_folder(path.folder if path else self.folder) if config.run.warm else None
        self._mirror = Mirror(self._memory, cluster)
        self._init = on_rank_0(cluster, self._read_model)

    @property
    def training_seconds(self) -> float:
        """Seconds spent in this run since its first step, by earlier processes, too."""
        return self._seconds_before + time.perf_counter() - self._opened

    @property
    def model_path(self) -> Path:
        """Where the model goes."""
        return self.folder / "model.safetensors"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.folder / "checkpoints"

    def restore(self, dataset: Dataset, state_type: type[State]) -> tuple[State, Look] | None:
        """Return what is in the newest valid checkpoint of this run on every rank, or None. Collective.

        Raises
        ------
        InputError
            On every rank: the folder holds another run, or any run where none was wanted.
        """
        now = Circumstances.of(self._config, dataset)
        if not isinstance(self._init, InputError):
            now = replace(now, options={**now.options, "init": self._init})
        self._circumstances = now
        checkpoint = self._newest_checkpoint(now)
        if checkpoint is None:
            return None
        # the digest of a model that is not there any more stays
        self._circumstances = replace(now, options={**checkpoint.circumstances.options, **now.options})
        state = checkpoint.state(state_type)
        self._cluster.say(f"resumed from {checkpoint.path}, after step {state.step}")
        note = version_note(checkpoint.circumstances.arithmetic)
        if note:
            self._cluster.say(f"warning: {checkpoint.path} {note} from an uninterrupted run's", to_stderr=True)
        self._model = None  # a resume starts from the state
        self._saved_step, self._seconds_before = state.step, checkpoint.seconds
        return state, Look(checkpoint.best or EarlyStopping())

    def start(self, dataset: Dataset) -> Array:
        """Return the parameters that a new run starts from, in training's units: the model's, or 0. Collective.

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
        start: Array | None = None
        with self._cluster.agreement():
            if self._cluster.rank == 0:
                start = self._parameters_of_model(dataset)
        content = self._cluster.broadcast_bytes(None if start is None else start.tobytes())
        return np.frombuffer(bytearray(content)).reshape(dataset.shape)

    def open_folder(self, state: State, dataset: Dataset, limit: StepLimit) -> None:
        """Make the folder and what is in it from the start, before the run goes on from a state. Collective.

        Raises
        ------
        InputError, OutputError
            On every rank: it cannot be made, or not be written.
        """
        self._n_steps, self._n_samples = limit.steps, dataset.n_training
        self.progress.is_silent = self._cluster.rank != 0  # another rank's before ranks were lost
        self._mirror = Mirror(self._memory, self._cluster)  # ranks may have been lost
        on_rank_0(self._cluster, lambda: self._fill_folder(state))
        self._opened = time.perf_counter()
        self.progress.leave()

    def record(self, state: State, look: Look, lap: Lap, verdict: Verdict, *, is_last: bool) -> None:
        """Write what is due after a step. Not collective; a failure is kept for the next control message.

        Parameters
        ----------
        look : Look
            Where it has a result, the last line of metrics says what the closing lines will say.
        lap : Lap
            Rank 0's.
        """
        assert self._circumstances is not None, "restore comes first"
        self._mirror.keep(state, self._circumstances, _kept(look.best), self.training_seconds)
        if self._cluster.rank != 0:
            return
        assert self._metrics is not None, "open_folder comes first"
        run = self._config.run
        if is_last or state.step % run.metrics_every == 0 or look.held_out is not None:
            with self._failure_kept():
                self._metrics.write(metrics_of(state, look, lap, verdict, state.n_sampled or self._n_samples))
        by_step = run.checkpoint_every is not None and state.step % run.checkpoint_every == 0
        if is_last or by_step or time.monotonic() - self._last_save >= run.checkpoint_seconds:
            with self._failure_kept():  # a line that cannot be written does not cost the state
                self._save(state, look.best)
        self.progress.show(self._task, state.step, self._n_steps, _in_words(state))

    @contextmanager
    def _failure_kept(self) -> Iterator[None]:
        try:
            yield
        except OutputError as error:
            self.failure = self.failure or str(error)

    def check_saved(self) -> None:
        """Raise on every rank what rank 0 could not do. Collective.

        Raises
        ------
        OutputError
        """
        with self._cluster.agreement():
            if self.failure:
                raise OutputError(self.failure)

    def save_model(self, model: Model) -> None:
        """Write the model. Collective.

        Raises
        ------
        OutputError
            On every rank.
        """
        on_rank_0(self._cluster, lambda: write_atomically(self.model_path, *model.file_content()))

    def _read_model(self) -> str | InputError | None:
        """Read the model to start from, and return what says which it is: None where there is none.

        A run that can be resumed does without it: then the error comes back.
        """
        if (self.folder / "path.json").exists():
            raise InputError(f"--out {self.folder} holds the runs of an --l2-path; name another folder")
        if self._config.solver.init is None:
            return None
        try:
            self._model = load_model(model_file(self._config.solver.init))
        except InputError as error:
            refusal = type(error)(f"--init {error}")
            if not checkpoint_paths(self.checkpoints):
                raise refusal from None
            return refusal
        return f"a model with sha256 {self._model.sha256}"

    def _newest_checkpoint(self, now: Circumstances) -> Checkpoint | None:
        """Return the newest whole checkpoint of this run, on disk or in the memory of a node, on all ranks. Collective.

        Raises
        ------
        InputError
            On every rank: the folder holds another run, or any run where none was wanted.
        """
        checkpoint, kept = None, self._mirror.newest(now)
        reach = -1  # the step up to which no line of metrics is missing: a folder made anew has none
        with self._cluster.agreement():
            if self._cluster.rank == 0:
                reach = last_step(self.folder / "metrics.jsonl") + self._config.run.metrics_every
                checkpoint = newest_checkpoint(self.checkpoints, lambda text: self._cluster.say(text, to_stderr=True))
                if checkpoint is not None and self._config.run.resume == "never":
                    raise InputError(
                        f"{self.folder} holds a run already; --resume auto goes on with it, another --out starts anew"
                    )
                if checkpoint is not None:
                    refuse_other_run(checkpoint.path, checkpoint.circumstances, now)
        reach = self._cluster.broadcast(reach)
        if kept is not None and reach >= kept.step > (checkpoint.step if checkpoint else -1):
            checkpoint = kept
        steps = self._cluster.allgather(-1 if checkpoint is None else checkpoint.step)
        return broadcast_checkpoint(checkpoint, self._cluster, steps.index(max(steps)))

    def _parameters_of_model(self, dataset: Dataset) -> Array:
        init, model = self._config.solver.init, self._model
        self._model = None  # it may be large
        if model is None:  # it was read by a rank that is lost
            assert init is not None
            model = load_model(model_file(init))
        note = version_note(model.arithmetic)
        if note:
            self._cluster.say(f"note: --init {init} {note}", to_stderr=True)
        return np.ascontiguousarray(start_parameters(model, dataset, str(init), self._config.objective.intercept))

    def _fill_folder(self, state: State) -> None:
        if self._path is not None:
            self._path.open()
        make_results_folder(self.checkpoints, self.folder)
        remove_leftovers(self.folder)
        write_atomically(self.folder / "config.toml", resuming_options(self._config, self.folder))
        self._metrics = MetricsFile(self.folder / "metrics.jsonl", state.step)
        self._last_save = time.monotonic()

    def _save(self, state: State, best: EarlyStopping) -> None:
        assert self._circumstances is not None, "restore comes first"
        if state.step != self._saved_step:
            save_checkpoint(
                self.checkpoints,
                state,
                self._circumstances,
                self._config.run.keep_checkpoints,
                best=_kept(best),
                seconds=self.training_seconds,
            )
            self._saved_step = state.step
        self._last_save = time.monotonic()


def _kept(best: EarlyStopping) -> EarlyStopping | None:
    return best if best.last_step >= 0 else None


def _in_words(state: State) -> str:
    gap = state.certified_gap if state.certified_gap is not None else state.estimated_gap
    tail = f"gap {gap:.2e}" if gap is not None else f"gradient {state.evaluation.gradient_norm:.2e}"
    return f"step {state.step}  objective {state.latest_value:.6f}  {tail}"
