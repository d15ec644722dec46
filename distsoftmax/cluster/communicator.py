"""The communicator: the few collective calls this package makes, each of them counted and none of them rounding."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NoReturn, TypeVar

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from distsoftmax.errors import DistSoftmaxError

Value = TypeVar("Value")

DRAIN_SECONDS = 1.0  # mpirun forwards what a rank printed only while the job lives; MPICH's ends it at once on an abort


class Cluster:
    """The ranks of one job.

    Parameters
    ----------
    communicator : mpi4py.MPI.Comm
        It is duplicated, so that messages of other libraries cannot be mistaken for ours. Collective.

    Attributes
    ----------
    rank, size : int
    communication_seconds : float
        Seconds this rank has spent in collective calls, waiting for others included.
    arithmetic : str
        What the ranks compute with, once they have told each other; see `arithmetic.library.describe`.
    """

    def __init__(self, communicator: MPI.Comm) -> None:
        self._communicator = communicator.Dup()
        self.rank: int = self._communicator.Get_rank()
        self.size: int = self._communicator.Get_size()
        self.communication_seconds = 0.0
        self.arithmetic = ""

    @contextmanager
    def _counted(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.communication_seconds += time.perf_counter() - start

    def allgather(self, value: Value) -> list[Value]:
        """Return every rank's value, in the order of the ranks. Collective. For small records outside the steps."""
        with self._counted():
            gathered: list[Value] = self._communicator.allgather(value)
            return gathered

    def alltoall(self, values: Sequence[Value]) -> list[Value]:
        """Give values[r] to rank r; return what each rank gave to this one, in the order of the ranks. Collective."""
        with self._counted():
            received: list[Value] = self._communicator.alltoall(values)
            return received

    def broadcast(self, value: Value) -> Value:
        """Return rank 0's value on every rank. Collective."""
        with self._counted():
            received: Value = self._communicator.bcast(value, root=0)
            return received

    def sum_integers(self, values: NDArray[np.int64]) -> None:
        """Replace an int64 array by its sum over the ranks: exact, so the same in any order. Collective."""
        with self._counted():
            self._communicator.Allreduce(MPI.IN_PLACE, values, op=MPI.SUM)

    def maximum(self, values: NDArray[Any]) -> None:
        """Replace an array by its elementwise maximum over the ranks. Collective; it holds no NaN."""
        with self._counted():
            self._communicator.Allreduce(MPI.IN_PLACE, values, op=MPI.MAX)

    def gather_records(self, record: NDArray[np.void]) -> NDArray[np.void]:
        """Return one record a rank, shape (size,), on every rank. Collective; the control message of a step."""
        records = np.empty(self.size, dtype=record.dtype)
        with self._counted():
            self._communicator.Allgather(record.reshape(1).view(np.uint8), records.view(np.uint8))
        return records

    def in_rank_order(self, value: Value) -> Iterator[Value]:
        """Yield every rank's value on rank 0, one at a time; nothing elsewhere. Collective, once exhausted."""
        if self.rank == 0:
            yield value
            for source in range(1, self.size):
                yield self._communicator.recv(source=source)
        else:
            self._communicator.send(value, dest=0)

    @contextmanager
    def agreement(self) -> Iterator[None]:
        """Run a block that may fail on some ranks, and raise the first rank's error on all of them.

        Collective at its end; the block itself must make no collective call. Errors that are not ours are left alone:
        they end the job through the abort hook.
        """
        own: DistSoftmaxError | None = None
        try:
            yield
        except DistSoftmaxError as error:
            own = error
        gathered = self.allgather((own, os.uname().nodename))
        first, node = next(((error, node) for error, node in gathered if error is not None), (None, ""))
        if first is not None:
            if len({name for _, name in gathered}) > 1:
                first.node = node
            raise first.on_all_ranks()

    def say(self, text: str, *, to_stderr: bool = False) -> None:
        """Print a text, on rank 0 alone. A reader that has gone, as `| head` does, is no reason to end a run."""
        if self.rank != 0:
            return
        name = "stderr" if to_stderr else "stdout"
        try:
            print(text, file=getattr(sys, name), flush=True)
        except BrokenPipeError:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (stays open to the end)

    def leave(self, status: int) -> NoReturn:
        """Exit, once every rank has come here: a launcher may kill the others as soon as one has left. Collective."""
        sys.stdout.flush()
        sys.stderr.flush()
        self._communicator.Barrier()
        sys.exit(status)

    def abort(self, text: str, status: int = 1) -> NoReturn:
        """End every rank of the job now. Not collective: one rank is enough."""
        print(text, file=sys.stderr, flush=True)
        time.sleep(DRAIN_SECONDS)
        MPI.COMM_WORLD.Abort(status)
        os._exit(status)

    def abort_on_uncaught_exception(self) -> None:
        """Let an exception that nobody catches end the whole job, as `python -m mpi4py` does, not leave it waiting."""

        def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
            text = "".join(traceback.format_exception(kind, error, trace))
            self.abort(f"{text}rank {self.rank} of {self.size} failed; the job is ended")

        sys.excepthook = hook
