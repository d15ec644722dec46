"""The coordinator: rank 0's folder, and what goes into it as the steps go by."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from distsoftmax.arithmetic.library import VERSION, version_note
from distsoftmax.cluster.communicator import Communicator
from distsoftmax.cluster.control import Verdict
from distsoftmax.config import TrainConfig, model_file
from distsoftmax.coordinator.checkpoint import (
    Circumstances,
    checkpoint_paths,
    newest_checkpoint,
    refuse_other_run,
    save_checkpoint,
)
from distsoftmax.coordinator.folder import choose_folder, make_results_folder, resuming_options
from distsoftmax.coordinator.metrics import MetricsFile
from distsoftmax.coordinator.path_folder import PathFolder
from distsoftmax.coordinator.progress import ProgressLine
from distsoftmax.data.dataset import Dataset
from distsoftmax.durable import remove_leftovers, write_atomically
from distsoftmax.errors import InputError, OutputError
from distsoftmax.model import Model, NumberedNames, load_model
from distsoftmax.solvers.protocol import Array, State
from distsoftmax.training.early_stopping import EarlyStopping
from distsoftmax.training.result import Result
from distsoftmax.training.warm_start import start_parameters

if TYPE_CHECKING:
    from distsoftmax.objective.cross_entropy import Scores


class Coordinator:
    """Keeps the results of a run. Every rank makes one; only rank 0's touches files.

    Parameters
    ----------
    config : TrainConfig
    cluster : Communicator
    progress : ProgressLine, optional
        Another run's, to go on with.
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
        self._model: Model | None = None
        self._missing_model: InputError | None = None
        self._seconds_before = 0.0
        self._opened = time.perf_counter()
        self._last_save = time.monotonic()
        self._saved_step = -1
        self._metrics: MetricsFile | None = None
        self._circumstances: Circumstances | None = None
        with cluster.agreement():
            if cluster.rank == 0:
                if (self.folder / "path.json").exists():
                    raise InputError(f"--out {self.folder} holds the runs of an --l2-path; name another folder")
                self._read_model()

    @property
    def training_seconds(self) -> float:
        """Seconds spent in this run since its first step, by earlier processes, too. Known to rank 0 alone."""
        return self._seconds_before + time.perf_counter() - self._opened

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.folder / "checkpoints"

    def restore(self, dataset: Dataset, state_type: type[State]) -> tuple[State, EarlyStopping] | None:
        """Return what is in the newest valid checkpoint of this run on every rank, or None. Collective.

        Raises
        ------
        InputError
            On every rank: the folder holds another run, or any run where none was wanted.
        """
        options = self._config.identity()
        if self._missing_model is None:  # a resume does not need it
            options["init"] = None if self._model is None else f"a model with sha256 {self._model.sha256}"
        data = {
            "n_rows": dataset.n_rows,
            "held_out_fraction": self._config.data.held_out_fraction,
            "dtype": dataset.dtype.name,
            "classes": list(dataset.classes),
            "columns": _columns(dataset),
            "class_weights": None if dataset.class_weights is None else dataset.class_weights.tolist(),
        }
        if self._config.solver.patience is not None:
            data["held_out_samples"] = f"{dataset.n_held_out} {dataset.held_out_digest}".rstrip()
        self._circumstances = Circumstances(options, data, VERSION, dataset.shard_digests)
        found = None
        with self._cluster.agreement():
            if self._cluster.rank == 0:
                found = self._find_checkpoint(state_type)
        return self._cluster.broadcast(found)

    def start(self, dataset: Dataset) -> Array:
        """Return the parameters that a new run starts from, in training's units: the model's, or 0. Collective.

        Raises
        ------
        InputError
            On every rank: the model does not fit the data.
        """
        place, start = self._config.solver.init, None
        with self._cluster.agreement():
            if self._missing_model is not None:
                raise self._missing_model
            if self._model is not None:
                assert place is not None
                note = version_note(self._model.arithmetic)
                if note:
                    self._cluster.say(f"note: --init {place} {note}", to_stderr=True)
                start = start_parameters(self._model, dataset, place, self._config.objective.intercept)
        self._model = None  # it may be large
        start = self._cluster.broadcast(start)
        return np.zeros(dataset.shape) if start is None else np.ascontiguousarray(start)

    def open_folder(self, state: State) -> None:
        """Make the folder and what is in it from the start. Collective.

        Raises
        ------
        OutputError
            On every rank: it cannot be written.
        """
        with self._cluster.agreement():
            if self._cluster.rank == 0:
                if self._path is not None:
                    self._path.open()
                self._fill_folder(state)
        self._opened = time.perf_counter()

    def record(
        self,
        state: State,
        best: EarlyStopping,
        verdict: Verdict,
        held_out: Scores | None,
        result: Result | None,
        *,
        seconds: float | None,
        n_samples: int,
        n_steps: int,
        last: bool,
    ) -> None:
        """Write what is due after a step. Not collective; a failure is kept for the next control message.

        Parameters
        ----------
        result : Result or None
            Where the run has ended by itself: the last line says what the closing lines will say.
        seconds : float or None
            Of the step; None where none was taken.
        n_samples : int
            That the step has looked at.
        n_steps : int
            After which the run ends at the latest.
        """
        if self._cluster.rank != 0 or self._metrics is None:
            return
        run = self._config.run
        try:
            if last or state.step % run.metrics_every == 0 or held_out is not None:
                values = {
                    "step": state.step,
                    "objective": state.value if state.is_current else None,
                    "batch_objective": None if state.is_current else state.latest_value,
                    "gradient_norm": state.gradient_norm,
                    "estimated_gap": state.estimated_gap,
                    "certified_gap": state.certified_gap,
                    "step_size": state.step_size,
                    "seconds": seconds,
                    "samples_per_second": n_samples / seconds if seconds else None,
                    "slowest_compute_seconds": verdict.slowest_seconds,
                    "fastest_compute_seconds": verdict.fastest_seconds,
                    "communication_seconds": verdict.communication_seconds,
                }
                if held_out is not None:
                    values |= {"held_out_accuracy": held_out.accuracy, "held_out_log_loss": held_out.log_loss}
                if result is not None:
                    values |= {"objective": result.objective, "certified_gap": result.gap, "model_step": result.step}
                self._metrics.write(values)
            by_step = run.checkpoint_every is not None and state.step % run.checkpoint_every == 0
            if last or by_step or time.monotonic() - self._last_save >= run.checkpoint_seconds:
                self._save(state, best)
        except OutputError as error:
            self.failure = str(error)
        self.progress.show(self._task, state.step, n_steps, _in_words(state))

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
        """Write the model. Collective.

        Raises
        ------
        OutputError
            On every rank.
        """
        path = self.folder / "model.safetensors"
        with self._cluster.agreement():
            if self._cluster.rank == 0:
                write_atomically(path, *model.file_content())
        return path

    def _fill_folder(self, state: State) -> None:
        make_results_folder(self.checkpoints, self.folder)
        remove_leftovers(self.folder)
        write_atomically(self.folder / "config.toml", resuming_options(self._config, self.folder))
        self._metrics = MetricsFile(self.folder / "metrics.jsonl", state.step)
        self._last_save = time.monotonic()

    def _read_model(self) -> None:
        """Read the model to start from, where there is one."""
        if self._config.solver.init is None:
            return
        try:
            self._model = load_model(model_file(self._config.solver.init))
        except InputError as error:
            self._missing_model = type(error)(f"--init {error}")
            if not checkpoint_paths(self.checkpoints):
                raise self._missing_model from None

    def _find_checkpoint(self, state_type: type[State]) -> tuple[State, EarlyStopping] | None:
        assert self._circumstances is not None
        found = newest_checkpoint(self.checkpoints, lambda text: self._cluster.say(text, to_stderr=True))
        if found is None:
            return None
        path, then = found.path, found.circumstances
        if self._config.run.resume == "never":
            raise InputError(
                f"{self.folder} holds a run already; --resume auto goes on with it, another --out starts anew"
            )
        refuse_other_run(path, then, self._circumstances)
        state = found.state(state_type)
        self._cluster.say(f"resumed from {path}, after step {state.step}")
        note = version_note(then.arithmetic)
        if note:
            self._cluster.say(f"warning: {path} {note} from an uninterrupted run's", to_stderr=True)
        self._saved_step = state.step
        self._seconds_before = found.seconds
        return state, found.best or EarlyStopping()

    def _save(self, state: State, best: EarlyStopping) -> None:
        assert self._circumstances is not None
        if state.step != self._saved_step:
            save_checkpoint(
                self.checkpoints,
                state,
                self._circumstances,
                self._config.run.keep_checkpoints,
                best=best if best.last_step >= 0 else None,
                seconds=self.training_seconds,
            )
            self._saved_step = state.step
        self._last_save = time.monotonic()


def _columns(dataset: Dataset) -> str:
    """Return the number of features, and a digest of all that makes them from the source's columns."""
    encoding = dataset.encoding
    names = repr(encoding.numeric if isinstance(encoding.numeric, NumberedNames) else tuple(encoding.numeric))
    fill = b"" if encoding.fill is None else encoding.fill.tobytes()
    made = hashlib.sha256(f"{names} {encoding.categories} {encoding.index_base}".encode() + fill).hexdigest()
    return f"{len(encoding.feature_names)} features ({made[:12]})"


def _in_words(state: State) -> str:
    gap = state.certified_gap if state.certified_gap is not None else state.estimated_gap
    tail = f"gap {gap:.2e}" if gap is not None else f"gradient {state.gradient_norm:.2e}"
    return f"step {state.step}  objective {state.latest_value:.6f}  {tail}"
