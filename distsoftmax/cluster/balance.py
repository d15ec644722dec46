"""When shards move to other ranks, and which: from measured seconds to an assignment, without communication."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from distsoftmax.cluster.assignment import Assignment


class Balancer:
    """Watches the seconds that ranks take, and proposes moves of shards (`--balance dynamic`).

    Replicated: every rank makes one, gives it the same numbers, and gets the same proposals. After ranks are lost or
    shards are taken over, make a new one of the survivors' assignment.

    Parameters
    ----------
    costs : ndarray of int64, (n_shards,)
        The work of each shard: its rows, or its entries where they are sparse.
    assignment : tuple of tuple of int
        The shards of each rank, ascending.
    """

    def __init__(self, costs: NDArray[np.int64], assignment: Assignment) -> None:
        raise NotImplementedError

    def note(self, compute_seconds: NDArray[np.float64]) -> None:
        """Take the compute seconds of each rank in a step, (n_ranks,); those of a `Verdict`. Not collective."""

    def proposal(self, steps_left: float, seconds_per_shard: float) -> Assignment | None:
        """Return a better assignment, if moving to it pays; else None. Not collective. The balancer stays as it is.

        Parameters
        ----------
        steps_left : float
            Steps that the run will still take at most; infinity where that is unknown.
        seconds_per_shard : float
            What giving or taking a shard costs a rank, measured or estimated; ranks move theirs at the same time.
        """
        return None

    def moved(self, assignment: Assignment) -> None:
        """Go on with another assignment, once the shards are where it says. Not collective."""
