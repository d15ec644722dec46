"""What the ranks of a job say to each other: the few collective calls this package makes, none of them rounding.

`Communicator` is what the package knows of them. `Alone` is a job of one process, and needs no MPI; `mpi.py` has the
ranks that mpirun has started.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from distsoftmax.errors import DistSoftmaxError, OutputError, RanksLost

Value = TypeVar("Value")


class Communicator(Protocol):
    """The ranks of one job. Every rank makes the same collective calls in the same order.

    Attributes
    ----------
    rank, size : int
        The number of the own rank, and how many there are.
    communication_seconds : float
        Seconds this rank has spent in collective calls, waiting for others included.
    n_calls : int
        Collective calls that this rank has begun.
    call : str
        The name of the one it is in; empty outside.
    n_shards_done : int
        Shards that this rank has read or computed, each time; a watchdog takes it for progress.
    step : int
        The step that the run is in; -1 before the first. Whoever takes the steps sets it, for the watchdog to tell.
    members : tuple of int
        The numbers that the ranks had at the start of the job, before any was lost.
    library : str
        The MPI library; empty without MPI.
    repairs : bool
        Whether the survivors can go on after ranks were lost: a collective call then raises RanksLost, and `repair`
        makes a job of the survivors. Elsewhere the launcher ends the job.
    """

    rank: int
    size: int
    communication_seconds: float = 0.0
    n_calls: int = 0
    call: str = ""
    n_shards_done: int = 0
    step: int = -1
    library: str = ""
    repairs: bool = False

    @property
    def members(self) -> tuple[int, ...]:
        """See the attributes: those of a job that has lost none."""
        return tuple(range(self.size))

    @abstractmethod
    def allgather(self, value: Value) -> list[Value]:
        """Return every rank's value, in the order of the ranks. Collective. For small records outside the steps."""

    @abstractmethod
    def alltoall(self, contents: Sequence[bytes]) -> list[bytes]:
        """Give contents[r] to rank r; return what each rank gave to this one, in the order of the ranks. Collective.

        For what may be as large as a file.
        """

    @abstractmethod
    def broadcast(self, value: Value) -> Value:
        """Return rank 0's value on every rank. Collective."""

    @abstractmethod
    def broadcast_bytes(self, content: bytes | None, root: int = 0) -> bytes:
        """Return the content that rank `root` gives, on every rank. Collective. For what may be as large as a file.

        What the other ranks give is not looked at.
        """

    @abstractmethod
    def sum_integers(self, values: NDArray[np.int64]) -> None:
        """Replace an int64 array by its sum over the ranks: exact, so the same in any order. Collective."""

    @abstractmethod
    def maximum(self, values: NDArray[Any]) -> None:
        """Replace an array by its elementwise maximum over the ranks. Collective; it holds no NaN."""

    @abstractmethod
    def gather_records(self, record: NDArray[np.void]) -> NDArray[np.void]:
        """Return one record a rank, shape (size,), on every rank. Collective; the control message of a step."""

    @abstractmethod
    def in_rank_order(self, content: bytes | bytearray) -> Iterator[bytes | bytearray]:
        """Yield every rank's content on rank 0, one at a time; nothing elsewhere. Collective, once exhausted.

        For what may be as large as a file.
        """

    @abstractmethod
    def barrier(self) -> None:
        """Wait until every rank has come here. Collective."""

    @abstractmethod
    def agree(self, done: bool) -> bool:
        """Return whether every rank has come here with True and none was lost before: equal on all survivors.

        Collective, and not hindered by a loss. Where the job does not repair, nothing is sent, and `done` comes back.
        """

    @abstractmethod
    def confirm_loss(self) -> bool:
        """Return whether ranks are known to be lost, after something went wrong; if so, end the calls others wait in.

        Not collective. Where the job repairs, it waits a moment for the news: a call in which a rank dies may end as if
        nothing had happened, but with wrong values.
        """

    @abstractmethod
    def repair(self) -> int:
        """Make this the job of the survivors, in their order, after RanksLost, and return how many ranks were lost.

        Collective over the survivors, and only where the job `repairs`. Ranks that are lost meanwhile count, too.
        """

    @abstractmethod
    def abort(self, text: str, status: int = 1) -> NoReturn:
        """Print a text and end every rank of the job now. Not collective: one rank is enough."""

    @contextmanager
    def agreement(self) -> Iterator[None]:
        """Run a block that may fail on some ranks, and raise the first rank's error on all of them.

        Collective at its end; the block itself must make no collective call. Errors that are not ours are left alone:
        they end the job.
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

    def allgather_bytes(self, content: bytes) -> list[bytes]:
        """Return every rank's content, in the order of the ranks. Collective. For what may be as large as a file."""
        return [self.broadcast_bytes(content if root == self.rank else None, root) for root in range(self.size)]

    def union(self, texts: Iterable[str]) -> set[str]:
        """Return the texts of all ranks. Collective. There may be as many as the file has rows."""
        contents = self.allgather_bytes(json.dumps(list(texts)).encode())
        return {text for content in contents for text in json.loads(content)}

    def say(self, text: str, *, to_stderr: bool = False) -> None:
        """Print a text, on rank 0 alone. A reader that has gone, as `| head` does, is no reason to end a run.

        Raises
        ------
        OutputError
            On rank 0: there is no room for it.
        """
        if self.rank != 0:
            return
        if to_stderr:
            complain(text)
            return
        try:
            print(text, flush=True)
        except OSError as error:
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (stays open to the end)
            if not isinstance(error, BrokenPipeError):
                raise OutputError(f"standard output could not be written: {error.strerror}") from None

    def leave(self, status: int) -> NoReturn:
        """Exit, once every rank has come here: a launcher may kill the others as soon as one has left. Collective."""
        sys.stdout.flush()
        complain()
        with contextlib.suppress(RanksLost):
            self.barrier()
        self.close(status)
        sys.exit(status)

    def close(self, status: int) -> None:
        """Leave MPI, where there is one, in a process that ends with a status. Collective, and the last call of all."""
        return


