"""Files that are whole or not there, whenever the machine stops."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from pathlib import Path

from distsoftmax.errors import OutputError

OUR_TEMPORARY = re.compile(
    r"\.(config\.toml|metrics\.jsonl|path\.json|model\.safetensors|step-\d+\.safetensors)\.\d+\.tmp"
)


def write_atomically(path: Path, *pieces: bytes | memoryview) -> None:
    """Write a file so that a crash at any instant leaves the old one or the new one, and the new one stays.

    A temporary file in the same folder, fsync, `os.replace`, fsync of the folder.

    Raises
    ------
    OutputError
        The file could not be written; the old one is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise OutputError(f"{path}: could not be written: {error.strerror}{remedy(error)}") from None


def remedy(error: OSError) -> str:
    """Say what helps against an error at writing, where that is known."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return "; free some space and resume" if full else ""


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, so that their names survive a power cut, too."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for place in missing:
        sync_folder(place.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder as lasting as the files."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that a crash of `write_atomically` left in a folder."""
    for leftover in folder.iterdir():
        if OUR_TEMPORARY.fullmatch(leftover.name):
            with contextlib.suppress(OSError):
                leftover.unlink()
