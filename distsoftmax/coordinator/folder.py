"""Where the results of a run or of a path go, and the options that go on with them."""

from __future__ import annotations

import os
from pathlib import Path

import tomli_w

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.config import TrainConfig
from distsoftmax.config.file_paths import lasting
from distsoftmax.coordinator.rank_0 import on_rank_0
from distsoftmax.durable import make_folder, remove_leftovers
from distsoftmax.errors import InputError
from distsoftmax.run_folder import new_folder
from distsoftmax.scratch import MEMORY, is_unused, remove_private_folder, warm_folder


def choose_folder(config: TrainConfig, cluster: Communicator) -> Path:
    """Return the folder of results, the same on every rank. Collective.

    Raises
    ------
    InputError
        On every rank: it cannot be made where it was asked for, or the options cannot be written down.
    """

    def checked() -> Path:
        folder = Path(config.run.out or new_folder())
        _refuse_what_cannot_be_made(folder)
        resuming_options(config)  # what cannot be written down is found before the data are read
        return folder

    return on_rank_0(cluster, checked)


def make_results_folder(folder: Path, wanted: Path) -> None:
    """Make a folder of results, and clear it of files that a crash has left half-written.

    Parameters
    ----------
    wanted : Path
        What the user has asked for, which holds it.

    Raises
    ------
    InputError
        It cannot be made.
    """
    try:
        make_folder(folder)
    except OSError as error:
        raise InputError(f"--out {wanted}: cannot be made: {error.strerror}") from None
    remove_leftovers(folder)


def resuming_options(config: TrainConfig) -> bytes:
    """Return the content of a TOML file that resumes what its folder holds, from anywhere, also where it was moved.

    Raises
    ------
    InputError
        Paths count from a working directory whose name is not UTF-8, as TOML is.
    """
    settings = {
        part: {name: lasting(name, value) for name, value in options.items()}
        for part, options in config.sections().items()
    }
    settings["run"] |= {"out": os.curdir, "resume": "auto"}
    settings["run"].pop("deadline", None)  # it will have passed
    try:
        return tomli_w.dumps(settings).encode()
    except UnicodeEncodeError:
        raise InputError(
            f"the working directory {os.getcwd()!r} is not UTF-8; rename it, or name absolute paths"
        ) from None


def forget_warm(config: TrainConfig, folder: Path, error: BaseException | None) -> None:
    """Remove what this node keeps for a restart, if the run has ended in order, or it keeps nothing. Not collective."""
    if not config.run.warm:
        return
    for root in (config.data.scratch_folder, MEMORY):
        kept = warm_folder(root, folder)
        if kept is not None and (error is None or is_unused(kept)):
            remove_private_folder(kept)


def _refuse_what_cannot_be_made(folder: Path) -> None:
    """Refuse a folder that could not be made, before hours are spent on what should go into it."""
    nearest = folder
    while not os.path.lexists(nearest) and nearest != nearest.parent:
        nearest = nearest.parent
    if nearest.is_symlink() and not nearest.exists():
        target = os.readlink(nearest)
        raise InputError(
            f"--out {folder}: {nearest} is a link to {target}, which does not exist; make that folder, or name another"
        )
    if not nearest.is_dir():
        raise InputError(f"--out {folder}: {nearest} is a file; name a folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(f"--out {folder}: {nearest} is not writable; name another folder")
    try:
        for name in (folder, *(nearest / part for part in folder.parts)):
            name.exists()
    except OSError as error:
        raise InputError(f"--out {folder}: cannot be made: {error.strerror}; name another folder") from None
