"""The cores that a rank may use: those of its node that the launcher has granted, shared with the ranks beside it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from distsoftmax.cluster.communicator import Communicator


@dataclass(frozen=True)
class Grant:
    """Where a rank runs: the name of its node, and the cores there that it may use."""

    node: str
    cores: frozenset[int]


def choose_threads(wanted: int | Literal["auto"], cluster: Communicator) -> int:
    """Return the threads of this rank: as many as wanted, or its share of the cores. Collective."""
    grants = cluster.allgather(own_grant())
    return wanted if isinstance(wanted, int) else share(grants, cluster.rank)


def share(grants: Sequence[Grant], rank: int) -> int:
    """Return how many of its cores are a rank's, where each core is shared evenly by the ranks that may use it.

    It is 1 at least. Launchers either bind each rank to cores of its own, or let all ranks of a node use all of them.
    """
    own = grants[rank]
    users = dict.fromkeys(own.cores, 0)
    for grant in grants:
        if grant.node == own.node:
            for core in grant.cores & own.cores:
                users[core] += 1
    return max(1, len(own.cores) // max(users.values(), default=1))


def own_grant() -> Grant:
    """Return where this process runs. Not collective."""
    node = os.uname().nodename
    if hasattr(os, "sched_getaffinity"):
        return Grant(node, frozenset(os.sched_getaffinity(0)))
    return Grant(node, frozenset(range(os.cpu_count() or 1)))
