"""Parts that are no files of this machine, as s3://bucket/folder: copied to scratch through fsspec, once a node.

Rank 0 lists them; the ranks of a node divide the copying. A copy bears the name of its part, in a folder of this job
that nobody else can look into, and is removed when the job ends. Where a crash leaves it, the next job that copies
removes it a day later.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from distsoftmax.errors import InputError
from distsoftmax.scratch import private_folder, remove_abandoned, remove_private_folder

if TYPE_CHECKING:
    from distsoftmax.cluster.communicator import Communicator

URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
SECRET = re.compile(r"(signature|[^a-z]sig|token|secret|password|credential|access_?key|api_?key)[^=&]*=", re.I)
PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
WILDCARDS = ("*", "?", "[")  # in the names of parts
ATTEMPTS = 4  # to copy a part, or to list a folder
FIRST_PAUSE = 1.0  # seconds before the second attempt; each pause is twice as long as the one before
CHUNK_BYTES = 8 << 20  # copied at once; each counts as progress
Result = TypeVar("Result")

_folders: dict[str, Path] = {}  # of this process's copies, by scratch


@dataclass(frozen=True)
class RemotePart:
    """A part: where it is, and what is told of its content.

    `version` changes where the content does, as far as the file system tells.
    """

    url: str
    size: int | None
    version: str

    @classmethod
    def of(cls, url: str, about: Mapping[str, Any]) -> RemotePart:
        """Return the part of which a file system says so much."""
        version = " ".join(
            str(about[name]) for name in ("ETag", "etag", "mtime", "created", "LastModified") if name in about
        )
        return cls(url, about.get("size"), version)


def is_remote(word: str) -> bool:
    """Return whether a word of --data is a URL.

    Examples
    --------
    >>> is_remote("s3://bucket/d.csv"), is_remote("d.csv")
    (True, False)
    """
    return URL.match(word) is not None


def masked(word: str) -> str:
    """Return a URL as it may be shown: without name, password and query. Another word stays what it is.

    Examples
    --------
    >>> masked("https://me:secret@example.org/d.csv?sig=123")
    'https://example.org/d.csv'
    """
    if not is_remote(word):
        return word
    scheme, host, path, _ = _split(word)
    return f"{scheme}://{host}{path}"


def remote_parts(words: Sequence[str], cluster: Communicator) -> dict[str, list[RemotePart]]:
    """Return the parts that each URL among the words names, without reading them. Collective.

    Raises
    ------
    InputError
        On every rank: a package is missing, nothing is there, or it cannot be listed.
    """
    parts_of: dict[str, list[RemotePart]] = {}
    with cluster.agreement():
        if cluster.rank == 0:
            parts_of = {word: _listed(word) for word in words if is_remote(word)}
    return cluster.allgather(parts_of)[0]


def local_words(words: Sequence[str], scratch: str, cluster: Communicator) -> tuple[str, ...]:
    """Return the words with those that are URLs replaced by their copies in scratch. Collective.

    The copies lie as their parts do, so that folders, globs and KEY=VALUE folders keep their meaning.

    Raises
    ------
    InputError
        On every rank: a package is missing, nothing is there, it cannot be read, or scratch has no room for it.
    """
    parts_of = remote_parts(words, cluster)
    token = cluster.allgather(secrets.token_hex(8))[0]
    with cluster.agreement():
        folder = _folder(scratch, token)
    nodes = cluster.allgather((os.uname().nodename, str(folder)))
    own = [rank for rank, node in enumerate(nodes) if node == nodes[cluster.rank]]
    folders = {word: folder / _digest(repr(parts)) for word, parts in parts_of.items()}
    with cluster.agreement():
        copies = [(part, folders[word] / _copy_of(part.url)) for word, parts in parts_of.items() for part in parts]
        absent = [(part, path) for part, path in copies if not path.exists()]
        _require_room(scratch, sum(part.size or 0 for part, _ in absent))
    with cluster.agreement():
        for part, path in absent[own.index(cluster.rank) :: len(own)]:
            _copy(part, path, cluster)
    return tuple(str(folders[word] / _copy_of(word)) if word in folders else word for word in words)


def _folder(scratch: str, token: str) -> Path:
    """Return the folder for this process's copies; all processes of a job name it alike."""
    if scratch not in _folders:
        remove_abandoned(scratch)
        _folders[scratch] = private_folder(scratch, Path(token))
        atexit.register(remove_private_folder, _folders[scratch])
    return _folders[scratch]


