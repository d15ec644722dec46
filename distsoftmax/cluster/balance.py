"""When shards move to other ranks, and which: from measured seconds to an assignment, without communication.

The ranks of a step wait for the last of them. From the seconds that each computes follows its pace: seconds a row. How
much a step computes, one gradient or many products with the hessian, differs from step to step, but is the same on all
ranks, so only the paces' ratios are looked at.

What is measured is noisy, and a move costs time. So nothing moves until the slowest rank ends later than need be even
where its pace is given the benefit of the doubt, by several standard errors; and not before the gain in the steps left,
and the time that waiting has cost since the last move, are both more than the move costs. So disturbances that come and
go never cost more in moves than they have cost in waiting (the ski rental problem: R. M. Karp, "On-line algorithms
versus off-line algorithms", IFIP 1992).

Every rank must come to the same decision: see `assignment.py` for the arithmetic that makes it so.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from distsoftmax.cluster.assignment import Assignment, loads_of, n_moved, rebalanced

MEASUREMENT_SECONDS = 0.1  # shorter steps are taken together: what a scheduler does evens out over so long
LEAST_WORK = 1e-6  # of that time: a rank that computes for less, as in an unlucky mini-batch, is not measured
RECENT = 7  # measurements, whose median tells whether a rank's pace has changed: three outliers do not move it
MEMORY, MEMORY_OF_NOISE = 256, 32  # measurements that a pace is the mean of, at most, and its noise
FORGETTING = 1 / 256  # of what is known of a rank that holds no shard, at each measurement
SHIFT = 3.0  # standard deviations of a measurement, by which a median is off when the pace has changed
NOISE = 0.1  # relative standard deviation of a measurement, before any is known
LEAST_NOISE, LARGEST_NOISE = 0.015, 0.5  # of a measurement, whatever it is
# Standard errors of the benefit of the doubt, squared: a chance of e^(-DOUBT / 2) that one of all ranks exceeds it, as
# the largest of n normal deviations grows with the root of 2 log n = 1.39 log2 n.
DOUBT, DOUBT_BY_RANKS = 8.0, 1.39
FEW = 3.0  # measurements that tell little of the noise
LEAST_GAIN = 0.01  # of a step, for which shards move
DEVIATION = 1.2533  # sqrt(pi / 2): standard deviations of a normal distribution in a mean absolute deviation


class Paces:
    """What is known of how long each rank takes for a row, relative to the median rank, and how surely.

    Parameters
    ----------
    n_ranks : int

    Attributes
    ----------
    mean : ndarray of float64, (n_ranks,)
        Relative seconds a row since the last change of a rank's pace; 1 before anything is known.
    noise : ndarray of float64, (n_ranks,)
        Relative standard deviation of a measurement.
    seconds : float
        Of the median rank for a row in a step, lately.
    """

    def __init__(self, n_ranks: int) -> None:
        self.mean = np.ones(n_ranks)
        self.noise = np.full(n_ranks, NOISE)
        self.seconds = 0.0
        self._errors = math.sqrt(DOUBT + DOUBT_BY_RANKS * n_ranks.bit_length())
        self._count = np.zeros(n_ranks)  # measurements that the mean is made of
        self._recent = np.ones((RECENT, n_ranks))
        self._seconds = np.zeros(RECENT)
        self._taken = 0

    @property
    def known(self) -> bool:
        """Whether there are measurements enough to judge by."""
        return self._taken >= RECENT

    @property
    def doubt(self) -> NDArray[np.float64]:
        """The benefit of the doubt: by how much a mean may be too high, relative to it, (n_ranks,)."""
        count = np.maximum(self._count, 1.0)
        unsure = 1 + FEW / count  # of the noise itself
        doubt: NDArray[np.float64] = np.minimum(self._errors * self.noise * unsure / np.sqrt(count), 1.0)
        return doubt

    def take(self, seconds: NDArray[np.float64], has_work: NDArray[np.bool_], n_steps: int) -> None:
        """Take a measurement: the seconds of each rank for a row, over so many steps.

        Parameters
        ----------
        has_work : ndarray of bool, (n_ranks,)
            Whether a rank has shards; the seconds of others say nothing.
        """
        ordered = np.sort(seconds[has_work])
        median = ordered[(ordered.size - 1) // 2]
        relative = np.where(has_work, seconds / median, self.mean)
        row = self._taken % RECENT
        self._recent[row], self._seconds[row] = relative, median / n_steps
        self._taken += 1
        if self._taken < RECENT:
            return
        self.seconds = float(np.sort(self._seconds)[RECENT // 2])
        middle = np.sort(self._recent, axis=0)[RECENT // 2]
        room = SHIFT * self.noise * self.mean
        is_new = (self._count == 0) | (np.abs(middle - self.mean) > room)
        rows = self._recent if self._taken == RECENT else relative[np.newaxis]
        for number, of_ranks in enumerate(rows, self._taken - len(rows) + 1):
            deviation = np.clip(DEVIATION * np.abs(of_ranks / middle - 1), LEAST_NOISE, LARGEST_NOISE)
            self.noise += (deviation - self.noise) / min(number + FEW, MEMORY_OF_NOISE)
        self._count = np.where(is_new, RECENT // 2 + 1.0, np.minimum(self._count + has_work, MEMORY))
        nearer = self.mean + np.clip(relative - self.mean, -room, room) / np.maximum(self._count, 1.0)
        self.mean = np.where(is_new, middle, nearer)
        self.mean[~has_work] += FORGETTING * (1 - self.mean[~has_work])


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

    Attributes
    ----------
    assignment : tuple of tuple of int
        The present one.
    paces : Paces
    """

    def __init__(self, costs: NDArray[np.int64], assignment: Assignment) -> None:
        self.paces = Paces(len(assignment))
        self._costs: list[int] = costs.tolist()
        self._spent = np.zeros(len(assignment))
        self._steps = 0  # in the measurement at hand
        self._patience = 0  # measurements until shards may move
        self._place(assignment)

    def note(self, compute_seconds: NDArray[np.float64]) -> None:
        """Take the compute seconds of each rank in a step, (n_ranks,); those of a `Verdict`. Not collective."""
        self._spent += compute_seconds
        self._steps += 1
        if self._spent.max() < MEASUREMENT_SECONDS:
            return
        if self._has_work.any() and self._spent[self._has_work].min() > MEASUREMENT_SECONDS * LEAST_WORK:
            self.paces.take(self._spent / np.maximum(self._loads, 1.0), self._has_work, self._steps)
            self._end = float((self._loads * self.paces.mean * (1 - self.paces.doubt)).max())
            self._ideal = math.fsum(self._loads) / math.fsum(1 / self.paces.mean)
            self._lost += max(self._end - self._ideal, 0.0) * self.paces.seconds * self._steps
            self._patience -= 1
        self._spent[:], self._steps = 0.0, 0

    def proposal(
        self, steps_left: float, seconds_per_shard: float, seconds_left: float = math.inf
    ) -> Assignment | None:
        """Return a better assignment, if moving to it pays; else None. Not collective.

        Parameters
        ----------
        steps_left : float
            Steps that the run will still take at most; infinity where that is unknown.
        seconds_per_shard : float
            What giving or taking a shard costs a rank, measured or estimated; ranks move theirs at the same time.
        seconds_left : float
            Until the time of the run is up. What pays takes less than that.
        """
        if self._steps or self._patience > 0 or not self.paces.known:  # nothing new has been measured
            return None
        if self._end <= self._ideal * (1 + LEAST_GAIN):
            return None
        self._patience = RECENT  # a look may take long where there are many ranks
        better = rebalanced(self.assignment, self._costs, self.paces.mean.tolist())
        end = float((np.array(loads_of(better, self._costs)) * self.paces.mean).max())
        gain = (self._end - end) * self.paces.seconds
        cost = seconds_per_shard * n_moved(self.assignment, better)[1]
        steps_left = min(steps_left, max(seconds_left, 0.0) / (self._end * self.paces.seconds))
        pays = self._end > end * (1 + LEAST_GAIN) and gain * steps_left > cost and self._lost > cost
        return better if pays else None

    def moved(self, assignment: Assignment) -> None:
        """Go on with another assignment, once the shards are where it says. Not collective."""
        self._spent[:], self._steps = 0.0, 0
        self._place(assignment)

    def _place(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self._loads = np.array(loads_of(assignment, self._costs))
        self._has_work = self._loads > 0
        self._end = self._ideal = 0.0  # of a step: when the last rank ends at the least, and when all together would
        self._lost = 0.0  # seconds since the last move, by that
        self._patience = 1
