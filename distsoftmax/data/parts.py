"""The parts of a source: from the words of a user to files, in an order that is the same for everyone."""

from __future__ import annotations

import glob
import itertools
import os
import stat
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar
from urllib.parse import unquote

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.data.remote import WILDCARDS, is_hidden, is_remote, local_words, masked
from distsoftmax.errors import InputError

NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
Seen = TypeVar("Seen")
Keys: TypeAlias = "tuple[tuple[str, str | None], ...]"


@dataclass(frozen=True)
class FileState:
    """What tells that a file has changed: size and time of change, as when it was scanned; and which file it is.

    `keys` are the columns in the names of its folders, see `keys_of`.
    """

    path: str
    size: int
    modified: int  # nanoseconds
    inode: int
    keys: Keys = ()

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


def find_parts(words: tuple[str, ...], cluster: Communicator, scratch: str | None = None) -> tuple[FileState, ...]:
    """Return the files that the words name, in their order; those of a folder or a glob by name. Collective.

    Files whose names begin with a dot or an underscore are left out of folders and globs, as other tools write such
    beside their parts (_SUCCESS, .crc). Folders named KEY=VALUE are searched, too, as Hive, Spark, pandas and pyarrow
    write them. Rank 0 looks, so that all have the same list. Then each rank opens its own files of the list: a thousand
    ranks do not open a thousand files each. A URL stands for its copies in scratch, see `remote`.

    Raises
    ------
    InputError
        On every rank: nothing is there, two parts have different keys, or a rank cannot open a file.
    """
    if any(map(is_remote, words)):
        words = local_words(words, scratch or tempfile.gettempdir(), cluster)
    named: list[tuple[str, Keys]] = []
    with cluster.agreement():
        if cluster.rank == 0:
            for word in words:
                named += [(path, keys_of(path, word)) for path in expand(word)]
            _require_same_keys(named)
    named = cluster.allgather(named)[0]
    states = of_each_part(len(named), lambda number: FileState.of(named[number][0]), cluster)
    states = _as_seen_from_here(states, cluster)
    return tuple(replace(state, keys=keys) for state, (_, keys) in zip(states, named, strict=True))


def of_each_part(n_parts: int, look: Callable[[int], Seen], cluster: Communicator) -> list[Seen]:
    """Return what `look` says of each part, by its number; the ranks divide the parts among them. Collective."""
    own: list[Seen] = []
    with cluster.agreement():
        own += map(look, range(cluster.rank, n_parts, cluster.size))
    gathered = cluster.allgather(own)
    return [gathered[number % cluster.size][number // cluster.size] for number in range(n_parts)]


def keys_of(path: str, word: str) -> Keys:
    """Return the keys and values in the names of the folders that lead from what a user named to a part.

    Of a glob these are the folders from its first wildcard on. A value that is empty, or says so in Hive's way, is
    missing.

    Examples
    --------
    >>> keys_of("d/year=2026/kind=a%2Fb/part-0.csv", "d")
    (('year', '2026'), ('kind', 'a/b'))
    """
    names = word.rstrip("/").split("/")
    if not os.path.isdir(word):
        names = list(itertools.takewhile(lambda name: not any(mark in name for mark in WILDCARDS), names[:-1]))
    folders = [name.partition("=") for name in path.split("/")[len(names) : -1] if "=" in name]
    values = [(unquote(key), unquote(value)) for key, _, value in folders]
    return tuple((key, None if value in ("", NO_VALUE) else value) for key, value in values)


def _require_same_keys(named: Sequence[tuple[str, Keys]]) -> None:
    for path, keys in named:
        first_path, first = named[0]
        names, expected = [key for key, _ in keys], [key for key, _ in first]
        if names != expected:
            own, of_first = (f"folders for {', '.join(of)}" if of else "no such folders" for of in (names, expected))
            raise InputError(
                f"{path}: lies in {own}, but {first_path} in {of_first}; give parts of one table, with the same "
                "KEY=VALUE folders"
            )
        if len(set(names)) < len(names):
            raise InputError(f"{path}: two of its folders have one key; rename one of them")


def _as_seen_from_here(states: list[FileState], cluster: Communicator) -> list[FileState]:
    """Return the same states where all nodes share the files; where each has copies, with the times of its own.

    Collective. The first file tells which it is.
    """
    shared = not states or _own_time(states[0]) == states[0]
    return states if all(cluster.allgather(shared)) else list(map(_own_time, states))


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
        A folder without parts, with parts of two tables, or that cannot be listed; or a glob that matches nothing.
    """
    if os.path.isdir(word):
        paths = _parts_in(word)
        if not paths:
            raise InputError(f"{word}: is a folder with no parts in it")
        return paths
    if os.path.exists(word) or not any(mark in word for mark in WILDCARDS):
        return [word]
    paths = sorted(path for path in glob.glob(word) if not is_hidden(os.path.basename(path)))
    if not paths:
        raise InputError(f"{word}: matches no file (seen from {os.getcwd()})")
    return [part for path in paths for part in (_parts_in(path) if _is_key(path) else [path])]


def _parts_in(folder: str) -> list[str]:
    """Return the files of a folder and of its folders that are named KEY=VALUE, by name."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed: {error.strerror}; name the files in it one by one") from None
    paths = [os.path.join(folder, name) for name in names if not is_hidden(name)]
    keyed = [path for path in paths if _is_key(path)]
    if not keyed:
        return paths
    for path in paths:
        if path not in keyed:
            raise InputError(
                f"{folder}: holds both {os.path.basename(keyed[0])}, a folder of a partitioned table, and "
                f"{os.path.basename(path)}, which is none; name the parts of one table"
            )
    return [part for path in keyed for part in _parts_in(path)]


def _is_key(path: str) -> bool:
    return "=" in os.path.basename(path) and os.path.isdir(path)


def called(words: tuple[str, ...]) -> str:
    """Return what an error calls a source of several parts."""
    first = masked(words[0])
    return first if len(words) == 1 else f"{first} and {len(words) - 1} more"
