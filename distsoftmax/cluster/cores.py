"""The cores that a rank may use: those of its node that the job was granted, shared with the ranks beside it."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.cluster.control_groups import control_groups, cores_granted

SLURM_CORES = "SLURM_JOB_CPUS_PER_NODE"  # of a job on all its nodes, the same on each: 16(x2),8


@dataclass(frozen=True)
class Grant:
    """Where a rank runs: the name of its node, the cores that it may use, and how many all ranks there may together."""

    node: str
    cores: frozenset[int]
    limit: float = math.inf


def choose_threads(wanted: int | Literal["auto"], cluster: Communicator) -> int:
    """Return the threads of this rank: as many as wanted, or its share of the cores. Collective."""
    grants = cluster.allgather(own_grant())
    return wanted if isinstance(wanted, int) else share(grants, cluster.rank)


def share(grants: Sequence[Grant], rank: int) -> int:
    """Return how many of its cores are a rank's, where each core is shared evenly by the ranks that may use it.

    It is 1 at least. Launchers either bind each rank to cores of its own, or let all ranks of a node use all of them,
    and then a limit may allow fewer, which is shared evenly, too.
    """
    own = grants[rank]
    users = dict.fromkeys(own.cores, 0)
    n_ranks = 0
    for grant in grants:
        if grant.node == own.node:
            n_ranks += 1
            for core in grant.cores & own.cores:
                users[core] += 1
    return max(1, int(min(len(own.cores) // max(users.values(), default=1), own.limit / n_ranks)))


def own_grant() -> Grant:
    """Return where this process runs. Not collective."""
    node, limit = os.uname().nodename, limit_of_node(os.environ)
    if hasattr(os, "sched_getaffinity"):
        return Grant(node, frozenset(os.sched_getaffinity(0)), limit)
    return Grant(node, frozenset(range(os.cpu_count() or 1)), limit)


def limit_of_node(environment: Mapping[str, str], root: Path = Path("/")) -> float:
    """Return how many cores of this node Slurm and control groups allow the job; infinity where they do not say.

    Neither need bind a process to these cores, so the kernel may tell it of more. Where Slurm grants more on one node
    than on another it is the most: mpirun does not tell which node is which.
    """
    entries = environment.get(SLURM_CORES, "").split(",")
    counts = [int(count) for count in (entry.partition("(")[0] for entry in entries) if count.isdecimal()]
    return min([max(counts, default=math.inf), *filter(None, map(cores_granted, control_groups(root)))])
