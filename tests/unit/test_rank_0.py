import threading

import numpy as np
import pytest
from ranks import on_ranks

from distsoftmax.coordinator.rank_0 import on_rank_0
from distsoftmax.errors import OutputError


@pytest.mark.parametrize("value", [None, 7, np.arange(3.0)], ids=str)
def test_what_rank_0_finds_is_known_to_every_rank(value):
    callers = []

    def work():
        callers.append(threading.current_thread().name)
        return value

    for outcome in on_ranks(3, lambda rank: on_rank_0(rank, work)):
        np.testing.assert_array_equal(outcome, value)
    assert callers == ["rank 0"]


def test_what_rank_0_cannot_do_is_raised_on_every_rank():
    def work():
        raise OutputError("no room")

    outcomes = on_ranks(3, lambda rank: on_rank_0(rank, work))
    assert [(str(error), error.agreed) for error in outcomes] == [("no room", True)] * 3
