"""The second signal ends a run at once, the others do not. `tests/jobs` sends them to whole jobs."""

import signal

import pytest

from distsoftmax.errors import Interrupted
from distsoftmax.training.signals import APART_SECONDS, StopSignals


@pytest.fixture
def signals():
    """Signals without handlers."""
    signals = StopSignals.__new__(StopSignals)
    signals.received, signals._first = 0, None
    return signals


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_after_a_while_ends_at_once(signals, first, second):
    assert not signals.is_second(first, 50.0)
    assert signals.is_second(second, 50.0 + APART_SECONDS)


def test_one_ctrl_c_that_is_delivered_twice_is_one(signals):
    assert not signals.is_second(signal.SIGINT, 50.0)
    assert not signals.is_second(signal.SIGINT, 50.0)
    assert not signals.is_second(signal.SIGTERM, 50.0 + APART_SECONDS / 2)
    assert signals.is_second(signal.SIGINT, 51.0 + APART_SECONDS)


def test_sigusr1_may_come_as_often_as_it_likes(signals):
    for seconds in range(9):
        assert not signals.is_second(signal.SIGUSR1, float(seconds))
    assert not signals.is_second(signal.SIGTERM, 10.0)
    assert not signals.is_second(signal.SIGUSR1, 20.0)


def test_what_cannot_be_saved_ends_with_the_name_of_the_signal(signals):
    signals.check("the data were read")
    signals.received = int(signal.SIGTERM)
    with pytest.raises(Interrupted, match="stopped by SIGTERM while the data were read; nothing was saved"):
        signals.check("the data were read")