class Alone(Communicator):
    """A job of one process, without MPI."""

    def __init__(self) -> None:
        self.rank, self.size = 0, 1

    def allgather(self, value: Value) -> list[Value]:
        """See `Communicator.allgather`."""
        return [value]

    def alltoall(self, contents: Sequence[bytes]) -> list[bytes]:
        """See `Communicator.alltoall`."""
        return list(contents)

    def broadcast(self, value: Value) -> Value:
        """See `Communicator.broadcast`."""
        return value

    def broadcast_bytes(self, content: bytes | None, root: int = 0) -> bytes:
        """See `Communicator.broadcast_bytes`."""
        assert content is not None
        return content

    def sum_integers(self, values: NDArray[np.int64]) -> None:
        """See `Communicator.sum_integers`."""

    def maximum(self, values: NDArray[Any]) -> None:
        """See `Communicator.maximum`."""

    def gather_records(self, record: NDArray[np.void]) -> NDArray[np.void]:
        """See `Communicator.gather_records`."""
        records: NDArray[np.void] = record.reshape(1).copy()
        return records

    def in_rank_order(self, content: bytes | bytearray) -> Iterator[bytes | bytearray]:
        """See `Communicator.in_rank_order`."""
        yield content

    def barrier(self) -> None:
        """See `Communicator.barrier`."""

    def agree(self, done: bool) -> bool:
        """See `Communicator.agree`."""
        return done

    def confirm_loss(self) -> bool:
        """See `Communicator.confirm_loss`."""
        return False

    def repair(self) -> int:
        """See `Communicator.repair`."""
        raise NotImplementedError("a job of one process has nobody to lose")

    def abort(self, text: str, status: int = 1) -> NoReturn:
        """See `Communicator.abort`."""
        complain(text)
        os._exit(status)


def complain(*texts: str) -> None:
    """Print texts on standard error, with what is left in its buffer, and go on where it cannot be written.

    Python would otherwise try again when it ends, and leave with a status of its own.
    """
    try:
        for text in texts:
            print(text, file=sys.stderr)
        sys.stderr.flush()
    except OSError:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (stays open to the end)
