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

import mpi4py
import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from distsoftmax.cluster.communicator import Communicator, Value, complain
from distsoftmax.cluster.early_exit import DRAIN_SECONDS, ULFM
from distsoftmax.errors import RanksLost

LOSSES = (MPI.ERR_PROC_FAILED, MPI.ERR_REVOKED)
LARGEST_MESSAGE = 1 << 30  # bytes; MPI counts in C's int


class MpiCommunicator(Communicator):
    """See `Communicator`: the ranks of an MPI communicator, each call of which is counted.

    Parameters
    ----------
    communicator : mpi4py.MPI.Comm
        It is duplicated, so that messages of other libraries cannot be mistaken for ours. Collective.
    """

    def __init__(self, communicator: MPI.Comm) -> None:
        self.repairs = MPI.ERR_PROC_FAILED != MPI.ERR_REVOKED and os.environ.get(ULFM) == "1"
        self.library = f"{MPI.Get_library_version().splitlines()[0].strip(', ')}, mpi4py {mpi4py.__version__}"
        self._first_group = communicator.Get_group()
        self._adopt(communicator.Dup())

    def _adopt(self, communicator: MPI.Comm) -> None:
        self._communicator = communicator
        self._members = tuple(communicator.Get_group().Translate_ranks(None, self._first_group))
        self.rank = communicator.Get_rank()
        self.size = communicator.Get_size()

    @property
    def members(self) -> tuple[int, ...]:
        """See `Communicator.members`."""
        return self._members

    @contextmanager
    def _counted(self, call: str, begins: bool = True) -> Iterator[None]:
        start = time.perf_counter()
        self.n_calls += begins
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

    def alltoall(self, values: Sequence[Value]) -> list[Value]:
        """See `Communicator.alltoall`."""
        with self._counted("alltoall"):
            received: list[Value] = self._communicator.alltoall(values)
            return received

    def broadcast(self, value: Value) -> Value:
        """See `Communicator.broadcast`."""
        with self._counted("broadcast"):
            received: Value = self._communicator.bcast(value, root=0)
            return received

    def broadcast_bytes(self, content: bytes | None, root: int = 0) -> bytes:
        """See `Communicator.broadcast_bytes`."""
        with self._counted("broadcast_bytes"):
            size = np.array([len(content or b"")])
            self._communicator.Bcast(size, root=root)
            if self.rank == root:
                assert content is not None
                buffer = np.frombuffer(content, np.uint8)
            else:
                buffer = np.empty(int(size[0]), np.uint8)
            for start in range(0, buffer.size, LARGEST_MESSAGE):
                self._communicator.Bcast(buffer[start : start + LARGEST_MESSAGE], root=root)
        return buffer.tobytes() if content is None else content

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

    def in_rank_order(self, value: Value) -> Iterator[Value]:
        """See `Communicator.in_rank_order`."""
        if self.rank != 0:
            with self._counted("in_rank_order"):
                self._communicator.send(value, dest=0)
            return
        yield value
        for source in range(1, self.size):
            self.n_shards_done += 1  # a message is progress, but no other call than the first: ranks are compared by it
            with self._counted("in_rank_order", begins=source == 1):
                received: Value = self._communicator.recv(source=source)
            yield received

    def barrier(self) -> None:
        """See `Communicator.barrier`."""
        with self._counted("barrier"):
            self._communicator.Barrier()

    def abort(self, text: str, status: int = 1) -> NoReturn:
        """See `Communicator.abort`."""
        complain(text)
        time.sleep(DRAIN_SECONDS)
        MPI.COMM_WORLD.Abort(status)
        os._exit(status)

    def close(self) -> None:
        """See `Communicator.close`. Python would do it at its end, where no watchdog sees it any more."""
        with self._counted("finalize"):
            MPI.Finalize()


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
