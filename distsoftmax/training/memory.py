"""The newest states of a run in memory, from which it goes on when ranks were lost: a resume without a file."""

from __future__ import annotations

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.solvers.state import State
from distsoftmax.training.result import Review


class Memory:
    """Every rank's record of the newest step that all ranks have committed.

    A rank can be lost in the midst of a step's control message, so that the message reaches some survivors and not the
    others. Those hold the very state, for they have sent their own message for it: they commit it afterwards.
    """

    def __init__(self) -> None:
        self._candidate: tuple[State, Review] | None = None
        self._committed: tuple[State, Review] | None = None

    def propose(self, state: State, review: Review) -> None:
        """Hold a state that the next control message is about. Not collective."""
        self._candidate = state, review

    def commit(self) -> None:
        """Note that the control message has come back: every rank that lives holds this state. Not collective."""
        self._committed = self._candidate

    def recall(self, cluster: Communicator) -> tuple[State, Review] | None:
        """Return the newest committed state, the same on every rank; None where there is none. Collective."""
        own = -1 if self._committed is None else self._committed[0].step
        newest = max(cluster.allgather(own))
        if own < newest:
            assert self._candidate is not None
            assert self._candidate[0].step == newest, "steps are committed one after the other"
            self._committed = self._candidate
        return self._committed
