"""The time that a step takes, and when the time for training is up."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.cluster.control import Lap

if TYPE_CHECKING:
    from distsoftmax.objective.softmax_objective import SoftmaxObjective


class Clock:
    """Measures one rank's time from step to step.

    Parameters
    ----------
    objective : SoftmaxObjective
        Counts this rank's seconds of computation.
    cluster : Communicator
        Counts those of communication.
    deadline : float
        When the time for training is up, by `time.perf_counter`.
    """

    def __init__(self, objective: SoftmaxObjective, cluster: Communicator, deadline: float) -> None:
        self._objective = objective
        self._cluster = cluster
        self._deadline = deadline
        self._last: float | None = None  # the first lap holds no step
        self._compute, self._communication = objective.compute_seconds, cluster.communication_seconds

    def lap(self) -> Lap:
        """Return the time since the last lap, or since the start, and begin the next one. Not collective."""
        now = time.perf_counter()
        compute, communication = self._objective.compute_seconds, self._cluster.communication_seconds
        lap = Lap(
            seconds=None if self._last is None else now - self._last,
            compute_seconds=compute - self._compute,
            communication_seconds=communication - self._communication,
            out_of_time=self._last is not None and now >= self._deadline,
        )
        self._last, self._compute, self._communication = now, compute, communication
        return lap
