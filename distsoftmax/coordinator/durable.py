"""Files that are whole or not there, whenever the machine stops."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from distsoftmax.errors import OutputError


def write_atomically(path: Path, data: bytes) -> None:
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
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise OutputError(f"{path}: could not be written: {error.strerror}; free some space and resume") from None


def sync_folder(folder: Path) -> None:
    """Make the names in a folder as lasting as the files."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files that a crashed process left in a folder."""
    for leftover in folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            leftover.unlink()
