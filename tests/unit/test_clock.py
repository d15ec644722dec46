import math
import time
from types import SimpleNamespace

import pytest

from distsoftmax.training.clock import Clock


@pytest.fixture
def counters():
    """The seconds that an objective and a communicator have counted before."""
    return SimpleNamespace(compute_seconds=100.0, communication_seconds=10.0)


def test_a_lap_has_the_time_since_the_last_one(counters):
    clock = Clock(counters, counters, math.inf)
    counters.compute_seconds, counters.communication_seconds = 101.0, 12.0
    first = clock.lap()
    assert (first.compute_seconds, first.communication_seconds) == (1.0, 2.0)
    counters.compute_seconds, counters.communication_seconds = 101.5, 12.25
    before = time.perf_counter()
    second = clock.lap()
    assert (second.compute_seconds, second.communication_seconds) == (0.5, 0.25)
    assert 0 < second.seconds < time.perf_counter() - before + 1


def test_the_first_lap_holds_no_step_and_is_never_out_of_time(counters):
    clock = Clock(counters, counters, -math.inf)
    first = clock.lap()
    assert (first.seconds, first.out_of_time) == (None, False)
    assert clock.lap().out_of_time


def test_a_deadline_that_is_far_away_ends_nothing(counters):
    clock = Clock(counters, counters, math.inf)
    assert not any(clock.lap().out_of_time for _ in range(3))
