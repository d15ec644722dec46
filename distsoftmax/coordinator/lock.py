"""A folder of results belongs to one run at a time: a lock that ends with the process that holds it.

It is the kernel's, on a file in the folder, so that no crash leaves it behind. flock(2) holds between the nodes of an
NFS, too, where Linux makes a lock of fcntl(2) of it (nfs(5), `local_lock`); on Lustre it takes the mount option
`flock`. What is not locked there by flock may be by lockf, which is tried next.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from weakref import finalize

from distsoftmax.durable import make_folder, open_regular, remedy
from distsoftmax.errors import InputError
from distsoftmax.run_folder import HELD, LOCK, lock_content, whole_folder

PATIENCE = 5.0  # seconds that are waited for a process of this node: one that was killed may not be gone yet
PATIENCE_ELSEWHERE = 100.0  # for one of another node: an NFS server keeps a dead node's locks for a lease, 90 seconds
ENDING_SECONDS = 30.0  # that a run whose network is lost may take to end, beyond its --timeout
PAUSE = 0.05  # seconds between two tries


class FolderLock:
    """The lock of a folder. Rank 0 alone takes it.

    A run of a path has the path's lock: the path holds it for all its runs, and nothing else may change one of them.

    Parameters
    ----------
    folder : Path
    note : callable
        Takes a text for the user.
    timeout : float
        Seconds after which a run without progress ends: one on a node whose network is lost holds the folder so long.
    """

    def __init__(self, folder: Path, note: Callable[[str], None], timeout: float = 0.0) -> None:
        self._folder = folder
        self._note = note
        self._timeout = timeout
        self._release: Callable[[], object] | None = None

    def take(self) -> None:
        """Make the folder where it is missing, and lock it; the second time nothing is done.

        A process that has just been killed is waited for, so this is also how a rank takes over from another.

        Raises
        ------
        InputError
            The folder cannot be made, or another run holds it.
        """
        if self._release is not None:
            return
        whole = whole_folder(self._folder)
        self._path = whole / LOCK
        try:
            made = make_folder(whole)
        except OSError as error:
            raise InputError(f"--out {self._folder}: cannot be made: {error.strerror}") from None
        try:
            descriptor = self._waited_for()
        except InputError:
            _remove(made)
            raise
        self._release = finalize(self, _release, descriptor, self._path, made)
        with contextlib.suppress(OSError):  # a full disk is told of by what has to be written there
            os.ftruncate(descriptor, 0)
            started = datetime.now().isoformat(" ", "seconds")
            holder = {"host": os.uname().nodename, "process": os.getpid(), "started": started}
            os.pwrite(descriptor, json.dumps(holder).encode() + b"\n", 0)

    def release(self) -> None:
        """Give the folder free, where it is held; if nothing has come into it that was made for it, it is removed."""
        if self._release is not None:
            self._release()
            self._release = None

    def _waited_for(self) -> int:
        start, noted = time.monotonic(), False
        elsewhere = max(PATIENCE_ELSEWHERE, self._timeout and self._timeout + ENDING_SECONDS)
        while True:
            descriptor = self._opened()
            if self._locked(descriptor):
                if _is_at(self._path, descriptor):
                    return descriptor
                os.close(descriptor)  # its last holder has removed it meanwhile
                continue
            holder = lock_content(descriptor)
            os.close(descriptor)
            is_here = holder.get("host") in (None, os.uname().nodename)
            if time.monotonic() - start > (PATIENCE if is_here else elsewhere):
                raise InputError(
                    f"--out {self._folder} is in use by another run, {_in_words(holder)}. Wait until it has ended, or "
                    f"name another folder. If that process is no more, as after its node was lost, remove {self._path}"
                )
            if not is_here and not noted and time.monotonic() - start > PATIENCE:
                noted = True
                self._note(
                    f"note: --out {self._folder} is in use, {_in_words(holder)}; waiting up to "
                    f"{elsewhere:.0f} s for it, in case its node was lost"
                )
            time.sleep(PAUSE)

    def _opened(self) -> int:
        try:
            return open_regular(self._path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise InputError(
                f"--out {self._folder}: its lock {self._path} cannot be opened: {error.strerror}"
                f"{remedy(error) or '; remove it, unless a run holds it, or name another folder'}"
            ) from None

    def _locked(self, descriptor: int) -> bool:
        """Return whether the lock is ours now; True, with a note, where the file system has none."""
        for lock in (fcntl.flock, fcntl.lockf):
            try:
                lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except OSError as error:
                if error.errno in HELD:
                    return False
        self._note(
            f"note: {self._folder} lies on a file system without locks; see to it that no other run has this --out"
        )
        return True


def _release(descriptor: int, path: Path, made: list[Path]) -> None:
    if _is_at(path, descriptor):
        with contextlib.suppress(OSError):
            path.unlink()
    os.close(descriptor)
    _remove(made)


def _remove(made: list[Path]) -> None:
    """Remove those of the folders that are empty, the innermost first."""
    with contextlib.suppress(OSError):
        for folder in made:
            folder.rmdir()


def _is_at(path: Path, descriptor: int) -> bool:
    """Return whether a path still leads to an open file."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except OSError:
        return False


def _in_words(holder: dict[str, object]) -> str:
    return "process {process} on {host}, since {started}".format_map(
        {"process": "of unknown number", "host": "an unknown node", "started": "an unknown time", **holder}
    )
