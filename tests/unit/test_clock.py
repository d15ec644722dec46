import math
import time
from types import SimpleNamespace

import pytest
from ranks import on_ranks

from distsoftmax.cluster.communicator import Alone
from distsoftmax.cluster.control import TimeUp
from distsoftmax.errors import InputError
from distsoftmax.training.clock import MARGIN_SECONDS, SLURM_END, Clock, TimeLimit, choose_deadline


@pytest.fixture
def counters():
    """The seconds that an objective and a communicator have counted before."""
    return SimpleNamespace(compute_seconds=100.0, communication_seconds=10.0)


@pytest.fixture
def at(monkeypatch):
    """Set both clocks of the machine."""

    def at(seconds):
        monkeypatch.setattr(time, "perf_counter", lambda: 1000.0 + seconds)
        monkeypatch.setattr(time, "time", lambda: 1e9 + seconds)

    return at


def test_a_lap_has_the_time_since_the_last_one(counters):
    clock, before = Clock(counters, counters, TimeLimit()), time.perf_counter()
    counters.compute_seconds, counters.communication_seconds = 101.0, 12.0
    first = clock.lap()
    assert (first.compute_seconds, first.communication_seconds) == (1.0, 2.0)
    counters.compute_seconds, counters.communication_seconds = 101.5, 12.25
    second = clock.lap()
    assert (second.compute_seconds, second.communication_seconds) == (0.5, 0.25)
    assert 0 < second.seconds < time.perf_counter() - before


def test_the_first_lap_holds_no_step_and_is_never_out_of_time(counters):
    clock = Clock(counters, counters, TimeLimit(end=-math.inf))
    first = clock.lap()
    assert (first.seconds, first.out_of_time) == (None, TimeUp.NO)
    assert clock.lap().out_of_time == TimeUp.MAX_SECONDS


def test_a_limit_that_is_far_away_ends_nothing(counters):
    clock = Clock(counters, counters, TimeLimit())
    assert not any(clock.lap().out_of_time for _ in range(3))


def laps(clock, at, times, **save):
    found = []
    for seconds in times:
        at(seconds)
        found.append(clock.lap(**save).out_of_time)
    return found


def test_a_deadline_ends_a_run_before_it_by_a_margin(counters, at):
    clock = Clock(counters, counters, TimeLimit(deadline=1e9 + 100))
    assert laps(clock, at, [0.0, 0.25, 94.0]) == [TimeUp.NO, TimeUp.NO, TimeUp.DEADLINE]
    clock = Clock(counters, counters, TimeLimit(deadline=1e9 + 100))
    last = 100 - MARGIN_SECONDS
    assert laps(clock, at, [last - 1.5, last - 1.25, last - 0.25]) == [TimeUp.NO, TimeUp.NO, TimeUp.DEADLINE]


def test_the_margin_grows_with_the_longest_step_and_save(counters, at):
    def clock():
        return Clock(counters, counters, TimeLimit(deadline=1e9 + 100))

    assert laps(clock(), at, [0.0, 10.0, 70.0, 70.5])[1:3] == [TimeUp.NO, TimeUp.DEADLINE]
    assert laps(clock(), at, [0.0, 10.0, 20.0, 70.0]) == [TimeUp.NO] * 3 + [TimeUp.DEADLINE]
    assert laps(clock(), at, [40.0, 50.0, 60.0]) == [TimeUp.NO] * 3
    assert laps(clock(), at, [40.0, 50.0, 60.0], save_seconds=10.0) == [TimeUp.NO] * 2 + [TimeUp.DEADLINE]


def test_a_deadline_that_is_due_takes_no_step(counters, at):
    assert laps(Clock(counters, counters, TimeLimit(deadline=1e9 + 1)), at, [0.0]) == [TimeUp.DEADLINE]


def test_a_run_has_the_deadline_that_it_was_given_or_that_of_its_slurm_job(monkeypatch):
    monkeypatch.delenv(SLURM_END, raising=False)
    assert choose_deadline(None, Alone()) == math.inf
    later = int(time.time()) + 1000
    monkeypatch.setenv(SLURM_END, str(later))
    assert choose_deadline(None, Alone()) == later
    assert choose_deadline(str(later + 5.5), Alone()) == later + 5.5
    for unusable in ("1", "unknown", ""):
        monkeypatch.setenv(SLURM_END, unusable)
        assert choose_deadline(None, Alone()) == math.inf


def test_a_deadline_that_has_passed_is_an_error_on_all_ranks():
    for outcome in on_ranks(3, lambda cluster: choose_deadline("2020-01-01T00:00", cluster)):
        assert isinstance(outcome, InputError)
        assert "--deadline 2020-01-01T00:00 has passed; give a later time" in str(outcome)


def test_the_deadline_is_that_of_rank_0():
    assert len(set(on_ranks(3, lambda cluster: choose_deadline(str(4e9 + cluster.rank), cluster)))) == 1


def test_a_run_started_again_after_its_deadline_has_no_time_left_and_no_error():
    assert choose_deadline("2020-01-01T00:00+00:00", Alone(), restarted=True) == 1577836800
