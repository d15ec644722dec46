"""What all ranks measured since the last report, gathered on rank 0: seldom enough to cost a step nothing.

Rank 0 says in the control message of a step that a report is due, so that every rank makes the same call.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.cluster.cores import Grant, own_grant
from distsoftmax.monitoring.node import UNKNOWN, NodeReader
from distsoftmax.monitoring.report import ClusterReport, NodeState, RankState, mean

FIRST_SECONDS, REPORT_SECONDS = 1.0, 5.0  # from one report to the next, at least: doubled from the first time on
SHORTEST_SECONDS = 0.5  # over which shares of a core's time are told: the kernel counts it in hundredths of a second
COUNTERS = (  # that only grow; a report has what came to them since the last one
    "compute_seconds",
    "wait_seconds",
    "read_seconds",
    "save_seconds",
    "moved_shards",
    "own_seconds",
    "busy_seconds",
    "stolen_seconds",
    "throttled_seconds",
)
NOW = ("shards", "rows", "resident", "load", "available", "megahertz", "celsius")
RECORD = np.dtype([(name, np.float64) for name in (*COUNTERS, *NOW)])  # of what a rank tells; NaN: not known


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a rank has to do, and the time it has spent so far.

    Attributes
    ----------
    shards, rows : int
        That it owns now.
    moved_shards : int
        That have come to it since the start.
    compute_seconds, read_seconds, save_seconds : float
    """

    shards: int
    rows: int
    moved_shards: int
    compute_seconds: float
    read_seconds: float
    save_seconds: float


@dataclass(frozen=True)
class Post:
    """Where a rank runs: its cores, how many of them a control group grants, the node's memory, its threads."""

    grant: Grant
    n_cores: float
    memory: float
    threads: int


class Reporter:
    """Measures this rank, and makes a report of all of them. Every rank has one.

    Parameters
    ----------
    cluster : Communicator
    threads : int
        Of this rank.
    every : int
        A report is due with a step that is a multiple of it, whose line of metrics is written anyway.

    Notes
    -----
    Collective, as `meet` is: the ranks tell each other where they run.
    """

    def __init__(self, cluster: Communicator, threads: int, every: int) -> None:
        self._cluster = cluster
        self._every = every
        self._next, self._pause = 0.0, FIRST_SECONDS  # when a report is due, by `time.monotonic`, and the one after it
        self._grant = own_grant()
        self._reader = NodeReader(self._grant.cores)
        self._since, self._last_step = time.monotonic(), -1
        nothing = Work(shards=0, rows=0, moved_shards=0, compute_seconds=0.0, read_seconds=0.0, save_seconds=0.0)
        self._before = self._counters(nothing)
        self.meet(threads)

    def meet(self, threads: int) -> None:
        """Learn where the ranks run; again after some are lost. Collective."""
        own = Post(self._grant, self._reader.n_cores, self._reader.memory, threads)
        self._posts: list[Post] = self._cluster.allgather(own)
        nodes = [post.grant.node for post in self._posts]
        self._is_first = nodes.index(self._grant.node) == self._cluster.rank

    def is_due(self, step: int) -> bool:
        """Return whether rank 0 wants a report after a step. Not collective."""
        return self._cluster.rank == 0 and step % self._every == 0 and time.monotonic() >= self._next

    def report(self, work: Work) -> ClusterReport | None:
        """Return what has been since the last report, or since the start; None on other ranks than 0. Collective."""
        counters = self._counters(work)
        grown = counters - self._before  # one that has shrunk was started again
        self._before = counters
        gauges = self._reader.gauges() if self._is_first else UNKNOWN
        now = (work.shards, work.rows, self._reader.resident(), *vars(gauges).values())
        own = np.array((*np.where(grown < 0, counters, grown), *now), dtype=RECORD)
        records = self._cluster.gather_records(own)
        start, step = self._since, self._last_step
        self._since, self._last_step = time.monotonic(), self._cluster.step
        self._next = self._since + self._pause
        self._pause = min(2 * self._pause, REPORT_SECONDS)
        if self._cluster.rank != 0:
            return None
        steps = max(0, self._last_step - step) if step >= 0 else 0
        return assemble(self._posts, records, self._since - start, steps)

    def _counters(self, work: Work) -> np.ndarray:
        usage = self._reader.usage()
        of_work = (work.compute_seconds, self._cluster.communication_seconds, work.read_seconds, work.save_seconds)
        return np.array((*of_work, work.moved_shards, usage.own, usage.busy, usage.stolen, usage.throttled))


