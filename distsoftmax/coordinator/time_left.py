"""How long a run may still take, for people: from how its steps go, and what will end it."""

from __future__ import annotations

import math
import time
from collections import deque

from distsoftmax.solvers.state import State

MOST_SIGHTINGS = 40  # steps that the estimate looks back on
LEAST_SIGHTINGS = 6  # before which nothing is said


class TimeLeft:
    """Estimates when a run ends: at its tolerance, at its limit of steps, or when its time is up, whichever is first.

    What is left to the tolerance, the gap or the gradient's norm, is taken to fall on by the same factor a step, as it
    has on average over the last steps: all solvers but sgd converge linearly or better.

    Parameters
    ----------
    tolerance : float
        0: the run does not end by it.
    """

    def __init__(self, tolerance: float) -> None:
        self._tolerance = tolerance
        self._sightings: deque[tuple[float, int, float]] = deque(maxlen=MOST_SIGHTINGS)  # time, step, log of the excess

    def note(self, state: State, n_steps: int, seconds_left: float) -> str:
        """Note a step, and return what to say of the time left; empty where it cannot be told. Not collective.

        Parameters
        ----------
        state : State
        n_steps : int
            At which the run ends at the latest.
        seconds_left : float
            After which its time is up; infinity where it has no limit.
        """
        self._sightings.append((time.monotonic(), state.step, _log(self._excess(state))))
        (start, first, then), (now, last, excess) = self._sightings[0], self._sightings[-1]
        if len(self._sightings) < LEAST_SIGHTINGS or last == first:
            return f"at most {in_time(seconds_left)} left" if math.isfinite(seconds_left) else ""
        fall = (then - excess) / (last - first)  # of the logarithm, a step
        by_tolerance = excess / fall if math.isfinite(fall) and fall > 0 else math.inf
        seconds = (now - start) / (last - first)
        limit = min((n_steps - last) * seconds, seconds_left)
        expected = max(by_tolerance, 1.0) * seconds
        return f"about {in_time(expected)} left" if expected < limit else f"at most {in_time(max(limit, 0.0))} left"

    def _excess(self, state: State) -> float:
        """Return by what factor the run is away from its tolerance; NaN where that is not known."""
        if self._tolerance == 0 or not state.is_current:
            return math.nan
        gap = state.certified_gap if state.certified_gap is not None else state.estimated_gap
        if gap is not None:
            return gap / (self._tolerance * state.value) if state.value > 0 else math.nan
        wanted = self._tolerance * state.first_gradient_norm
        return state.evaluation.gradient_norm / wanted if wanted > 0 else math.nan


def in_time(seconds: float) -> str:
    """Return a time as 0:12, 3:05:00 or 2 d 3 h.

    Examples
    --------
    >>> in_time(12.3), in_time(3 * 3600 + 300), in_time(51 * 3600)
    ('0:12', '3:05:00', '2 d 3 h')
    """
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    if hours >= 24:
        return f"{hours // 24} d {hours % 24} h"
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _log(number: float) -> float:
    return math.log(number) if number > 0 else math.nan
