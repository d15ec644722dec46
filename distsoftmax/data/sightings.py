"""Whether all nodes see the same files: a path may lead to nothing on some of them, or to something else."""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Callable, Mapping, Sequence

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.cluster.rank_table import who_has_what
from distsoftmax.config import model_file
from distsoftmax.config.file_paths import is_inline
from distsoftmax.data.parts import expand
from distsoftmax.data.remote import is_remote
from distsoftmax.errors import InputError

# the options that name files, and what becomes of a name that a user has given
FILES: dict[str, Callable[[str], str]] = dict.fromkeys(("data", "labels", "valid", "valid-labels"), str)
FILES |= {"class-weight": str, "init": lambda name: str(model_file(name)), "model": lambda name: str(model_file(name))}
PASSED_ON = ("/dev/fd/", "/proc/self/fd/")  # what a shell has opened for one process
HEAD_BYTES = 1 << 14  # of a file that are compared
MOST_PARTS = 64  # of a folder, or words of an option, that are looked at on each node


def require_same_files(options: Mapping[str, object], cluster: Communicator) -> None:
    """Compare what each node sees of the files that options name. Collective.

    One rank looks for all that share a node and a working directory: a thousand ranks do not look a thousand times.
    Times do not count, so that each node may have a copy of its own; what is missing everywhere is left to those who
    read it.

    Parameters
    ----------
    options : mapping
        By their names on the command line, as `resolved_options` returns them; equal on every rank.

    Raises
    ------
    InputError
        On every rank, with a table of who sees what.
    """
    words = [(name, word) for name in FILES for word in _some(_words(options.get(name))) if _is_shared(name, word)]
    if cluster.size == 1 or not words:
        return
    own = os.uname().nodename, os.getcwd()
    origins = cluster.allgather(own)
    is_first = origins.index(own) == cluster.rank
    gathered = cluster.allgather([sighting(FILES[name](word)) for name, word in words] if is_first else [])
    of_ranks = [gathered[origins.index(origin)] for origin in origins]
    for number, (name, word) in enumerate(words):
        sightings = [of_rank[number] for of_rank in of_ranks]
        if len(set(sightings)) == 1:
            continue
        texts = [text for text, _ in sightings]
        if len(set(texts)) == 1:  # they differ by their content alone
            texts = [f"{text}, CRC-32 {digest:08x}" for text, digest in sightings]
        rows = [[folder, text] for (_, folder), text in zip(origins, texts, strict=True)]
        table = who_has_what(["working directory", "sees"], rows, [node for node, _ in origins])
        raise InputError(
            f"--{name} {word}: not all ranks see the same; put it on a file system that all nodes share, or copy it to "
            f"the same path on each of them, as by rsync, and start all ranks in the same folder\n{table}"
        ).on_all_ranks()


def sighting(path: str) -> tuple[str, int]:
    """Return what is seen of a file, a folder or a glob from here, and a checksum of its names, sizes and first bytes.

    Not collective. Nothing but regular files is opened: to open a pipe may take for ever.

    Examples
    --------
    >>> sighting("/no/such/file")
    ('no such file', 0)
    """
    try:
        paths = expand(path)
        if paths == [path]:
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode):
                return "no regular file", 0
            return f"a file of {status.st_size:,} bytes", zlib.crc32(_head(path))
        kind = f"a folder of {len(paths)} parts" if os.path.isdir(path) else f"{len(paths)} files"
        return kind, _checksum(paths)
    except FileNotFoundError:
        return "no such file", 0
    except OSError as error:
        return f"cannot be read: {error.strerror}", 0
    except InputError as error:  # no parts in a folder, or none that a glob matches
        return f"nothing: {str(error).partition(': ')[2].partition(' (')[0]}", 0


def _checksum(paths: Sequence[str]) -> int:
    """Return a checksum of the names of files, and of the sizes and the first bytes of some, evenly chosen."""
    value = zlib.crc32("\0".join(map(os.path.basename, paths)).encode(errors="surrogateescape"))
    for path in _some(paths):
        status = os.stat(path)
        value = zlib.crc32(str(status.st_size).encode(), value)
        if stat.S_ISREG(status.st_mode):
            value = zlib.crc32(_head(path), value)
    return value


def _some(texts: Sequence[str]) -> Sequence[str]:
    return texts[:: max(1, -(-len(texts) // MOST_PARTS))]


def _head(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read(HEAD_BYTES)


def _words(value: object) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, tuple) else () if value is None else (str(value),)


def _is_shared(name: str, word: str) -> bool:
    is_word = name == "class-weight" and is_inline(word)
    return not word.startswith(PASSED_ON) and not is_remote(word) and not is_word
