"""The coordinator: rank 0's folder, and what goes into it as the steps go by."""

from __future__ import annotations

import hashlib
import os
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import tomli_w

from distsoftmax.cluster.communicator import Cluster
from distsoftmax.cluster.control import Verdict
from distsoftmax.config import TrainConfig
from distsoftmax.coordinator.checkpoint import Circumstances, newest_checkpoint, refuse_other_run, save_checkpoint
from distsoftmax.coordinator.durable import make_folder, remove_leftovers, write_atomically
from distsoftmax.coordinator.metrics import MetricsFile
from distsoftmax.coordinator.progress import ProgressLine
from distsoftmax.data.partition import Partition
from distsoftmax.errors import InputError, OutputError
from distsoftmax.model import Model, NumberedNames
from distsoftmax.solvers.protocol import State

if TYPE_CHECKING:
    from distsoftmax.objective.distributed import Scores


class Coordinator:
    """Keeps the results of a run. Every rank makes one; only rank 0's touches files.

    Parameters
    ----------
    config : TrainConfig
    cluster : Cluster

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
        On every rank: the folder cannot be made where it was asked for. Collective for this reason.
    """

    def __init__(self, config: TrainConfig, cluster: Cluster) -> None:
        self._config = config
        self._cluster = cluster
        self.folder = Path(cluster.broadcast(config.run.out or _new_folder()))
        self.failure = ""
        self.progress = ProgressLine(config.run.progress, silent=cluster.rank != 0)
        self._last_save = time.monotonic()
        self._saved_step = -1
        self._metrics: MetricsFile | None = None
        self._circumstances: Circumstances | None = None
        with cluster.agreement():
            if cluster.rank == 0:
                _check_place(self.folder)

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.folder / "checkpoints"

    def restore(self, partition: Partition, state_type: type[State]) -> State | None:
        """Return the state of the newest valid checkpoint of this run on every rank, or None. Collective.

        Raises
        ------
        InputError
            On every rank: the folder holds another run, or any run where none was wanted.
        """
        self._circumstances = Circumstances(
            self._config.identity(),
            {
                "n_rows": partition.n_rows,
                "held_out_fraction": self._config.data.held_out_fraction,
                "dtype": partition.dtype.name,
                "classes": list(partition.classes),
                "columns": _columns(partition),
                "class_weights": None if partition.class_weights is None else partition.class_weights.tolist(),
            },
            self._cluster.platform,
            partition.shard_digests,
        )
        state = None
        with self._cluster.agreement():
            if self._cluster.rank == 0:
                state = self._find_checkpoint(state_type)
        return self._cluster.broadcast(state)

    def open_folder(self, state: State) -> None:
        """Make the folder and what is in it from the start. Collective.

        Raises
        ------
        OutputError
            On every rank: it cannot be written.
        """
        with self._cluster.agreement():
            if self._cluster.rank == 0:
                self._fill_folder(state)

    def record(
        self,
        state: State,
        verdict: Verdict,
        held_out: Scores | None,
        *,
        seconds: float | None,
        n_samples: int,
        last: bool,
    ) -> None:
        """Write what is due after a step. Not collective; a failure is kept for the next control message."""
        if self._cluster.rank != 0 or self._metrics is None:
            return
        run = self._config.run
        try:
            if last or state.step % run.metrics_every == 0 or held_out is not None:
                values = {
                    "step": state.step,
                    "objective": state.value,
                    "gradient_norm": state.gradient_norm,
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
                self._metrics.write(values)
            by_step = run.checkpoint_every is not None and state.step % run.checkpoint_every == 0
            if last or by_step or time.monotonic() - self._last_save >= run.checkpoint_seconds:
                self._save(state)
        except OutputError as error:
            self.failure = str(error)
        self.progress.show("training", state.step, self._config.solver.max_steps or 1000, _in_words(state))

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
        try:
            make_folder(self.checkpoints)
        except OSError as error:
            raise InputError(f"--out {self.folder}: cannot be made: {error.strerror}") from None
        remove_leftovers(self.folder)
        remove_leftovers(self.checkpoints)
        settings = self._config.sections()
        settings["run"] |= {"out": str(self.folder), "resume": "auto"}  # so that the file resumes this run
        write_atomically(self.folder / "config.toml", tomli_w.dumps(settings).encode())
        self._metrics = MetricsFile(self.folder / "metrics.jsonl", state.step)
        self._last_save = time.monotonic()

    def _find_checkpoint(self, state_type: type[State]) -> State | None:
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
        if then.platform != self._circumstances.platform:
            self._cluster.say(
                f"warning: {path} was computed on another platform ({then.platform}); the bits may differ from an "
                "uninterrupted run's",
                to_stderr=True,
            )
        self._saved_step = state.step
        return state

    def _save(self, state: State) -> None:
        assert self._circumstances is not None
        if state.step != self._saved_step:
            save_checkpoint(self.checkpoints, state, self._circumstances, self._config.run.keep_checkpoints)
            self._saved_step = state.step
        self._last_save = time.monotonic()


def _columns(partition: Partition) -> str:
    """Return the number of features, and a digest of all that makes them from the source's columns."""
    encoding = partition.encoding
    names = repr(encoding.numeric if isinstance(encoding.numeric, NumberedNames) else tuple(encoding.numeric))
    fill = b"" if encoding.fill is None else encoding.fill.tobytes()
    made = hashlib.sha256(f"{names} {encoding.categories} {encoding.index_base}".encode() + fill).hexdigest()
    return f"{len(encoding.feature_names)} features ({made[:12]})"


def _new_folder() -> str:
    """Return a name under runs/ that no other run has, not even one started in the same second."""
    name = f"runs/{datetime.now():%Y-%m-%d-%H%M%S}"
    node = os.uname().nodename
    return name if not Path(name).exists() else f"{name}-{node}-{os.getpid()}"


def _in_words(state: State) -> str:
    gap = state.certified_gap
    tail = f"gap {gap:.2e}" if gap is not None else f"gradient {state.gradient_norm:.2e}"
    return f"step {state.step}  objective {state.value:.6f}  {tail}"


def _check_place(folder: Path) -> None:
    """Refuse a folder that could not be made, before hours are spent on what should go into it."""
    place = folder
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise InputError(f"--out {folder}: {place} is a file; name a folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"--out {folder}: {place} is not writable; name another folder")
