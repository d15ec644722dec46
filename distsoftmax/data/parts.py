"""The parts of a source: from the words of a user to files, in an order that is the same for everyone."""

from __future__ import annotations

import glob
import os
import stat
from dataclasses import dataclass, replace

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.errors import InputError

MAGIC = ("*", "?", "[")


@dataclass(frozen=True)
class FileState:
    """What tells that a file has changed: size and time of change, as when it was scanned; and which file it is."""

    path: str
    size: int
    modified: int  # nanoseconds
    inode: int

    @classmethod
    def of(cls, path: str) -> FileState:
        """Return a file's present state.

        Raises
        ------
        InputError
            It cannot be seen from here, cannot be read, or is no regular file.
        """
        try:
            status = os.stat(path)
            if stat.S_ISDIR(status.st_mode):
                raise InputError(f"{path}: is a folder within a folder of parts; name its files, as in '{path}/*'")
            if not stat.S_ISREG(status.st_mode):  # to open a pipe may take for ever
                raise InputError(
                    f"{path}: is a pipe or a device and no regular file, and can be read but once; write what it gives "
                    "to a file, and name that"
                )
            with open(path, "rb") as file:
                status = os.fstat(file.fileno())
        except FileNotFoundError:
            shell = "; write the output of <(...) to a file, and name that" if path.startswith("/dev/fd/") else ""
            raise InputError(f"{path}: no such file (seen from {os.getcwd()}){shell}") from None
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from None
        return cls(path, status.st_size, status.st_mtime_ns, status.st_ino)

    def require_unchanged(self) -> None:
        """Compare with the file as it is now. Cheap: one system call.

        Raises
        ------
        InputError
            It is not the file that was scanned.
        """
        try:
            status = os.stat(self.path)
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot be read any more, or not from this node: {error.strerror}; put it where "
                "every rank sees it"
            ) from None
        if (status.st_size, status.st_mtime_ns) != (self.size, self.modified):
            raise InputError(
                f"{self.path}: has changed since it was scanned, or is another file on this node; start again once it "
                "is complete"
            )


def find_parts(words: tuple[str, ...], cluster: Communicator) -> tuple[FileState, ...]:
    """Return the files that the words name, in their order; those of a folder or a glob by name. Collective.

    Files whose names begin with a dot or an underscore are left out of folders and globs, as other tools write such
    beside their parts (_SUCCESS, .crc). Rank 0 looks, so that all have the same list. Then each rank opens its own
    files of the list: a thousand ranks do not open a thousand files each.

    Raises
    ------
    InputError
        On every rank: nothing is there, or a rank cannot open a file.
    """
    paths: list[str] = []
    with cluster.agreement():
        if cluster.rank == 0:
            for word in words:
                paths += expand(word)
    paths = cluster.allgather(paths)[0]
    own: dict[str, FileState] = {}
    with cluster.agreement():
        for path in paths[cluster.rank :: cluster.size]:
            own[path] = FileState.of(path)
    states = {path: state for of_rank in cluster.allgather(own) for path, state in of_rank.items()}
    seen = _as_seen_from_here(states, cluster)
    return tuple(seen[path] for path in paths)


def _as_seen_from_here(states: dict[str, FileState], cluster: Communicator) -> dict[str, FileState]:
    """Return the same states where all nodes share the files; where each has copies, with the times of its own.

    Collective. The first file tells which it is.
    """
    first = next(iter(states), None)
    shared = first is None or _own_time(states[first]) == states[first]
    if all(cluster.allgather(shared)):
        return states
    return {path: _own_time(state) for path, state in states.items()}


def _own_time(state: FileState) -> FileState:
    try:
        status = os.stat(state.path)
    except OSError:
        return state  # to read it is an error that tells more
    return replace(state, modified=status.st_mtime_ns, inode=status.st_ino)


def expand(word: str) -> list[str]:
    """Return the files that a word names: itself, those of a folder, or those that a glob matches. Not collective.

    Raises
    ------
    InputError
        A folder without parts, or a glob that matches nothing.
    """
    if os.path.isdir(word):
        paths = [os.path.join(word, name) for name in sorted(os.listdir(word)) if name[0] not in "._"]
        if not paths:
            raise InputError(f"{word}: is a folder with no parts in it")
        return paths
    if os.path.exists(word) or not any(mark in word for mark in MAGIC):
        return [word]
    paths = sorted(path for path in glob.glob(word) if not os.path.basename(path).startswith((".", "_")))
    if not paths:
        raise InputError(f"{word}: matches no file (seen from {os.getcwd()})")
    return paths


def called(words: tuple[str, ...]) -> str:
    """Return what an error calls a source of several parts."""
    return words[0] if len(words) == 1 else f"{words[0]} and {len(words) - 1} more"