def assemble(posts: Sequence[Post], records: np.ndarray, seconds: float, steps: int) -> ClusterReport:
    """Return the report of what the ranks measured in so many seconds. Pure.

    Parameters
    ----------
    posts : sequence of Post
    records : ndarray of RECORD, (n_ranks,)
    """
    told = [{name: float(record[name]) for name in RECORD.names or ()} for record in records]
    by_node: dict[str, list[int]] = {}
    for rank, post in enumerate(posts):
        by_node.setdefault(post.grant.node, []).append(rank)
    ranks = [
        _rank_state(rank, posts, told, by_node[post.grant.node], seconds if seconds >= SHORTEST_SECONDS else math.nan)
        for rank, post in enumerate(posts)
    ]
    nodes = [_node_state(node, numbers, posts, told, ranks) for node, numbers in by_node.items()]
    return ClusterReport.of(ranks, nodes, seconds, steps)


def _rank_state(
    rank: int, posts: Sequence[Post], told: Sequence[dict[str, float]], beside: Sequence[int], seconds: float
) -> RankState:
    post, own = posts[rank], told[rank]
    cores = post.grant.cores
    of_job = math.fsum(  # each rank's time is thought to be spread evenly over the cores it may use
        told[other]["own_seconds"] * len(posts[other].grant.cores & cores) / max(1, len(posts[other].grant.cores))
        for other in beside
    )
    core_seconds = len(cores) * seconds
    return RankState(
        rank=rank,
        node=post.grant.node,
        cores=len(cores),
        threads=post.threads,
        shards=int(own["shards"]),
        rows=int(own["rows"]),
        moved_shards=int(own["moved_shards"]),
        compute_seconds=own["compute_seconds"],
        wait_seconds=own["wait_seconds"],
        read_seconds=own["read_seconds"],
        save_seconds=own["save_seconds"],
        others_share=_share(own["busy_seconds"] - of_job, core_seconds),
        steal_share=_share(own["stolen_seconds"], core_seconds),
        throttled_seconds=_known(own["throttled_seconds"]),
        rss_bytes=_whole(own["resident"]),
    )


def _node_state(
    node: str, numbers: Sequence[int], posts: Sequence[Post], told: Sequence[dict[str, float]], states: list[RankState]
) -> NodeState:
    ranks = [states[number] for number in numbers]
    shown, post = told[numbers[0]], posts[numbers[0]]
    granted = frozenset[int]().union(*(posts[number].grant.cores for number in numbers))
    limit = max(posts[number].n_cores for number in numbers) if len(granted) == len(post.grant.cores) else math.inf
    taken = [
        min(1.0, state.others_share + (state.steal_share or 0.0)) for state in ranks if state.others_share is not None
    ]
    resident = [told[number]["resident"] for number in numbers]
    return NodeState(
        node=node,
        ranks=len(ranks),
        shards=sum(int(state.shards) for state in ranks),
        rows=sum(int(state.rows) for state in ranks),
        cores=min(float(len(granted)), limit),
        compute_seconds=mean([state.compute_seconds for state in ranks]),
        slowest_compute_seconds=max(state.compute_seconds for state in ranks),
        wait_seconds=mean([state.wait_seconds for state in ranks]),
        load=_known(shown["load"]),
        others_share=_known(mean(taken)),
        memory_bytes=_whole(post.memory),
        memory_available_bytes=_whole(shown["available"]),
        rss_bytes=_whole(math.fsum(resident)),
        frequency_mhz=_known(shown["megahertz"]),
        temperature_celsius=_known(shown["celsius"]),
    )


def _share(part: float, whole: float) -> float | None:
    share = part / whole if whole else math.nan
    return None if math.isnan(share) else min(1.0, max(0.0, share))


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _whole(value: float) -> int | None:
    return None if math.isnan(value) else int(value)
