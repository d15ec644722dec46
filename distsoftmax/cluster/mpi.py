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

DRAIN_SECONDS = 1.0  # mpirun forwards what a rank printed only while the job lives; MPICH's ends it at once on an abort


class MpiCommunicator(Communicator):
    """See `Communicator`: the ranks of an MPI communicator, each call of which is counted.

    Parameters
    ----------
    communicator : mpi4py.MPI.Comm
        It is duplicated, so that messages of other libraries cannot be mistaken for ours. Collective.
    """

    def __init__(self, communicator: MPI.Comm) -> None:
        self._communicator = communicator.Dup()
        self.rank = self._communicator.Get_rank()
        self.size = self._communicator.Get_size()
        self.communication_seconds = 0.0

    @contextmanager
    def _counted(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.communication_seconds += time.perf_counter() - start

    def allgather(self, value: Value) -> list[Value]:
        """See `Communicator.allgather`."""
        with self._counted():
            gathered: list[Value] = self._communicator.allgather(value)
            return gathered

    def alltoall(self, values: Sequence[Value]) -> list[Value]:
        """See `Communicator.alltoall`."""
        with self._counted():
            received: list[Value] = self._communicator.alltoall(values)
            return received

    def broadcast(self, value: Value) -> Value:
        """See `Communicator.broadcast`."""
        with self._counted():
            received: Value = self._communicator.bcast(value, root=0)
            return received

    def sum_integers(self, values: NDArray[np.int64]) -> None:
        """See `Communicator.sum_integers`."""
        with self._counted():
            self._communicator.Allreduce(MPI.IN_PLACE, values, op=MPI.SUM)

    def maximum(self, values: NDArray[Any]) -> None:
        """See `Communicator.maximum`."""
        with self._counted():
            self._communicator.Allreduce(MPI.IN_PLACE, values, op=MPI.MAX)

    def gather_records(self, record: NDArray[np.void]) -> NDArray[np.void]:
        """See `Communicator.gather_records`."""
        records = np.empty(self.size, dtype=record.dtype)
        with self._counted():
            self._communicator.Allgather(record.reshape(1).view(np.uint8), records.view(np.uint8))
        return records

    def in_rank_order(self, value: Value) -> Iterator[Value]:
        """See `Communicator.in_rank_order`."""
        if self.rank != 0:
            with self._counted():
                self._communicator.send(value, dest=0)
            return
        yield value
        for source in range(1, self.size):
            with self._counted():
                received: Value = self._communicator.recv(source=source)
            yield received

    def barrier(self) -> None:
        """See `Communicator.barrier`."""
        with self._counted():
            self._communicator.Barrier()

    def abort(self, text: str, status: int = 1) -> NoReturn:
        """See `Communicator.abort`."""
        print(text, file=sys.stderr, flush=True)
        time.sleep(DRAIN_SECONDS)
        MPI.COMM_WORLD.Abort(status)
        os._exit(status)


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
