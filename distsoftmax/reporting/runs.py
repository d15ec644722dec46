"""Runs read from their folders: what can be told of each, however far it has come, and whatever is damaged."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from distsoftmax.errors import InputError
from distsoftmax.model import Model, load_model
from distsoftmax.monitoring.run_state import RunReader, RunState
from distsoftmax.reporting.evaluation import Evaluation, evaluation_of
from distsoftmax.reporting.history import History, read_history
from distsoftmax.reporting.record import Record, finite, read_json, read_options
from distsoftmax.run_folder import CHECKPOINT
from distsoftmax.tensor_file import map_file, tensors_in

Value = TypeVar("Value")

MARKS = ("config.toml", "metrics.jsonl", "path.json")  # one of these makes a folder that of a run


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run, or a run of a path.

    Attributes
    ----------
    folder : Path
    name : str
        To tell it from the others of a report.
    state : RunState
        Whether it goes on, and where its time goes.
    options : dict
        Those of its config.toml, by their command-line names.
    history : History
    result : Record
        What result.json says; empty where there is none.
    checkpoint : Record
        What the newest checkpoint says of the data; empty where there is none.
    data_digest : str
        A digest of the prepared samples of all shards, as the checkpoint has them; empty where it is not known.
    evaluation : Evaluation or None
        Of its model.
    evaluated_on : str
        The samples of this evaluation, as in "held-out".
    is_asked_for : bool
        Whether this evaluation was named by --evaluation, and goes before the scores that the run tells.
    model : Model or None
    remarks : tuple of str
        What could not be read.
    """

    folder: Path
    name: str
    state: RunState
    options: dict[str, object]
    history: History
    result: Record
    checkpoint: Record
    data_digest: str
    evaluation: Evaluation | None
    evaluated_on: str
    model: Model | None
    remarks: tuple[str, ...]
    is_asked_for: bool = False


@dataclass(frozen=True, kw_only=True)
class PathOfRuns:
    """The runs of an --l2-path.

    Attributes
    ----------
    folder, name, state, options, remarks
        See `Run`; the state is that of the newest run.
    values : tuple of float
        Of l2, as they were asked for.
    legs : tuple of Record
        What path.json says of the runs that are done.
    chosen : Run or None
        The one whose model is kept; before there is one, the newest.
    is_chosen : bool
    chosen_by : str
    """

    folder: Path
    name: str
    state: RunState
    options: dict[str, object]
    values: tuple[float, ...]
    legs: tuple[Record, ...]
    chosen: Run | None
    is_chosen: bool
    chosen_by: str
    remarks: tuple[str, ...]


def find_runs(folders: Sequence[Path]) -> list[Path]:
    """Return the runs that are meant by folders: each itself, or all below it, in the order of their names.

    Raises
    ------
    InputError
        A folder is missing, or holds no run.
    """
    runs: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            problem = "is a file" if folder.exists() else "does not exist"
            raise InputError(f"{folder} {problem}; name the folder of a run, the one given by --out, or one of several")
        below = [folder] if _is_run(folder) else list(_runs_below(folder))
        if not below:
            raise InputError(
                f"{folder} holds no run; name the folder of one, the one given by --out, or one of several"
            )
        runs += below
    distinct = {path.resolve(): path for path in reversed(runs)}
    return list(reversed(distinct.values()))


def read_run(folder: Path, name: str) -> Run | PathOfRuns:
    """Read what is in the folder of a run, or of a path. What is damaged there becomes a remark.

    Raises
    ------
    InputError
        The folder has gone.
    """
    return _read_path(folder, name) if (folder / "path.json").exists() else _read_single(folder, name)


def without_model(run: Run | PathOfRuns) -> Run | PathOfRuns:
    """Return a run without its model, which may take much memory."""
    if isinstance(run, Run):
        return replace(run, model=None)
    return run if run.chosen is None else replace(run, chosen=replace(run.chosen, model=None))


def _is_run(folder: Path) -> bool:
    return any((folder / mark).is_file() for mark in MARKS)


