"""Checkpoints: the solver's whole state in a file that says of itself whether it is whole."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import numpy as np
from numpy.typing import NDArray

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.coordinator.run_identity import RunIdentity
from distsoftmax.durable import write_atomically
from distsoftmax.errors import DamagedFile, InputError
from distsoftmax.run_folder import CHECKPOINT, names_in
from distsoftmax.solvers.state import State, StateT
from distsoftmax.tensor_file import Buffer, read_whole, tensor_file_content, tensors_in
from distsoftmax.training.early_stopping import EarlyStopping

FORMAT_VERSION = 4
OF_STATE, OF_BEST = "state.", "best."  # what the names of their fields begin with
Record = TypeVar("Record")


def save_checkpoint(
    folder: Path,
    state: State,
    identity: RunIdentity,
    keep: int,
    *,
    best: EarlyStopping | None = None,
    seconds: float = 0.0,
) -> None:
    """Write a checkpoint of the state, then remove all but the newest `keep`.

    Parameters
    ----------
    best, seconds
        See `checkpoint_content`.

    Raises
    ------
    OutputError
        It could not be written; the earlier ones are as they were.
    """
    written = folder / f"step-{state.step:010d}.safetensors"
    write_atomically(written, *checkpoint_content(state, identity, best=best, seconds=seconds))
    # files of later steps are damaged ones that this run has passed over: they count for nothing
    with contextlib.suppress(InputError):  # what cannot be listed now is removed after a later save
        for old in [path for path in checkpoint_paths(folder) if path.name <= written.name][:-keep]:
            with contextlib.suppress(OSError):
                old.unlink()


def checkpoint_content(
    state: State, identity: RunIdentity, *, best: EarlyStopping | None = None, seconds: float = 0.0
) -> list[Buffer]:
    """Return the content of a checkpoint's file, in several buffers.

    Parameters
    ----------
    best : EarlyStopping, optional
        What goes with the state, where a run keeps it.
    seconds : float
        Spent in training so far, by all processes that worked on the run.
    """
    tensors = _flattened(state, OF_STATE) | ({} if best is None else _flattened(best, OF_BEST))
    tensors["shard_digests"] = identity.shard_digests
    about = json.dumps(
        {
            "format_version": FORMAT_VERSION,
            "solver_state": type(state).__name__,
            "options": identity.options,
            "data": identity.data,
            "arithmetic": identity.arithmetic,
            "seconds": seconds,
        }
    )
    return tensor_file_content("checkpoint", tensors, {"about": about})


def checkpoint_paths(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, the oldest first; none where there is no such folder.

    Raises
    ------
    InputError
        The folder cannot be listed, so nobody knows whether there are any.
    """
    try:
        return [folder / name for name in sorted(names_in(folder)) if CHECKPOINT.fullmatch(name)]
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed: {error.strerror}; start again when it can be read") from None


@dataclass(frozen=True)
class Checkpoint:
    """What stands in a checkpoint's file, whose bytes are `content`; `best` and `seconds` as in `save_checkpoint`."""

    path: Path
    content: bytes
    tensors: Mapping[str, NDArray]
    identity: RunIdentity
    solver_state: str
    best: EarlyStopping | None
    seconds: float

    @property
    def step(self) -> int:
        """The step of the state."""
        return int(self.tensors[OF_STATE + "step"])

    def state(self, state_type: type[StateT]) -> StateT:
        """Return the solver's state.

        Raises
        ------
        InputError
            It is another solver's, or its fields are not exactly those of the type.
        """
        if self.solver_state != state_type.__name__:
            raise InputError(f"{self.path}: was made by another solver ({self.solver_state}); use another --out")
        return _record(state_type, self.tensors, OF_STATE, self.path)


