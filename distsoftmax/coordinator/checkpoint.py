"""Checkpoints: the solver's whole state in a file that says of itself whether it is whole."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from distsoftmax.durable import write_atomically
from distsoftmax.errors import DamagedFile, InputError
from distsoftmax.solvers.protocol import State
from distsoftmax.tensor_file import read_tensor_file, tensor_file_content
from distsoftmax.training.early_stopping import EarlyStopping

FORMAT_VERSION = 3
OF_BEST = "best."
StateT = TypeVar("StateT", bound=State)


@dataclass(frozen=True)
class Circumstances:
    """What a run's steps follow from besides the state; a checkpoint is resumed in the same circumstances only.

    Attributes
    ----------
    options : mapping
        `TrainConfig.identity()`, and the model that the run started from.
    data : mapping
        What the dataset tells: n_rows, held_out_fraction, dtype, classes, columns, class_weights; the held-out
        samples where the steps depend on them.
    arithmetic : int
        The arithmetic version. Another one is no obstacle, but the bits may differ, and a resume says so.
    shard_digests : ndarray of int64, (n_shards,)
    """

    options: Mapping[str, object]
    data: Mapping[str, object]
    arithmetic: int
    shard_digests: NDArray[np.int64]


def save_checkpoint(
    folder: Path,
    state: State,
    circumstances: Circumstances,
    keep: int,
    *,
    best: EarlyStopping | None = None,
    seconds: float = 0.0,
) -> None:
    """Write a checkpoint of the state, then remove all but the newest `keep`.

    Parameters
    ----------
    best : EarlyStopping, optional
        What goes with the state, where a run keeps it.
    seconds : float
        Spent in training so far, by all processes that worked on the run.

    Raises
    ------
    OutputError
        It could not be written; the earlier ones are as they were.
    """
    tensors = _tensors(state)
    if best is not None:
        tensors |= {OF_BEST + name: tensor for name, tensor in _tensors(best).items()}
    tensors["shard_digests"] = circumstances.shard_digests
    about = json.dumps(
        {
            "format_version": FORMAT_VERSION,
            "solver_state": type(state).__name__,
            "options": circumstances.options,
            "data": circumstances.data,
            "arithmetic": circumstances.arithmetic,
            "seconds": seconds,
        }
    )
    written = folder / f"step-{state.step:010d}.safetensors"
    write_atomically(written, *tensor_file_content("checkpoint", tensors, {"about": about}))
    # files of later steps are damaged ones that this run has passed over: they count for nothing
    for old in [path for path in checkpoint_paths(folder) if path.name <= written.name][:-keep]:
        with contextlib.suppress(OSError):
            old.unlink()


def checkpoint_paths(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, the oldest first."""
    return sorted(folder.glob("step-*.safetensors"))


@dataclass(frozen=True)
class Checkpoint:
    """What stands in a checkpoint's file; `best` and `seconds` as in `save_checkpoint`."""

    path: Path
    values: Mapping[str, Any]
    circumstances: Circumstances
    solver_state: str
    best: EarlyStopping | None
    seconds: float

    def state(self, state_type: type[StateT]) -> StateT:
        """Return the solver's state.

        Raises
        ------
        InputError
            It is another solver's.
        """
        if self.solver_state != state_type.__name__:
            raise InputError(f"{self.path}: was made by another solver ({self.solver_state}); use another --out")
        values: dict[str, Any] = {item.name: self.values.get(item.name) for item in fields(state_type)}
        return state_type(**values)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint and verify its checksum.

    Raises
    ------
    DamagedFile
        Any byte of it is not the one that was written.
    InputError
        It is whole, but of a version not known here.
    """
    tensors, metadata = read_tensor_file("checkpoint", path)
    try:
        facts = json.loads(metadata["about"])
    except KeyError:
        raise DamagedFile(f"{path}: is damaged: it does not say what it is about") from None
    if facts["format_version"] != FORMAT_VERSION:
        raise InputError(f"{path}: has format version {facts['format_version']}, this program reads {FORMAT_VERSION}")
    digests = tensors.pop("shard_digests")
    values = {name: tensor if tensor.ndim else tensor.item() for name, tensor in tensors.items()}
    of_best = {name.removeprefix(OF_BEST): values.pop(name) for name in list(values) if name.startswith(OF_BEST)}
    circumstances = Circumstances(facts["options"], facts["data"], facts["arithmetic"], digests)
    best = EarlyStopping(**of_best) if of_best else None
    return Checkpoint(path, values, circumstances, facts["solver_state"], best, facts["seconds"])


def newest_checkpoint(folder: Path, warn: Callable[[str], None]) -> Checkpoint | None:
    """Return the newest checkpoint that is whole; each damaged one passed over is reported through `warn`."""
    paths = checkpoint_paths(folder)
    for path in reversed(paths):
        try:
            return load_checkpoint(path)
        except DamagedFile as error:
            warn(f"warning: {error}; it is passed over")
    if paths:
        warn(f"warning: no checkpoint in {folder} is whole; the run starts anew")
    return None


def refuse_other_run(path: Path, then: Circumstances, now: Circumstances) -> None:
    """Compare the circumstances of a checkpoint with the present ones.

    Raises
    ------
    InputError
        They differ; the message names each difference.
    """
    differences = option_differences(then.options, now.options)
    for name, value in json.loads(json.dumps(now.data)).items():
        if then.data.get(name) != value:
            was, is_now = _shorten(then.data.get(name)), _shorten(value)
            differences.append(f"the data's {name.replace('_', ' ')} were {was}, now they are {is_now}")
    if not differences and then.shard_digests.shape != now.shard_digests.shape:
        differences.append(f"there were {then.shard_digests.size} shards, now there are {now.shard_digests.size}")
    if not differences:
        changed = np.flatnonzero(then.shard_digests != now.shard_digests)
        if changed.size:
            n_rows, n_shards = int(now.data["n_rows"]), now.shard_digests.size  # type: ignore[call-overload]
            first = int(changed[0])
            rows = f"{first * n_rows // n_shards + 1} to {(first + 1) * n_rows // n_shards}"
            differences.append(f"the data's content changed in {changed.size} shards, first in rows {rows}")
    if differences:
        raise InputError(
            f"{path} belongs to another run: {'; '.join(differences)}. Give the options and the data of that run to go "
            "on with it, or another --out to start anew"
        )


def option_differences(then: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """Return what to say of each option that is not what it was; `then` comes from JSON."""
    return [
        f"--{name} was {then.get(name)}, now it is {value}"
        for name, value in json.loads(json.dumps(now)).items()
        if then.get(name) != value
    ]


def _tensors(record: State | EarlyStopping) -> dict[str, NDArray]:
    """Return the fields of a record as arrays, those that are None left out."""
    values = {item.name: getattr(record, item.name) for item in fields(record)}
    # ascontiguousarray makes scalars one-dimensional; their own shape tells them from arrays when they are read
    return {
        name: np.ascontiguousarray(value).reshape(np.shape(value))
        for name, value in values.items()
        if value is not None
    }


def _shorten(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."