def _runs_below(folder: Path) -> Iterator[Path]:
    for top, folders, _ in os.walk(folder):
        folders.sort()
        if _is_run(Path(top)):
            folders.clear()
            yield Path(top)
        folders[:] = [name for name in folders if not name.startswith(".")]


def _read_single(folder: Path, name: str) -> Run:
    remarks: list[str] = []
    state = RunReader(folder).read()
    options: dict[str, object] = _read_or({}, read_options, folder / "config.toml", remarks)
    history = _read_or(read_history(Path(os.devnull)), read_history, folder / "metrics.jsonl", remarks)
    is_of_now = not state.is_live and state.status != "crashed"  # else result.json is of an earlier start
    result = _read_or(Record(), read_json, folder / "result.json", remarks) if is_of_now else Record()
    checkpoint, digest = _read_or((Record(), ""), _read_checkpoint, folder / "checkpoints", remarks)
    path = folder / "model.safetensors"
    model = _read_or(None, load_model, path, remarks) if path.exists() else None
    if n_unreadable := history.n_unreadable:
        lines = "1 line" if n_unreadable == 1 else f"{n_unreadable} lines"
        remarks.append(
            f"{lines} of metrics.jsonl could not be read and {'is' if n_unreadable == 1 else 'are'} left out."
        )
    return Run(
        folder=folder,
        name=name,
        state=state,
        options=options,
        history=history,
        result=result,
        checkpoint=checkpoint,
        data_digest=digest,
        evaluation=evaluation_of(result.record("evaluation")),
        evaluated_on=result.text("evaluated_on") or "held-out",
        model=model,
        remarks=tuple(remarks),
    )


def _read_path(folder: Path, name: str) -> PathOfRuns:
    remarks: list[str] = []
    state = RunReader(folder).read()
    options: dict[str, object] = _read_or({}, read_options, folder / "config.toml", remarks)
    content, chosen = _read_or(Record(), read_json, folder / "path.json", remarks), None
    legs = tuple(Record(leg) for leg in content.members("runs"))
    newest = state.leg or (Path(legs[-1].text("folder") or "").name if legs else "")
    wanted = Path(content.text("chosen") or newest).name  # a name alone: the file may say anything
    if wanted and _is_run(folder / "path" / wanted):
        chosen = _read_or(None, partial(_read_single, name=name), folder / "path" / wanted, remarks)
    if chosen is not None and "chosen" not in content:
        chosen = replace(chosen, state=state)  # of the newest run; the path's folder is the one that is locked
    elif chosen is not None and not chosen.result:
        result = _read_or(Record(), read_json, folder / "result.json", remarks)
        chosen = replace(chosen, result=result, evaluation=evaluation_of(result.record("evaluation")))
    numbers = (finite(value) for value in content.members("l2"))
    return PathOfRuns(
        folder=folder,
        name=name,
        state=state,
        options=options,
        values=tuple(number for number in numbers if number is not None),
        legs=legs,
        chosen=chosen,
        is_chosen="chosen" in content,
        chosen_by=content.text("chosen_by") or "",
        remarks=tuple(remarks),
    )


def _read_or(nothing: Value, read: Callable[[Path], Value], path: Path, remarks: list[str]) -> Value:
    """Return what is read; `nothing`, and a remark, where it cannot be read: the rest is shown all the same."""
    try:
        return read(path)
    except MemoryError:
        remarks.append("The model is too large to be read into this machine's memory.")
    except (InputError, OSError) as error:
        remarks.append(f"{error}.".replace("..", "."))
    return nothing


def _read_checkpoint(folder: Path) -> tuple[Record, str]:
    """Return what the newest checkpoint says of its data, and a digest of them; the state itself is not read."""
    paths = sorted(path for path in folder.glob("step-*") if CHECKPOINT.fullmatch(path.name))
    if not paths:
        return Record(), ""
    tensors, metadata = tensors_in("checkpoint", paths[-1], map_file(paths[-1]), digest=None)
    try:
        about = Record(json.loads(metadata["about"]))
        digests = tensors["shard_digests"].astype("<i8")
    except (ValueError, LookupError, RecursionError) as error:
        raise InputError(f"{paths[-1]}: is damaged: {error}") from None
    return about, hashlib.sha256(digests.tobytes()).hexdigest()
