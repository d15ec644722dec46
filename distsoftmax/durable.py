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


def write_atomically(path: Path, *content: bytes | memoryview) -> None:
    """Write a file so that a crash at any instant leaves the old one or the new one, and the new one stays.

    A temporary file in the same folder, fsync, `os.replace`, fsync of the folder.

    Parameters
    ----------
    path : Path
        A symbolic link is replaced, not followed.
    content : bytes or memoryview
        One after the other.

    Raises
    ------
    OutputError
        The file could not be written; the old one is as it was.

    Examples
    --------
    >>> path = Path("greeting.txt")
    >>> write_atomically(path, b"hello, ", b"world")
    >>> path.read_text()
    'hello, world'
    """
    temporary = _temporary(path)
    try:
        with temporary.open("wb") as file:
            for buffer in content:
                file.write(buffer)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise OutputError(f"{path}: could not be written: {error.strerror}{remedy(error)}") from None


def require_writable(path: Path) -> None:
    """Make the temporary file that `write_atomically` needs, and remove it.

    Raises
    ------
    OSError
        The folder is missing or closed, or the name too long.
    """
    temporary = _temporary(path)
    temporary.touch()
    temporary.unlink()


def remedy(error: OSError) -> str:
    """Say what helps against an error at writing, where that is known."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return "; free some space and start again" if full else ""


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, so that their names survive a power cut, too."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync_folder(path.parent)


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


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")
