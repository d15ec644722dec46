"""The time that a step takes, and when the time for training is up."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from typing import Protocol

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.cluster.control import Lap, TimeUp
from distsoftmax.config.values import parse_deadline
from distsoftmax.errors import InputError

SLURM_END = "SLURM_JOB_END_TIME"  # when Slurm will end the job, in seconds since the epoch
MARGIN_SECONDS = 5.0  # before a deadline, besides what a step and a save may take
MARGIN_STEPS = 2.0  # the longest step and save so far, so many times: one may take longer than all before it


@dataclass(frozen=True)
class TimeLimit:
    """When the time for training is up.

    Attributes
    ----------
    end : float
        The time of --max-seconds, by `time.perf_counter`.
    deadline : float
        The time of day by which everything must be saved, by `time.time`.
    """

    end: float = math.inf
    deadline: float = math.inf

    @staticmethod
    def of(max_seconds: float | None, deadline: float) -> TimeLimit:
        """Return the limit of a run whose first step is about to be taken."""
        return TimeLimit(math.inf if max_seconds is None else time.perf_counter() + max_seconds, deadline)


def choose_deadline(wanted: str | None, cluster: Communicator, *, restarted: bool = False) -> float:
    """Return the deadline that was asked for, or that of the Slurm job; infinity for none. Collective.

    It is rank 0's: Slurm's word may not have come to all ranks.

    Parameters
    ----------
    restarted : bool
        Whether the run was started again after a crash, which may have been so late that there is no time left.

    Raises
    ------
    InputError
        On every rank: it has passed, and not since the run was first started.
    """
    own = math.inf
    with cluster.agreement():
        if cluster.rank == 0:
            granted = os.environ.get(SLURM_END, "")
            if wanted is not None:
                own = parse_deadline(wanted)
                if own <= time.time() and not restarted:
                    raise InputError(f"--deadline {wanted} has passed; give a later time, or leave it out")
            elif granted.isdecimal() and int(granted) > time.time():
                own = float(granted)
    return cluster.broadcast(own)


class Computing(Protocol):
    """What counts this rank's seconds of computation."""

    @property
    def compute_seconds(self) -> float:
        """Seconds this rank has spent on its own samples."""


class Clock:
    """Measures one rank's time from step to step.

    Parameters
    ----------
    computing : Computing
        Counts this rank's seconds of computation.
    cluster : Communicator
        Counts those of communication.
    limit : TimeLimit
    """

    def __init__(self, computing: Computing, cluster: Communicator, limit: TimeLimit) -> None:
        self._computing = computing
        self._cluster = cluster
        self._limit = limit
        self._last: float | None = None  # the first lap holds no step
        self._longest = 0.0
        self._compute, self._communication = computing.compute_seconds, cluster.communication_seconds

    def lap(self, save_seconds: float = 0.0) -> Lap:
        """Return the time since the last lap, or since the start, and begin the next one. Not collective.

        Parameters
        ----------
        save_seconds : float
            What the longest save has taken beside the steps, if this rank has saved.
        """
        now = time.perf_counter()
        compute, communication = self._computing.compute_seconds, self._cluster.communication_seconds
        seconds = None if self._last is None else now - self._last
        self._longest = max(self._longest, seconds or 0.0)
        lap = Lap(
            seconds=seconds,
            compute_seconds=compute - self._compute,
            communication_seconds=communication - self._communication,
            out_of_time=self._time_up(now, save_seconds),
            seconds_left=min(self._limit.end - now, self._limit.deadline - time.time()),
        )
        self._last, self._compute, self._communication = now, compute, communication
        return lap

    def _time_up(self, now: float, save_seconds: float) -> TimeUp:
        margin = MARGIN_SECONDS + MARGIN_STEPS * (self._longest + save_seconds)
        if time.time() >= self._limit.deadline - margin:
            return TimeUp.DEADLINE
        is_up = self._last is not None and now >= self._limit.end  # however little time there is, a step is taken
        return TimeUp.MAX_SECONDS if is_up else TimeUp.NO
