"""Arrays in files of node-local scratch, used as if they were in memory.

An array is written once, as it is, and mapped: the system reads ahead what is used in order, and keeps in memory what
there is room for. The files have no names, so that nobody else can open them, and the system removes each as soon as no
array lies in it any more, or when the process ends, however it ends.
"""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable
from typing import IO

import numpy as np
import psutil
from numpy.typing import NDArray

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.errors import OutputError

FIRST_BYTES, MOST_BYTES = 64 << 20, 16 << 30  # of a file; each is twice as large as the one before
ALIGNMENT = 64  # bytes: a line of the cache
RELEASE_BYTES = 64 << 20  # used since pages were last handed back to the system
IN_MEMORY = ("tmpfs", "ramfs")  # file systems whose files take memory


class Spool:
    """Arrays in scratch.

    Parameters
    ----------
    folder : str
        Of scratch, on a disk of this node.

    Attributes
    ----------
    folder : str
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._file: IO[bytes] | None = None
        self._close: Callable[[], object] = lambda: None
        self._segment: mmap.mmap | None = None  # of the file that is written to
        self._segments = weakref.WeakSet[mmap.mmap]()  # those that arrays lie in
        self._end = 0  # of what is written to the file
        self._used = 0

    def keep(self, array: NDArray) -> NDArray:
        """Write an array, and return it as it lies in its file: read-only, and in no memory of this process.

        An array that lies in a file of this spool is returned as it is.

        Raises
        ------
        OutputError
            The folder cannot be written to, or is full.
        """
        if not array.nbytes or self._holds(array):
            return array
        content = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        try:
            file, segment = self._with_room(len(content))
            _write(file.fileno(), content, self._end)
        except OSError as error:
            raise OutputError(
                f"--scratch {self.folder}: cannot be written: {error.strerror}; name a folder on a disk of each node"
            ) from None
        kept = np.frombuffer(segment, array.dtype, array.size, self._end)
        self._end += -(-len(content) // ALIGNMENT) * ALIGNMENT
        return kept.reshape(array.shape)

    def adopt(self, segment: mmap.mmap) -> None:
        """Treat the arrays in a mapped file of somebody else as those in a file of this spool."""
        self._segments.add(segment)

    def used(self, n_bytes: int) -> None:
        """Note that arrays of so many bytes have been used; every now and then their pages leave this process."""
        self._used += n_bytes
        if self._used >= RELEASE_BYTES:
            self.release()

    def release(self) -> None:
        """Let the pages of all arrays leave this process; they stay in the system's cache as long as there is room."""
        self._used = 0
        for segment in self._segments:
            segment.madvise(mmap.MADV_DONTNEED)

    def require_disk(self, n_bytes: int) -> None:
        """Refuse a folder without room for so many bytes more.

        Raises
        ------
        OutputError
        """
        try:
            free = shutil.disk_usage(self.folder).free
        except OSError as error:
            raise OutputError(f"--scratch {self.folder}: {error.strerror}; name a folder that exists") from None
        if free < n_bytes:
            raise OutputError(
                f"--scratch {self.folder}: has {free >> 20} MiB free, and {(n_bytes >> 20) + 1} MiB are needed "
                "for what --memory has no room for; name a folder on a larger disk, or allow more memory"
            )

    @property
    def lies_in_memory(self) -> bool:
        """Whether the folder's files take memory, as those of a tmpfs do."""
        folder = os.path.join(os.path.realpath(self.folder), "")
        above = [
            disk for disk in psutil.disk_partitions(all=True) if folder.startswith(os.path.join(disk.mountpoint, ""))
        ]
        return bool(above) and max(above, key=lambda disk: len(disk.mountpoint)).fstype in IN_MEMORY

    def notes(self, n_bytes: int, cluster: Communicator) -> tuple[str, ...]:
        """Return what to say of scratch, where any rank's bytes lie in it. Collective."""
        if not any(cluster.allgather(n_bytes)) or not any(cluster.allgather(self.lies_in_memory)):
            return ()
        return (f"--scratch {self.folder} lies in memory (tmpfs), so it saves none: name a folder on a disk",)

    def _holds(self, array: NDArray) -> bool:
        owner: object = array
        while isinstance(owner, np.ndarray):
            owner = owner.base
        return isinstance(owner, memoryview) and owner.obj in self._segments

    def _with_room(self, n_bytes: int) -> tuple[IO[bytes], mmap.mmap]:
        """Return a file that has room for so many bytes more, and its mapping."""
        size = 0 if self._segment is None else len(self._segment)
        if self._file is None or self._segment is None or self._end + n_bytes > size:
            size = max(n_bytes, min(max(2 * size, FIRST_BYTES), MOST_BYTES))
            self._file = tempfile.TemporaryFile(dir=self.folder, buffering=0)  # noqa: SIM115 - closed two lines down
            self._close()
            self._close = weakref.finalize(self, self._file.close)  # or its collection warns; the mapping lives on
            os.ftruncate(self._file.fileno(), size)  # a hole: what is never written takes no room
            self._segment = mmap.mmap(self._file.fileno(), size, prot=mmap.PROT_READ)
            self._segment.madvise(mmap.MADV_SEQUENTIAL)  # read ahead
            self._segments.add(self._segment)
            self._end = 0
        return self._file, self._segment


def _write(descriptor: int, content: memoryview, start: int) -> None:
    while content:
        written = os.pwrite(descriptor, content, start)  # no more than 2 GiB at once
        content, start = content[written:], start + written
