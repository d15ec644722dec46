"""The coordinator: rank 0's folder, and what goes into it as the steps go by."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from distsoftmax.arithmetic.library import version_note
from distsoftmax.cluster.communicator import Communicator
from distsoftmax.cluster.control import Lap, Verdict
from distsoftmax.config import TrainConfig, model_file
from distsoftmax.coordinator.checkpoint import checkpoint_paths, newest_checkpoint, save_checkpoint
from distsoftmax.coordinator.circumstances import Circumstances, refuse_other_run
from distsoftmax.coordinator.folder import choose_folder, make_results_folder, resuming_options
from distsoftmax.coordinator.lock import FolderLock
from distsoftmax.coordinator.metrics import MetricsFile, in_words, metrics_of
from distsoftmax.coordinator.path_folder import PathFolder
from distsoftmax.coordinator.progress import ProgressLine
from distsoftmax.coordinator.rank_0 import on_rank_0
from distsoftmax.coordinator.saver import SaveErrors, Saver
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

    Used as a context, it waits at the end for the save in progress and gives the folder free. Not collective.

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
    progress : ProgressLine

    Raises
    ------
    InputError
        On every rank: the folder cannot be made where it was asked for, or another run holds it; or there is no model
        where the run is to start from. Collective for this reason.
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
        self.progress = progress or ProgressLine(config.run.progress, silent=cluster.rank != 0)
        # what follows is rank 0's
        self._lock = FolderLock(self.folder, self._warn)
        self._saver = Saver()
        self._errors = SaveErrors(stop=config.run.on_save_error == "stop", warn=self._warn)
        self._model: Model | None = None
        self._model_error: InputError | None = None
        self._seconds_before = 0.0
        self._opened = time.perf_counter()
        self._last_save = time.monotonic()
        self._saved_step = -1
        self._circumstances: Circumstances | None = None
        self._metrics: MetricsFile | None = None
        self._n_steps = self._n_samples = 0
        on_rank_0(cluster, self._claim)

    def __enter__(self) -> Coordinator:
        return self

    def __exit__(self, *error: object) -> None:
        self._saver.wait()
        self._lock.release()

    @property
    def failure(self) -> str:
        """What rank 0 could not do and must end the run for; it travels to the others with a control message."""
        for error in self._saver.errors():
            self._errors.add("checkpoints", error)
        return self._errors.fatal

    @property
    def training_seconds(self) -> float:
        """Seconds spent in this run since its first step, by earlier processes, too. Known to rank 0 alone."""
        return self._seconds_before + time.perf_counter() - self._opened

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
        return on_rank_0(self._cluster, lambda: self._restored(dataset, state_type))

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
        start = on_rank_0(self._cluster, lambda: self._parameters_of_model(dataset))
        return np.zeros(dataset.shape) if start is None else np.ascontiguousarray(start)

    def open_folder(self, state: State, dataset: Dataset, limit: StepLimit) -> None:
        """Make the folder and what is in it from the start, before the run goes on from a state. Collective.

        It is called again where another rank has become rank 0: that one takes the folder over.

        Raises
        ------
        InputError, OutputError
            On every rank: it cannot be made, or not be written.
        """
        self._n_steps, self._n_samples = limit.steps, dataset.n_training
        on_rank_0(self._cluster, lambda: self._fill_folder(state))
        self._opened = time.perf_counter()
        self.progress.leave()

    def record(self, state: State, look: Look, lap: Lap, verdict: Verdict, *, is_last: bool) -> None:
        """Write what is due after a step. Not collective; a failure is kept for the next control message.

        Checkpoints are written while the steps go on; the last one is waited for.

        Parameters
        ----------
        look : Look
            Where it has a result, the last line of metrics says what the closing lines will say.
        lap : Lap
            Rank 0's.
        """
        if self._cluster.rank != 0:
            return
        assert self._metrics is not None, "open_folder comes first"
        run = self._config.run
        if is_last or state.step % run.metrics_every == 0 or look.held_out is not None:
            try:
                self._metrics.write(metrics_of(state, look, lap, verdict, state.n_sampled or self._n_samples))
            except OutputError as error:  # it does not cost the state
                self._errors.add("metrics", error)
        by_step = run.checkpoint_every is not None and state.step % run.checkpoint_every == 0
        if is_last or by_step or time.monotonic() - self._last_save >= run.checkpoint_seconds:
            self._save(state, look.best)
        self.progress.show(self._task, state.step, self._n_steps, in_words(state))
        if is_last:
            self._saver.wait()
            if not self.failure:
                self._errors.warn_of_shortfall(checkpoint_paths(self.checkpoints), self._metrics.n_unwritten)

    def check_saved(self) -> None:
        """Raise on every rank what rank 0 could not do. Collective.

        Raises
        ------
        OutputError
        """
        with self._cluster.agreement():
            if self.failure:
                raise OutputError(self.failure)

    def save_model(self, model: Model) -> Path:
        """Write the model, and return its path. Collective.

        Raises
        ------
        OutputError
            On every rank.
        """
        path = self.folder / "model.safetensors"
        on_rank_0(self._cluster, lambda: write_atomically(path, *model.file_content()))
        return path

    def _claim(self) -> None:
        """Lock the folder, unless the path has done so for all its runs, and read the model to start from."""
        if self._path is None:
            self._lock.take()
        try:
            self._read_model()
        except InputError:
            self._lock.release()
            raise

    def _warn(self, text: str) -> None:
        self.progress.leave()
        self._cluster.say(text, to_stderr=True)

    def _read_model(self) -> None:
        """Read the model to start from, where there is one. A run that can be resumed does without it."""
        if (self.folder / "path.json").exists():
            raise InputError(f"--out {self.folder} holds the runs of an --l2-path; name another folder")
        if self._config.solver.init is None:
            return
        try:
            self._model = load_model(model_file(self._config.solver.init))
        except InputError as error:
            self._model_error = type(error)(f"--init {error}")
            if not checkpoint_paths(self.checkpoints):
                raise self._model_error from None

    def _restored(self, dataset: Dataset, state_type: type[State]) -> tuple[State, Look] | None:
        now = Circumstances.of(self._config, dataset)
        if self._model_error is None:
            start = None if self._model is None else f"a model with sha256 {self._model.sha256}"
            now = replace(now, options={**now.options, "init": start})
        self._circumstances = now
        checkpoint = newest_checkpoint(self.checkpoints, lambda text: self._cluster.say(text, to_stderr=True))
        if checkpoint is None:
            return None
        path, then = checkpoint.path, checkpoint.circumstances
        if self._config.run.resume == "never":
            raise InputError(
                f"{self.folder} holds a run already; --resume auto goes on with it, another --out starts anew"
            )
        refuse_other_run(path, then, now)
        self._circumstances = replace(now, options={**then.options, **now.options})  # a missing model's digest stays
        state = checkpoint.state(state_type)
        self._cluster.say(f"resumed from {path}, after step {state.step}")
        note = version_note(then.arithmetic)
        if note:
            self._cluster.say(f"warning: {path} {note} from an uninterrupted run's", to_stderr=True)
        self._model = None  # a resume starts from the state
        self._saved_step, self._seconds_before = state.step, checkpoint.seconds
        return state, Look(checkpoint.best or EarlyStopping())

    def _parameters_of_model(self, dataset: Dataset) -> Array | None:
        if self._model_error is not None:
            raise self._model_error
        init, model = self._config.solver.init, self._model
        self._model = None  # it may be large
        if init is None or model is None:
            return None
        note = version_note(model.arithmetic)
        if note:
            self._cluster.say(f"note: --init {init} {note}", to_stderr=True)
        return start_parameters(model, dataset, init, self._config.objective.intercept)

    def _fill_folder(self, state: State) -> None:
        self._saver.wait()
        self._lock.take() if self._path is None else self._path.open()
        make_results_folder(self.checkpoints, self.folder)
        remove_leftovers(self.folder)
        write_atomically(self.folder / "config.toml", resuming_options(self._config, self.folder))
        self._metrics = MetricsFile(self.folder / "metrics.jsonl", state.step)
        self._last_save = time.monotonic()

    def _save(self, state: State, best: EarlyStopping) -> None:
        assert self._circumstances is not None, "restore comes first"
        if state.step != self._saved_step:
            save = partial(
                save_checkpoint,
                self.checkpoints,
                state,
                self._circumstances,
                self._config.run.keep_checkpoints,
                best=best if best.last_step >= 0 else None,
                seconds=self.training_seconds,
            )
            self._saver.save(save)
            self._saved_step = state.step
        self._last_save = time.monotonic()
