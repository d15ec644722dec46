"""Folders of this user alone in memory or on a disk of the node, for what shall outlive a crash, but not the run."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import shutil
import stat
import time
from pathlib import Path

from distsoftmax.errors import OutputError

MEMORY = Path("/dev/shm")  # the file system in memory, on Linux
LOCK = "in-use"  # the file in each folder that the processes which use it hold a shared lock on
ABANDONED_SECONDS = 86_400.0  # since the folder of a crashed run was touched last, until it is removed
LOCK_SECONDS = 10.0  # to wait for a process that is removing the folder
REMEDY = "remove it, or name another folder with --scratch"


def private_folder(root: str | Path, run: Path) -> Path:
    """Make the folder of a run in scratch, where it is not there yet, and keep others from removing it. Not collective.

    Any number of processes may ask for it at once. It counts as in use until this process ends, however it ends.

    Parameters
    ----------
    root : str or Path
        A folder that exists, such as /tmp; others may be able to write to it.
    run : Path
        The run's --out.

    Returns
    -------
    Path
        root/distsoftmax-<uid>/<digest of the run's absolute path>. Nobody else can look into it.

    Raises
    ------
    OutputError
        It cannot be made, or what bears its name belongs to somebody else, is a link, or is open to others.

    Examples
    --------
    >>> folder = private_folder(".", Path("runs/wine"))
    >>> folder == private_folder(".", Path("runs/wine")) != private_folder(".", Path("runs/other"))
    True
    """
    own = _folder_of_user(root)
    folder = own / hashlib.sha256(os.fsencode(os.path.abspath(run))).hexdigest()[:16]
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            _make_private(own)
            _make_private(folder)
            if _lock(folder, fcntl.LOCK_SH) is not None:  # its descriptor stays open: the lock goes with the process
                os.utime(folder)
                return folder
        except OSError as error:
            if not isinstance(error, FileNotFoundError) or not os.path.isdir(root):
                raise OutputError(
                    f"{own}: cannot be used: {error.strerror}; name a folder that can, by --scratch"
                ) from None
        # another process has removed it since it was made, or is about to
        if time.monotonic() > deadline:
            raise OutputError(f"{folder}: has been locked by another process for {LOCK_SECONDS:.0f} s; {REMEDY}")
        time.sleep(0.01)


@functools.cache
def warm_folder(root: str | Path, run: Path) -> Path | None:
    """Return the private folder of a run, made once for a process; None where it cannot be. Not collective."""
    try:
        remove_abandoned(root)
        return private_folder(root, run)
    except OutputError:
        return None


def is_unused(folder: Path) -> bool:
    """Return whether nothing is kept in a private folder."""
    try:
        return os.listdir(folder) == [LOCK]
    except OSError:
        return False


def remove_private_folder(folder: Path) -> None:
    """Remove the folder of a run that has ended, and all in it. Not collective; any number of processes may call it.

    What is mapped from it stays usable. Whatever fails is left to `remove_abandoned`.
    """
    aside = folder.with_name(f"{folder.name}.{os.getpid()}")  # so that nobody finds a part of it
    with contextlib.suppress(OSError):
        os.rename(folder, aside)
    shutil.rmtree(aside, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()  # if it is empty


def remove_abandoned(root: str | Path) -> None:
    """Remove the folders that crashed runs of this user have left: no process uses them, and they are a day old."""
    own = _folder_of_user(root)
    with contextlib.suppress(OSError, OutputError):
        _require_private(own)
        for folder in [Path(entry.path) for entry in os.scandir(own) if entry.is_dir(follow_symlinks=False)]:
            with contextlib.suppress(OSError):
                _remove_if_abandoned(folder)


def _remove_if_abandoned(folder: Path) -> None:
    if time.time() - folder.stat().st_mtime <= ABANDONED_SECONDS:  # before a lock is made in it, which touches it
        return
    descriptor = _lock(folder, fcntl.LOCK_EX)
    if descriptor is not None:
        remove_private_folder(folder)
        os.close(descriptor)


def _folder_of_user(root: str | Path) -> Path:
    return Path(root) / f"distsoftmax-{os.geteuid()}"


def _make_private(folder: Path) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    _require_private(folder)


def _require_private(folder: Path) -> None:
    status = os.lstat(folder)
    if not stat.S_ISDIR(status.st_mode):
        raise OutputError(f"{folder}: is a link or a file, and no folder of ours; {REMEDY}")
    if status.st_uid != os.geteuid():
        raise OutputError(f"{folder}: belongs to user {status.st_uid}, not to user {os.geteuid()}; {REMEDY}")
    if status.st_mode & 0o077:
        raise OutputError(f"{folder}: is open to other users; {REMEDY}")


def _lock(folder: Path, kind: int) -> int | None:
    """Lock a folder; return the descriptor that holds the lock.

    None where the folder is locked otherwise, or is not there any more.
    """
    path = folder / LOCK
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), os.stat(path)):
            return descriptor
    except BlockingIOError:
        pass
    except OSError:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None
