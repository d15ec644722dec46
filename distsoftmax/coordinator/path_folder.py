"""The folder of a path: its options, a folder for each run, what they came to, and the model chosen among them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.config import TrainConfig
from distsoftmax.coordinator.checkpoint import checkpoint_paths
from distsoftmax.coordinator.folder import choose_folder, forget_warm, make_results_folder, resuming_options
from distsoftmax.coordinator.lock import FolderLock
from distsoftmax.coordinator.metrics import finite
from distsoftmax.coordinator.rank_0 import on_rank_0
from distsoftmax.coordinator.report import choose
from distsoftmax.coordinator.result_file import read_result, remove_result, write_result
from distsoftmax.coordinator.run_identity import option_differences
from distsoftmax.durable import remedy, write_atomically
from distsoftmax.errors import InputError, OutputError
from distsoftmax.model import load_model
from distsoftmax.training.result import Leg


class PathFolder:
    """Keeps the results of a path. Every rank makes one; only rank 0's touches files.

    Used as a context, it gives the folder free at the end. Not collective.

    Parameters
    ----------
    config : TrainConfig
    values : sequence of float
        Of l2, descending.
    cluster : Communicator

    Attributes
    ----------
    folder : Path
        The same on every rank.

    Raises
    ------
    InputError
        On every rank: the folder cannot be made, holds something else, or another run holds it. Collective for this
        reason.
    """

    def __init__(self, config: TrainConfig, values: Sequence[float], cluster: Communicator) -> None:
        self._config = config
        self._values = values
        self._cluster = cluster
        self.folder = choose_folder(config, cluster)
        self._lock = FolderLock(self.folder, partial(cluster.say, to_stderr=True), config.run.timeout)
        on_rank_0(cluster, self._claim)

    def __enter__(self) -> PathFolder:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        forget_warm(self._config, self.folder, error)
        self._lock.release()

    def of_leg(self, number: int) -> Path:
        """Return the folder of the run with one of the values, counted from 0."""
        digits = max(len(str(len(self._values))), 2)
        mantissa, exponent = f"{self._values[number]:.2e}".split("e")
        return self.folder / "path" / f"{number + 1:0{digits}}-l2-{mantissa.rstrip('0').rstrip('.')}e{exponent}"

    def open(self) -> None:
        """Make the folder, and write the options that go on with the path. Rank 0 alone calls it.

        A rank that has become rank 0 takes the folder over.

        Raises
        ------
        InputError, OutputError
            It cannot be made.
        """
        self._lock.take()
        make_results_folder(self.folder, self.folder)
        remove_result(self.folder)
        write_atomically(self.folder / "config.toml", resuming_options(self._config))
        if not (self.folder / "path.json").exists():
            self._write([], None)

    def save(self, legs: Sequence[Leg], chosen: Leg | None) -> Path:
        """Write what the runs so far came to, and the model chosen among them once they are all there. Collective.

        Returns
        -------
        Path
            The model's.

        Raises
        ------
        OutputError
            On every rank.
        """
        on_rank_0(self._cluster, lambda: self._write(legs, chosen))
        return self.folder / "model.safetensors"

    def stop(self, legs: Sequence[Leg], stopped: Path, reason: str) -> None:
        """Write the model and the result of a path that is stopped early. Collective.

        The model is the one that is chosen of the runs that have ended; before the first has, that of the one stopped.

        Parameters
        ----------
        legs : sequence of Leg
            The runs that have ended.
        stopped : Path
            The folder of the one that has not.
        reason : str

        Raises
        ------
        OutputError
            On every rank.
        """

        def write() -> None:
            source = choose(legs).folder if legs else stopped
            changes = {"status": "interrupted", "reason": reason, "interim": True}
            self._write_model(source, [*(leg.folder for leg in legs), stopped], changes)

        on_rank_0(self._cluster, write)

    def _write(self, legs: Sequence[Leg], chosen: Leg | None) -> None:
        chosen_by = None
        if chosen is not None:
            chosen_by = "held-out log loss" if chosen.result.held_out else "being the last"
        content = {
            "options": self._options(),
            "l2": self._values,
            "runs": finite([_as_json(leg) for leg in legs]),
            "chosen": None if chosen is None else chosen.folder.name,
            "chosen_by": chosen_by,
        }
        write_atomically(self.folder / "path.json", json.dumps(content, indent=1).encode() + b"\n")
        if chosen is not None:
            self._write_model(chosen.folder, [leg.folder for leg in legs], {})

    def _write_model(self, source: Path, runs: Sequence[Path], changes: Mapping[str, object]) -> None:
        """Write the model of one of the runs as that of the path; then its result with what is that of all runs."""
        path, results = source / "model.safetensors", {run: read_result(run) for run in runs}
        content = {**results[source], **changes}
        try:
            model = path.read_bytes()
        except OSError as error:
            raise OutputError(f"{path}: cannot be read again: {error.strerror}{remedy(error)}") from None
        if content["interim"]:
            model = b"".join(replace(load_model(path), interim=True).file_content())
        write_atomically(self.folder / "model.safetensors", model)
        content["converged"] = all(result["converged"] for result in results.values())
        content["notes"] = [f"{run.name}: {note}" for run, result in results.items() for note in result["notes"]]
        content["seconds"] = math.fsum(result["seconds"] for result in results.values())
        content["path"] = {
            "folder": f"path/{source.name}",
            "l2": self._values[runs.index(source)],
            "n_runs": len(self._values),
            "not_converged": [f"path/{run.name}" for run, result in results.items() if not result["converged"]],
        }
        write_result(self.folder, content)

    def _claim(self) -> None:
        self._lock.take()
        try:
            self._refuse_others()
        except InputError:
            self._lock.release()
            raise

    def _refuse_others(self) -> None:
        """Refuse a folder that holds a single run, a path of other values, or any where none was wanted."""
        if checkpoint_paths(self.folder / "checkpoints"):
            raise InputError(f"--out {self.folder} holds a single run, not an --l2-path; name another folder")
        path = self.folder / "path.json"
        if not path.exists():
            return
        if self._config.run.resume == "never":
            raise InputError(
                f"{self.folder} holds a path already; --resume auto goes on with it, another --out starts anew"
            )
        try:
            differences = option_differences(json.loads(path.read_bytes())["options"], self._options())
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(f"{path}: is damaged or unreadable: {error}; remove it to go on") from None
        if differences:
            raise InputError(
                f"{self.folder} holds another path: {'; '.join(differences)}. Give the options of that path to go on "
                "with it, or another --out to start anew"
            )

    def _options(self) -> dict[str, object]:
        """Return the options that decide the models: also those that end a run, for the next one starts there."""
        solver = self._config.solver
        ends = {"max-steps": solver.max_steps, "tolerance": solver.tolerance, "patience": solver.patience}
        return self._config.identity() | ends


def _as_json(leg: Leg) -> dict[str, object]:
    """Return what is reported of a run."""
    result = leg.result
    return {
        "l2": leg.l2,
        "folder": f"path/{leg.folder.name}",
        "stopped": result.reason,
        "objective": result.objective,
        "certified_gap": result.gap,
        "steps": result.n_steps,
        "seconds": leg.seconds,
        "features_used": result.n_used_features,
        "nonzero_coefficients": result.n_nonzero,
        "training_accuracy": result.training.accuracy,
        "training_log_loss": result.training.log_loss,
        "held_out_accuracy": result.held_out.accuracy if result.held_out else None,
        "held_out_log_loss": result.held_out.log_loss if result.held_out else None,
        "model_sha256": leg.sha256,
    }
