"""Work that is rank 0's alone, and what every rank learns of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from distsoftmax.cluster.communicator import Communicator

Value = TypeVar("Value")


def on_rank_0(cluster: Communicator, work: Callable[[], Value]) -> Value:
    """Call `work` on rank 0, and return what it returns on every rank. Collective; `work` itself must not be.

    Raises
    ------
    DistSoftmaxError
        On every rank: what `work` has raised.
    """
    values: list[Value] = []
    with cluster.agreement():
        if cluster.rank == 0:
            values = [work()]
    return cluster.broadcast(values)[0]
