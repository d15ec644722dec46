"""Prepared shards in files of node-local scratch: a run that is started again after a crash maps them.

Each shard has a file of its own, which is whole or not there, and says of itself which raw shard it was made of, by
which preparation. A file that is damaged, or not the one wanted, is as good as none. Nothing here raises an error for
want of a file: what is not kept is made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, astuple
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distsoftmax import __version__
from distsoftmax.arithmetic.library import VERSION
from distsoftmax.cluster.communicator import Communicator
from distsoftmax.config import DataConfig
from distsoftmax.data.facts import Facts, facts_in, preparation_digest
from distsoftmax.data.parts import FileState, find_parts
from distsoftmax.data.preparation import Preparation, PreparedShard
from distsoftmax.data.remote import remote_parts
from distsoftmax.data.shard_file import content_of, shard_in
from distsoftmax.data.spool import Spool
from distsoftmax.errors import InputError
from distsoftmax.tensor_file import Buffer, map_file

SHARD = ".shard"  # how the files' names end
RECORD = ".record"
UNFINISHED = ".warm-"  # how the names of files that are being written begin


def samples_key(config: DataConfig, intercept: bool, cluster: Communicator) -> str:
    """Return a digest of all that the samples follow from but what is in the files: their states, and options.

    Collective. No file is read, and no URL copied. Where nodes have copies of their own, it follows from the states of
    all of them.

    Raises
    ------
    InputError
        On every rank: a file is not there.
    """
    words = (config.data, config.labels, config.valid, config.valid_labels)
    files = [_states(of_option, cluster) for of_option in words if of_option]
    class_weights = None
    if cluster.rank == 0 and config.class_weight not in (None, "balanced"):
        with contextlib.suppress(InputError):  # which comes at its time
            class_weights = astuple(FileState.of(str(config.class_weight)))
    options = {name: value for name, value in asdict(config).items() if name not in ("memory", "scratch")}
    known = [__version__, VERSION, options, intercept, files, cluster.broadcast(class_weights)]
    keys = sorted({*cluster.allgather(hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest())})
    return keys[0] if len(keys) == 1 else hashlib.sha256("".join(keys).encode()).hexdigest()


def _states(words: tuple[str, ...], cluster: Communicator) -> list[object]:
    """Return what changes where the files or URLs that the words name do. Collective."""
    remote = remote_parts(words, cluster)
    local = find_parts(tuple(word for word in words if word not in remote), cluster)
    unlike = cluster.allgather(secrets.token_hex(8))[0]  # any other start's: a part without a version may have changed
    parts = [(*astuple(part), "" if part.version else unlike) for of_word in remote.values() for part in of_word]
    return [*map(astuple, local), *parts]


class WarmFolder:
    """What a rank keeps in the private folder of its node, and what it finds there.

    Parameters
    ----------
    path : Path or None
        None: this rank has no such folder, so it keeps and finds nothing.
    key : str
        See `samples_key`.

    Attributes
    ----------
    path : Path or None
        Where files are written; None where they cannot be.
    trouble : str
        Why not; empty where there is no reason to be told.
    """

    def __init__(self, path: Path | None, key: str) -> None:
        self.path = path
        self.trouble = ""
        self._key = key
        self._has_record = False

    def facts(self, cluster: Communicator) -> Facts | None:
        """Return what the record of the samples says, which one rank at least must have. Collective."""
        content, path = None, self._record
        if path is not None:
            with contextlib.suppress(InputError):
                read = bytes(map_file(path))
                facts_in(read, self._key, path)
                content = read
        self._has_record = content is not None
        owners = [rank for rank, has_record in enumerate(cluster.allgather(self._has_record)) if has_record]
        if not owners:
            return None
        return facts_in(cluster.broadcast_bytes(content, owners[0]), self._key, path or Path("the record of a rank"))

    def keep_facts(self, facts: Facts, cluster: Communicator) -> None:
        """Write the record of the samples, once on each node, when all of them are kept. Collective."""
        node = os.uname().nodename, str(self.path)
        is_first = cluster.allgather(node).index(node) == cluster.rank
        if self._record is not None and is_first and not self._has_record:
            self._has_record = self.write(self._record, [facts.content(self._key)])

    def prepare_for(self, preparation: Preparation, n_bytes: int, cluster: Communicator) -> None:
        """Remove files of other samples, and see that there is room for those that the ranks of a node keep.

        Collective.

        Parameters
        ----------
        preparation : Preparation
            That makes the samples which are wanted.
        n_bytes : int
            That this rank may write.
        """
        node, free = (os.uname().nodename, str(self.path)), 0
        if self.path is not None:
            wanted = [preparation_digest(of) for of in (preparation, preparation.of_held_out_source)]
            with contextlib.suppress(OSError):
                for name in os.listdir(self.path):
                    is_other = name.endswith((SHARD, RECORD)) and not name.startswith((*wanted, self._key[:16]))
                    if is_other or name.startswith(UNFINISHED):
                        os.unlink(self.path / name)
            with contextlib.suppress(OSError):
                free = shutil.disk_usage(self.path).free
        needed = sum(int(of_rank) for on_node, of_rank in cluster.allgather((node, n_bytes)) if on_node == node)
        if self.path is not None and free < needed:
            self._give_up(f"{self.path} has {free >> 20} MiB free, and {(needed >> 20) + 1} MiB are needed")

    def write(self, path: Path, content: Sequence[Buffer]) -> bool:
        """Write a file that is whole or not there after a crash of this process, and return whether that worked.

        It is not synced: a file that a power cut has spoilt is told by its digest.
        """
        try:
            descriptor, temporary = tempfile.mkstemp(prefix=UNFINISHED, dir=path.parent)
            try:
                with open(descriptor, "wb") as file:
                    for buffer in content:
                        file.write(buffer)
                os.replace(temporary, path)
            except OSError:
                os.unlink(temporary)
                raise
        except OSError as error:
            self._give_up(f"{path.parent} cannot be written: {error.strerror}")
            return False
        return True

    def notes(self, cluster: Communicator) -> tuple[str, ...]:
        """Return what to say of it. Collective."""
        reason = next((trouble for trouble in cluster.allgather(self.trouble) if trouble), None)
        return () if reason is None else (f"{reason}: a restart reads the samples again; name another --scratch",)

    @property
    def _record(self) -> Path | None:
        return None if self.path is None else self.path / f"{self._key[:16]}{RECORD}"

    def _give_up(self, reason: str) -> None:
        self.trouble, self.path = reason, None


class WarmShards:
    """The files of one source's shards.

    Parameters
    ----------
    folder : WarmFolder or None
        None where none is wanted.
    kind : {"training", "held-out"}
        Which source: that of --data or that of --valid.
    preparation : Preparation
        What makes their samples.
    digests : ndarray of int64, (n_shards,)
        Of the raw shards that they are made of.
    spool : Spool
        Lets what is mapped leave this process's memory, where --memory asks for that.

    Attributes
    ----------
    preparation, digests
    """

    def __init__(
        self,
        folder: WarmFolder | None,
        kind: str,
        preparation: Preparation,
        digests: NDArray[np.int64],
        spool: Spool,
    ) -> None:
        self.preparation, self.digests = preparation, digests
        self._folder = folder or WarmFolder(None, "")
        self._prefix = f"{preparation_digest(preparation)}-{kind}" if self._folder.path is not None else ""
        self._spool = spool

    def find(self, number: int) -> PreparedShard | None:
        """Map a shard's file, if it is there and whole. Not collective."""
        path = self._path(number)
        return None if path is None else self._mapped(path, number, is_known=False)

    def keep(self, shard: PreparedShard) -> PreparedShard:
        """Write a shard's file, and return the shard as it lies in it; as it is, where that does not work."""
        path = self._path(shard.number)
        if path is None or not self._folder.write(path, content_of(shard, int(self.digests[shard.number]))):
            return shard
        return self._mapped(path, shard.number, is_known=True) or shard

    def _path(self, number: int) -> Path | None:
        folder = self._folder.path
        return None if folder is None else folder / f"{self._prefix}-{number}{SHARD}"

    def _mapped(self, path: Path, number: int, *, is_known: bool) -> PreparedShard | None:
        try:
            content = map_file(path)
            shard = shard_in(content, path, number, int(self.digests[number]), self.preparation, is_known=is_known)
        except InputError:
            return None
        self._spool.adopt(content)
        if not is_known:  # all of it has been looked at
            self._spool.used(len(content))
        return shard
