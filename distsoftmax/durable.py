"""Files that are whole or not there, whenever the machine stops."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from distsoftmax.errors import OutputError

OUR_TEMPORARY = re.compile(
    r"\.(config\.toml|metrics\.jsonl|(path|result|mlflow)\.json|model\.safetensors|step-\d+\.safetensors)\.\d+\.tmp"
)
REMEDIES = {
    errno.ENOSPC: "free some space and start again",
    errno.EDQUOT: "free some space and start again",
    errno.ENOENT: "its folder was removed or renamed; leave a run's folder where it is, and start again",
    errno.ELOOP: "a symbolic link is not followed there; remove it",
}


def write_atomically(path: Path, *content: bytes | memoryview) -> None:
    """Write a file so that a crash at any instant leaves the old one or the new one, and the new one stays.

    A temporary file in the same folder, fsync, `os.replace`, fsync of the folder. The file has the permissions that the
    user's umask leaves.

    Parameters
    ----------
    path : Path
        A symbolic link is replaced, not followed, nor is one in the place of the temporary file.
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
    with whole_file(path) as file:
        for buffer in content:
            file.write(buffer)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Write a file as `write_atomically` does, piece by piece in a block; what the block raises leaves the old one.

    Raises
    ------
    OutputError
        The file could not be written; the old one is as it was.
    """
    temporary = _temporary(path)
    try:
        with os.fdopen(_open_new(temporary), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise OutputError(f"{path}: could not be written: {error.strerror}{remedy(error)}") from None
        raise


def require_writable(path: Path) -> None:
    """Make the temporary file that `write_atomically` needs, and remove it.

    Raises
    ------
    OSError
        The folder is missing or closed, or the name too long.
    """
    temporary = _temporary(path)
    os.close(_open_new(temporary))
    temporary.unlink()


def open_regular(path: Path, flags: int) -> int:
    """Open a file, and return its descriptor; where it is made, it has the permissions that the umask leaves.

    Raises
    ------
    OSError
        It cannot be opened, or something else stands in its place: a symbolic link, which is not followed, or a pipe,
        which is not waited for.
    """
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "Something else than a regular file stands in its place")
    return descriptor


def remedy(error: OSError) -> str:
    """Say what helps against an error at writing, where that is known."""
    return f"; {REMEDIES[error.errno]}" if error.errno in REMEDIES else ""


def make_folder(folder: Path) -> list[Path]:
    """Make a folder and those above it, so that their names survive a power cut, too.

    Returns
    -------
    list of Path
        Those that were missing, the innermost first.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync_folder(path.parent)
    return missing


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


def _open_new(temporary: Path) -> int:
    """Make a temporary file that was not there, and return its descriptor; a link in its place is not followed."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        return os.open(temporary, flags, 0o666)
    except FileExistsError:  # left by a process of the same number, or planted
        temporary.unlink()
        return os.open(temporary, flags, 0o666)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")
