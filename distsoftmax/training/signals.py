"""The signals that ask a run to end early and in order, and the second one, which ends it at once."""

from __future__ import annotations

import signal
import socket
import threading
import time
from types import FrameType
from typing import Protocol

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.errors import Interrupted

URGENT = (signal.SIGTERM, signal.SIGINT)  # those of which a second one ends the run at once
STOPPING = (*URGENT, signal.SIGUSR1)
APART_SECONDS = 1.0  # between two that count as two: launchers and terminals may deliver one Ctrl-C twice


class ReceivedSignals(Protocol):
    """What the training loop asks of signals.

    Attributes
    ----------
    received : int
        The number of the last one that asks the run to end; 0 for none.
    """

    received: int


class StopSignals:
    """Notes the signals a rank receives; the control message of the next step carries them to all ranks.

    A second SIGTERM or SIGINT ends the job at once, even where this rank waits in MPI and no Python runs in its main
    thread: another thread learns of the signals. SIGUSR1 may come as often as it likes.

    Parameters
    ----------
    cluster : Communicator
        What a second signal ends.

    Attributes
    ----------
    received : int
        The number of the last signal received; 0 for none.
    """

    def __init__(self, cluster: Communicator) -> None:
        self.received = 0
        self._cluster = cluster
        self._first: float | None = None
        self._is_over = False
        reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in STOPPING:
            signal.signal(number, self._note)
        threading.Thread(target=self._listen, args=(reader,), name="signals", daemon=True).start()

    def check(self, what: str) -> None:
        """End what cannot be saved if a signal has asked for it. Not collective.

        Raises
        ------
        Interrupted
        """
        if self.received:
            name = signal.Signals(self.received).name
            raise Interrupted(f"stopped by {name} while {what}; nothing was saved: the same command starts anew")

    def ignore(self) -> None:
        """Take no further notice: the run is over, and a second signal must not kill it while it leaves."""
        self._is_over = True
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)
        signal.set_wakeup_fd(-1)
        self._writer.close()

    def is_second(self, number: int, now: float) -> bool:
        """Return whether a signal that has come is a second one that ends the job at once; the first is remembered."""
        if number not in URGENT:
            return False
        if self._first is None:
            self._first = now
        return now - self._first >= APART_SECONDS

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number

    def _listen(self, reader: socket.socket) -> None:
        with reader:
            while numbers := reader.recv(64):
                for number in numbers:
                    if self.is_second(number, time.monotonic()) and not self._is_over:
                        name, rank, size = signal.Signals(number).name, self._cluster.rank, self._cluster.size
                        self._cluster.abort(
                            f"rank {rank} of {size}: a second signal, {name}, ends the run at once; it can be resumed "
                            "from its last checkpoint",
                            128 + number,
                        )
