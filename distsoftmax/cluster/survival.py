"""Going on without ranks that were lost: work is done again by the survivors, until it is done by all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.errors import RanksLost

Value = TypeVar("Value")

MOST_FUTILE = 3  # repairs in a row that found nobody lost: what they are for does not go away by them


def surviving(cluster: Communicator, work: Callable[[], Value], mend: Callable[[], object] = lambda: None) -> Value:
    """Do a piece of work; where ranks are lost meanwhile, repair the job and do it again. Collective.

    Ranks learn of a loss in different calls: one of them may be through with the work while another is not. So they
    agree on its end, in a way that no loss can spoil, and all do it again unless all have done it. A call in which a
    rank dies may also end well, but with wrong values: any error is the loss's where there is one, and what was done
    counts only where nobody was lost.

    Parameters
    ----------
    work : callable
        Collective, and so made that it can be done again from its start.
    mend : callable, optional
        Called before the work is done again: takes over what was the lost ranks'. Collective; another loss may
        interrupt it, and it is then called once more.

    Raises
    ------
    DistSoftmaxError
        What the work raises, but for RanksLost where the job can be repaired, and where ranks are lost indeed.
    """
    is_whole, futile = True, 0
    while True:
        values: list[Value] = []
        try:
            if not is_whole:
                mend()
                is_whole = True
            values = [work()]
        except Exception as error:
            is_loss = (isinstance(error, RanksLost) and cluster.repairs) or cluster.confirm_loss()
            if not is_loss or futile == MOST_FUTILE:
                raise
        if cluster.agree(bool(values)):
            return values[0]
        is_whole = False
        lost = cluster.repair()
        futile = 0 if lost else futile + 1
        cluster.say(f"{lost} of {cluster.size + lost} ranks were lost; the others go on", to_stderr=True)
