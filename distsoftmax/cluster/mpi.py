"""The ranks that mpirun has started. The one module that imports mpi4py, which starts MPI."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NoReturn

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from distsoftmax.cluster.communicator import Communicator, Value
from distsoftmax.errors import RanksLost

ULFM = "OMPI_MCA_mpi_ft_enable"  # set by Open MPI's mpirun --with-ft ulfm
LOSSES = (MPI.ERR_PROC_FAILED, MPI.ERR_REVOKED)
LARGEST_MESSAGE = 1 << 30  # bytes; MPI counts in C's int
DRAIN_SECONDS = 1.0  # mpirun forwards what a rank printed only while the job lives; MPICH's ends it at once on an abort


class MpiCommunicator(Communicator):
    """See `Communicator`: the ranks of an MPI communicator, each call of which is counted.

    Parameters
    ----------
    communicator : mpi4py.MPI.Comm
        It is duplicated, so that messages of other libraries cannot be mistaken for ours. Collective.
    """

    def __init__(self, communicator: MPI.Comm) -> None:
        self.repairs = MPI.ERR_PROC_FAILED != MPI.ERR_REVOKED and os.environ.get(ULFM) == "1"
        self._adopt(communicator.Dup())

    def _adopt(self, communicator: MPI.Comm) -> None:
        self._communicator = communicator
        self.rank = communicator.Get_rank()
        self.size = communicator.Get_size()

    @contextmanager
    def _counted(self, call: str) -> Iterator[None]:
        start = time.perf_counter()
        self.n_calls += 1
        self.call = call
        try:
            yield
        except MPI.Exception as error:
            if not self.repairs or error.Get_error_class() not in LOSSES:
                raise
            self._communicator.Revoke()  # so that the others' calls end, too, and with an error
            raise RanksLost(f"ranks were lost, which rank {self.rank} saw in {call}").on_all_ranks() from None
        finally:
            self.call = ""
            self.communication_seconds += time.perf_counter() - start

    def agree(self, done: bool) -> bool:
        """See `Communicator.agree`: MPI_Comm_agree, which gives all survivors one result, or all of them an error."""
        if not self.repairs:
            return done
        try:
            with self._counted("agree"):
                return bool(self._communicator.Agree(int(done)))
        except RanksLost:
            return False

    def repair(self) -> int:
        """See `Communicator.repair`: MPI_Comm_shrink of User-Level Failure Mitigation (W. Bland et al., 2013)."""
        before = self.size
        with self._counted("repair"):
            self._communicator.Revoke()
            self._adopt(self._communicator.Shrink())
        return before - self.size

    def allgather(self, value: Value) -> list[Value]:
        """See `Communicator.allgather`."""
        with self._counted("allgather"):
            gathered: list[Value] = self._communicator.allgather(value)
            return gathered

    def alltoall(self, contents: Sequence[bytes]) -> list[bytes]:
        """See `Communicator.alltoall`."""
        with self._counted("alltoall"):
            sizes = np.array([len(content) for content in contents])
            sizes_of_others = np.empty_like(sizes)
            self._communicator.Alltoall(sizes, sizes_of_others)
            received = [np.empty(size, np.uint8) for size in sizes_of_others]
            requests = [
                self._communicator.Irecv(block, source=rank)
                for rank, buffer in enumerate(received)
                for block in _blocks(buffer)
            ]
            requests += [
                self._communicator.Isend(block, dest=rank)
                for rank, content in enumerate(contents)
                for block in _blocks(np.frombuffer(content, np.uint8))
            ]
            MPI.Request.Waitall(requests)
            return [buffer.tobytes() for buffer in received]

    def broadcast(self, value: Value) -> Value:
        """See `Communicator.broadcast`."""
        with self._counted("broadcast"):
            received: Value = self._communicator.bcast(value, root=0)
            return received

    def broadcast_bytes(self, content: bytes | None, root: int = 0) -> bytes:
        """See `Communicator.broadcast_bytes`."""
        with self._counted("broadcast_bytes"):
            given = None if self.rank != root else content
            size = np.array([0 if given is None else len(given)])
            self._communicator.Bcast(size, root=root)
            buffer = np.empty(int(size[0]), np.uint8) if given is None else np.frombuffer(given, np.uint8)
            for block in _blocks(buffer):
                self._communicator.Bcast(block, root=root)
        return buffer.tobytes() if given is None else given

    def sum_integers(self, values: NDArray[np.int64]) -> None:
        """See `Communicator.sum_integers`."""
        with self._counted("sum_integers"):
            self._communicator.Allreduce(MPI.IN_PLACE, values, op=MPI.SUM)

    def maximum(self, values: NDArray[Any]) -> None:
        """See `Communicator.maximum`."""
        with self._counted("maximum"):
            self._communicator.Allreduce(MPI.IN_PLACE, values, op=MPI.MAX)

    def gather_records(self, record: NDArray[np.void]) -> NDArray[np.void]:
        """See `Communicator.gather_records`."""
        records = np.empty(self.size, dtype=record.dtype)
        with self._counted("gather_records"):
            self._communicator.Allgather(record.reshape(1).view(np.uint8), records.view(np.uint8))
        return records

    def in_rank_order(self, content: bytes) -> Iterator[bytes]:
        """See `Communicator.in_rank_order`."""
        if self.rank != 0:
            with self._counted("in_rank_order"):
                self._communicator.Send(np.array([len(content)]), dest=0)
                for block in _blocks(np.frombuffer(content, np.uint8)):
                    self._communicator.Send(block, dest=0)
            return
        yield content
        for source in range(1, self.size):
            with self._counted("in_rank_order"):
                size = np.zeros(1, dtype=np.int64)
                self._communicator.Recv(size, source=source)
                buffer = np.empty(int(size[0]), np.uint8)
                for block in _blocks(buffer):
                    self._communicator.Recv(block, source=source)
            yield buffer.tobytes()

    def barrier(self) -> None:
        """See `Communicator.barrier`."""
        with self._counted("barrier"):
            self._communicator.Barrier()

    def abort(self, text: str, status: int = 1) -> NoReturn:
        """See `Communicator.abort`."""
        print(text, file=sys.stderr, flush=True)
        time.sleep(DRAIN_SECONDS)
        MPI.COMM_WORLD.Abort(status)
        os._exit(status)


def _blocks(buffer: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Yield a buffer in blocks that a message may hold."""
    for start in range(0, buffer.size, LARGEST_MESSAGE):
        yield buffer[start : start + LARGEST_MESSAGE]


def world() -> MpiCommunicator:
    """Return all ranks of the job. Collective.

    From here on an exception that nobody catches ends the whole job, as `python -m mpi4py` does, and does not leave the
    other ranks waiting.
    """
    cluster = MpiCommunicator(MPI.COMM_WORLD)

    def end_the_job(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        text = "".join(traceback.format_exception(kind, error, trace))
        cluster.abort(f"{text}rank {cluster.rank} of {cluster.size} failed; the job is ended")

    sys.excepthook = end_the_job
    return cluster
