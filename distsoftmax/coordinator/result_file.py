"""result.json: what a run has come to, for scripts and reports. Who finds it finds the model that it names.

It is written after the model, whole or not at all, and removed before a folder is trained further: while a run goes on,
and after one that has died, there is none. Numbers that are not known or not finite are null.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from distsoftmax import __version__
from distsoftmax.config import TrainConfig
from distsoftmax.coordinator.metrics import finite, utc_now
from distsoftmax.coordinator.report import closing_notes, stop_cause
from distsoftmax.data.dataset import Dataset
from distsoftmax.durable import remedy, sync_folder, write_atomically
from distsoftmax.errors import OutputError
from distsoftmax.objective.classification_report import ClassificationReport
from distsoftmax.objective.cross_entropy import Scores
from distsoftmax.training.result import Interruption, Result

FORMAT_VERSION = 1
NAME, MODEL = "result.json", "model.safetensors"


def save_outcome(
    folder: Path,
    ended: Result | Interruption,
    evaluation: ClassificationReport | None,
    *,
    config: TrainConfig,
    dataset: Dataset,
    solver: str,
    n_ranks: int,
    arithmetic: int,
    seconds: float,
) -> str:
    """Write the model of a run into its folder and then result.json, and return the model's SHA-256. Rank 0 alone.

    The model of a run that was stopped early is marked as interim; it takes the place of an older one.

    Parameters
    ----------
    evaluation : ClassificationReport or None
        Of the held-out samples, or of the training samples where none are held out.
    solver : str
        The one that was used.
    arithmetic : int
        The arithmetic version that the run began by.
    seconds : float
        Of training, by all processes that have worked on the run.

    Raises
    ------
    OutputError
    """
    model = replace(ended.model(dataset), arithmetic=arithmetic)
    write_atomically(folder / MODEL, *model.file_content())
    outcome = ended.outcome
    if isinstance(ended, Result):
        status, reason, is_converged = "ended", ended.reason, ended.converged
        notes = closing_notes(ended, config.solver, dataset.dtype)
    else:
        status, reason, is_converged, notes = "interrupted", f"stopped by {stop_cause(ended, config)}", False, []
    content = {
        "format_version": FORMAT_VERSION,
        "version": __version__,
        "arithmetic": arithmetic,
        "status": status,
        "reason": reason,
        "converged": is_converged,
        "notes": notes,
        "step": outcome.step,
        "n_steps": outcome.n_steps,
        "seconds": seconds,
        "objective": outcome.objective,
        "certified_gap": outcome.gap,
        "relative_gap": outcome.relative_gap,
        "relative_gradient": outcome.relative_gradient,
        "tolerance": config.solver.tolerance,
        "solver": solver,
        "n_ranks": n_ranks,
        "n_shards": dataset.n_shards,
        "n_training": dataset.n_training,
        "n_held_out": dataset.n_held_out,
        "n_features": len(dataset.encoding.feature_names),
        "n_classes": len(dataset.classes),
        "n_used_features": outcome.n_used_features,
        "n_nonzero": outcome.n_nonzero,
        "sparse": dataset.sparse,
        "dtype": dataset.dtype.name,
        "classes": list(dataset.classes),
        "training": _scores(outcome.training),
        "held_out": _scores(outcome.held_out),
        "evaluation": None if evaluation is None else evaluation.as_json(),
        "evaluated_on": "held-out" if dataset.n_held_out else "training",
        "model": MODEL,
        "model_sha256": model.sha256,
        "interim": model.interim,
        "finished": utc_now("seconds"),
    }
    write_result(folder, content)
    return model.sha256


def write_result(folder: Path, content: Mapping[str, object]) -> None:
    """Write the file into a run's folder, a line for each of its names.

    Raises
    ------
    OutputError
    """
    lines = (f" {json.dumps(name)}: {json.dumps(finite(value))}" for name, value in content.items())
    write_atomically(folder / NAME, "{{\n{}\n}}\n".format(",\n".join(lines)).encode())


def read_result(folder: Path) -> dict[str, Any]:
    """Return what stands in the file of a run that this one has written.

    Raises
    ------
    OutputError
        It cannot be read again.
    """
    path = folder / NAME
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise OutputError(f"{path}: cannot be read again: {error}") from None
    return dict(content)


def remove_result(folder: Path) -> None:
    """Remove the file, for good, before the folder's run goes on.

    Raises
    ------
    OutputError
        It cannot be removed.
    """
    path = folder / NAME
    try:
        path.unlink(missing_ok=True)
        sync_folder(folder)
    except OSError as error:
        raise OutputError(f"{path}: cannot be removed: {error.strerror}{remedy(error)}") from None


def _scores(scores: Scores | None) -> dict[str, float] | None:
    return None if scores is None else {"accuracy": scores.accuracy, "log_loss": scores.log_loss}