def _listed(word: str) -> list[RemotePart]:
    """Return the parts that a URL names: itself, the files of a folder, or those that a glob matches."""
    _refuse_secrets(word)
    files, path = _file_system(word)

    def look() -> list[RemotePart]:
        if word.lower().startswith("http"):  # which knows no folders
            return [RemotePart.of(word, files.info(path))]
        if any(mark in path for mark in WILDCARDS):
            by_name = files.glob(path, detail=True)
        elif files.isdir(path) and not files.isfile(path):
            by_name = files.find(path, detail=True)
        else:
            return [RemotePart.of(word, files.info(path))]
        parts = [
            RemotePart.of(files.unstrip_protocol(name), about)
            for name, about in sorted(by_name.items())
            if about.get("type") != "directory" and not any(map(is_hidden, _below(name, path)))
        ]
        if not parts:
            raise InputError(f"{masked(word)}: matches no file, or is a folder with no parts in it")
        return parts

    return _attempted(f"{masked(word)}: cannot be listed", look)


def _below(name: str, path: str) -> Iterable[str]:
    """Return the folders and the name that lead from what was asked for to a file."""
    fixed = path.rstrip("/").split("/")
    fixed = fixed[: next((at for at, part in enumerate(fixed) if any(mark in part for mark in WILDCARDS)), len(fixed))]
    return name.split("/")[len(fixed) :]


def is_hidden(name: str) -> bool:
    """Return whether a folder or a glob stands without this file, which other tools write beside their parts."""
    return name.startswith(".") or (name.startswith("_") and "=" not in name)


def _copy_of(url: str) -> str:
    """Return where the copy of a URL lies within the folder of copies."""
    scheme, host, path, query = _split(url)
    names = [scheme, host, *path.split("/")]
    if query:
        names.insert(-1, _digest(query))
    return "/".join(name.replace("..", "_") for name in names if name)


def _split(url: str) -> tuple[str, str, str, str]:
    """Return scheme, host, path and query of a URL; only on the web does a question mark begin a query."""
    scheme, _, rest = url.partition("://")
    rest, _, query = rest.partition("?") if scheme.lower() in ("http", "https") else (rest, "", "")
    host, slash, path = rest.partition("/")
    return scheme, host.rpartition("@")[2], slash + path, query


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _file_system(url: str) -> tuple[Any, str]:
    scheme = url.partition("://")[0].lower()
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise InputError(
            f"{masked(url)}: a URL is read by fsspec, which is not installed: pip install 'distsoftmax[remote]'"
        ) from None
    try:
        files, path = url_to_fs(url)
    except ImportError:
        package = PACKAGES.get(scheme, "distsoftmax[remote]")
        raise InputError(f"{masked(url)}: {scheme}:// needs another package: pip install '{package}'") from None
    except ValueError:
        raise InputError(f"{masked(url)}: fsspec knows no {scheme}://; give a file, or another URL") from None
    return files, str(path)


def _refuse_secrets(url: str) -> None:
    """Refuse a URL with a password or a signature in it: it would stand in config.toml and in lists of processes."""
    query = _split(url)[3]
    if "@" in url.partition("://")[2].partition("/")[0] or SECRET.search(f"?{query}"):
        raise InputError(
            f"{masked(url)}: the URL holds a password or a signature, which a run would write down; leave it out, and "
            "let fsspec find it (in the environment, or ~/.config/fsspec), or download the file first"
        )


def _require_room(scratch: str, n_bytes: int) -> None:
    free = shutil.disk_usage(scratch).free
    if free < n_bytes:
        raise InputError(
            f"--scratch {scratch}: has {free >> 20} MiB free, and {(n_bytes >> 20) + 1} MiB are needed for copies of "
            "the parts; name a folder on a larger disk"
        )


def _copy(part: RemotePart, path: Path, cluster: Communicator) -> None:
    """Copy a part; what is there in the end is whole."""

    def copy() -> None:
        files, name = _file_system(part.url)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{secrets.token_hex(4)}")
        with files.open(name, "rb") as source, unfinished.open("wb") as target:
            while chunk := source.read(CHUNK_BYTES):
                target.write(chunk)
                cluster.n_shards_done += 1  # progress, for the watchdog
        size = unfinished.stat().st_size
        if part.size is not None and size != part.size:
            unfinished.unlink()
            raise OSError(f"{size} of {part.size} bytes came")
        unfinished.replace(path)

    _attempted(f"{masked(part.url)}: cannot be read", copy)


def _attempted(what: str, work: Callable[[], Result]) -> Result:
    """Return what some work returns, tried again where it fails, unless it says that nothing is there."""
    for attempt in range(ATTEMPTS):
        try:
            return work()
        except FileNotFoundError:
            raise InputError(f"{what}: there is no such file") from None
        except PermissionError:
            raise InputError(
                f"{what}: access is denied; see to the credentials, which fsspec finds by itself"
            ) from None
        except InputError:
            raise
        except Exception as error:  # each file system has its own
            if attempt == ATTEMPTS - 1:
                text = re.sub(rf"{URL.pattern}[^\s'\"]+", lambda match: masked(match[0]), str(error))
                raise InputError(f"{what}, after {ATTEMPTS} attempts: {type(error).__name__}: {text}") from None
            time.sleep(FIRST_PAUSE * 2**attempt)
    raise AssertionError
