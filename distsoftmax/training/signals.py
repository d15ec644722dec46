"""The signals that ask a run to end early and in order."""

from __future__ import annotations

import signal
from types import FrameType

from distsoftmax.errors import Interrupted

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopSignals:
    """Notes the signals a rank receives; the control message of the next step carries them to all ranks.

    Attributes
    ----------
    received : int
        The number of the last signal received; 0 for none.
    """

    def __init__(self) -> None:
        self.received = 0
        for number in STOPPING:
            signal.signal(number, self._note)

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
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
