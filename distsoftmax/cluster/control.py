"""The control message: one small row a rank and step, by which every rank learns what any rank has met."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.errors import ReplicaMismatch

MESSAGE = np.dtype(  # of what a rank tells the others after a step
    [
        ("digest", np.uint32),
        ("signal", np.int32),
        ("out_of_time", np.uint8),
        ("failed", np.bool_),
        ("report_due", np.bool_),
        ("compute_seconds", np.float64),
        ("communication_seconds", np.float64),
        ("seconds_left", np.float64),
    ]
)


class TimeUp(IntEnum):
    """Whether the time for training is up, and by which option."""

    NO = 0
    MAX_SECONDS = 1
    DEADLINE = 2


@dataclass(frozen=True, kw_only=True)
class Lap:
    """The time that a rank has spent on a step.

    Attributes
    ----------
    seconds : float or None
        By the clock on the wall; None where no step was taken.
    compute_seconds, communication_seconds : float
        On its own samples, and in calls of the communicator.
    out_of_time : TimeUp
    seconds_left : float
        Until the time is up, by this rank's clock; infinity where there is no limit.
    """

    seconds: float | None
    compute_seconds: float
    communication_seconds: float
    out_of_time: TimeUp
    seconds_left: float = math.inf


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What all ranks know of a step after its control message; equal on every rank.

    Attributes
    ----------
    signal : int
        The number of a signal that a rank has received and that asks the run to end; 0 for none.
    out_of_time : TimeUp
        Whether a rank's clock says that the run must end, and why.
    failed : bool
        Whether rank 0 failed at one of its duties.
    report_due : bool
        Whether rank 0 wants the ranks' measures of themselves and their nodes now, in a call of its own.
    compute_seconds, communication_seconds : ndarray of float64, (n_ranks,)
        Of each rank, in the step: as in its `Lap`.
    seconds_left : float
        Until the time is up on the first rank on which it is.
    """

    signal: int
    out_of_time: TimeUp
    failed: bool
    report_due: bool
    compute_seconds: NDArray[np.float64]
    communication_seconds: NDArray[np.float64]
    seconds_left: float = math.inf

    @property
    def interrupted(self) -> bool:
        """Whether the run must end although it has not come to its end."""
        return self.signal != 0 or self.out_of_time != TimeUp.NO


def commit(
    cluster: Communicator,
    parameters: NDArray[np.float64],
    lap: Lap,
    *,
    signal: int = 0,
    failed: bool = False,
    report_due: bool = False,
) -> Verdict:
    """Exchange the control message of a step. Collective.

    Parameters
    ----------
    parameters : ndarray of float64
        They must be equal on every rank.
    lap : Lap
        This rank's.
    signal : int
        The number of the last signal that this rank has received; 0 for none.
    failed : bool
        Whether this rank has failed at one of its duties.
    report_due : bool
        Whether this rank wants a report.

    Raises
    ------
    ReplicaMismatch
        On every rank, when the parameters are not equal on all of them.
    """
    digest = zlib.crc32(np.ascontiguousarray(parameters).view(np.uint8).data, cluster.step & 0xFFFFFFFF)
    seconds = lap.compute_seconds, lap.communication_seconds, lap.seconds_left
    own = (digest, signal, lap.out_of_time, failed, report_due, *seconds)
    ranks = cluster.gather_records(np.array(own, dtype=MESSAGE))
    odd = np.flatnonzero(ranks["digest"] != ranks["digest"][0])
    if odd.size:
        raise ReplicaMismatch(
            f"the parameters on rank {odd[0]} differ from those on rank 0 although all ranks took the same step: "
            "suspect that rank's memory or its numerical libraries; resume from the last checkpoint without its node"
        ).on_all_ranks()
    return Verdict(
        signal=int(ranks["signal"].max()),
        out_of_time=TimeUp(ranks["out_of_time"].max()),
        failed=bool(ranks["failed"].any()),
        report_due=bool(ranks["report_due"].any()),
        compute_seconds=ranks["compute_seconds"].copy(),
        communication_seconds=ranks["communication_seconds"].copy(),
        seconds_left=float(ranks["seconds_left"].min()),
    )