def load_checkpoint(path: Path, content: bytes | None = None) -> Checkpoint:
    """Read a checkpoint, or take its content where it is at hand, and verify its checksum.

    Raises
    ------
    DamagedFile
        Any byte of it is not the one that was written.
    InputError
        It is whole, but of a version not known here.
    """
    if content is None:
        content = read_whole(path)
    tensors, metadata = tensors_in("checkpoint", path, bytearray(content))
    try:
        facts = json.loads(metadata["about"])
        if facts["format_version"] != FORMAT_VERSION:
            raise InputError(
                f"{path}: has format version {facts['format_version']}, and this program reads {FORMAT_VERSION}. "
                "Resume with the version of distsoftmax that wrote it, or give another --out to start anew"
            )
        shard_digests = tensors.pop("shard_digests")
        identity = RunIdentity(facts["options"], facts["data"], facts["arithmetic"], shard_digests)
        solver_state, seconds = facts["solver_state"], facts["seconds"]
    except (LookupError, ValueError, TypeError, RecursionError):
        raise DamagedFile(f"{path}: is damaged: it does not say what it is about") from None
    is_kept = any(name.startswith(OF_BEST) for name in tensors)
    best = _record(EarlyStopping, tensors, OF_BEST, path) if is_kept else None
    return Checkpoint(path, content, tensors, identity, solver_state, best, seconds)


def newest_checkpoint(folder: Path, warn: Callable[[str], None]) -> Checkpoint | None:
    """Return the newest checkpoint that is whole; each damaged one passed over is reported through `warn`.

    Raises
    ------
    InputError
        The folder cannot be listed, or a checkpoint cannot be read or is of a version not known here.
    """
    paths = checkpoint_paths(folder)
    for path in reversed(paths):
        try:
            return load_checkpoint(path)
        except DamagedFile as error:
            warn(f"warning: {error}; it is passed over")
    if paths:
        warn(f"warning: no checkpoint in {folder} is whole; the run starts anew")
    return None


def broadcast_checkpoint(own: Checkpoint | None, cluster: Communicator, root: int = 0) -> Checkpoint | None:
    """Return the checkpoint that rank `root` has on every rank; None where it has none. Collective."""
    path = b"" if own is None else str(own.path).encode()
    path = cluster.broadcast_bytes(path, root)
    if not path:
        return None
    content = cluster.broadcast_bytes(None if own is None else own.content, root)
    if own is not None and cluster.rank == root:
        return own
    return load_checkpoint(Path(path.decode()), content)  # also where this rank has an older one


def _flattened(record: object, prefix: str) -> dict[str, NDArray]:
    """Return the fields of a record by their names, those of a record within after its own; None is left out."""
    tensors: dict[str, NDArray] = {}
    for item in fields(record):  # type: ignore[arg-type]
        name, value = prefix + item.name, getattr(record, item.name)
        if is_dataclass(value):
            tensors |= _flattened(value, name + ".")
        elif value is not None:
            # ascontiguousarray makes scalars one-dimensional; their own shape tells them from arrays when they are read
            array = np.asarray(value)
            tensors[name] = np.ascontiguousarray(array).reshape(array.shape)
    return tensors


def _record(record_type: type[Record], tensors: Mapping[str, NDArray], prefix: str, path: Path) -> Record:
    """Return the record that `_flattened` has made tensors of.

    Raises
    ------
    InputError
        The fields of the type are not exactly those in the file.
    """
    unknown = {name: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    missing: list[str] = []
    values = _take_fields(record_type, unknown, prefix, missing)
    if missing or unknown:
        lists = (
            ", ".join(sorted(name.removeprefix(prefix) for name in names)) or "none" for names in (missing, unknown)
        )
        raise InputError(
            "{}: its fields are not those of {}; missing: {}; unknown: {}. Resume with the version of distsoftmax that "
            "wrote it, or give another --out to start anew".format(path, record_type.__name__, *lists)
        )
    return record_type(**values)


def _take_fields(record_type: type, tensors: dict[str, NDArray], prefix: str, missing: list[str]) -> dict[str, Any]:
    """Return the values of a record's fields, taken out of the tensors; names that lack go to `missing`."""
    types = get_type_hints(record_type)
    values: dict[str, Any] = {}
    for item in fields(record_type):
        name, kind = prefix + item.name, types[item.name]
        inner = next((member for member in (kind, *get_args(kind)) if is_dataclass(member)), None)
        if item.default is None and not any(key == name or key.startswith(name + ".") for key in tensors):
            values[item.name] = None
        elif isinstance(inner, type):
            inner_values = _take_fields(inner, tensors, name + ".", missing)
            values[item.name] = None if missing else inner(**inner_values)
        elif name in tensors:
            tensor = tensors.pop(name)
            values[item.name] = tensor if tensor.ndim else tensor.item()
        else:
            missing.append(name)
    return values
