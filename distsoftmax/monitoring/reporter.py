"""What all ranks measured since the last report, gathered on rank 0: seldom enough to cost a step nothing.

Rank 0 says in the control message of a step that a report is due, so that every rank makes the same call.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.cluster.cores import Grant, own_grant
from distsoftmax.monitoring.node import UNKNOWN, NodeReader
from distsoftmax.monitoring.report import MOST_LISTED, ClusterReport, NodeState, RankState, mean

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
        self._grant = own_grant()
        self._reader = NodeReader(self._grant.cores)
        self.meet(threads)  # first: rank 0 tells how long a report is, so nobody counts the wait for a late one
        self.begin()
        nothing = Work(shards=0, rows=0, moved_shards=0, compute_seconds=0.0, read_seconds=0.0, save_seconds=0.0)
        self._before = self._counters(nothing)

    def begin(self) -> None:
        """Count time and steps anew, as for the next run of a path; its first step is reported. Not collective."""
        self._next, self._pause = 0.0, FIRST_SECONDS  # when a report is due, by `time.monotonic`, and the one after it
        self._since, self._last_step = time.monotonic(), -1

    def meet(self, threads: int) -> None:
        """Learn where the ranks run; again after some are lost. Collective."""
        own = Post(self._grant, self._reader.n_cores, self._reader.memory, threads)
        posts = self._cluster.allgather(own)
        grants: dict[Grant, Grant] = {}  # equal ones are one object, which is compared at once
        self._posts = [replace(post, grant=grants.setdefault(post.grant, post.grant)) for post in posts]
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
    """Return the report of what the ranks measured in so many seconds. Pure; some 10 ms for 4,096 ranks.

    Parameters
    ----------
    posts : sequence of Post
    records : ndarray of RECORD, (n_ranks,)
    """
    numbers: dict[str, list[int]] = {}
    for rank, post in enumerate(posts):
        numbers.setdefault(post.grant.node, []).append(rank)
    names = list(numbers)
    index = {node: number for number, node in enumerate(names)}
    compute, wait = records["compute_seconds"], records["wait_seconds"]
    slowest = np.zeros(len(names))
    np.maximum.at(slowest, [index[post.grant.node] for post in posts], compute)
    listed = [names[number] for number in sorted(np.argsort(-slowest, kind="stable")[:MOST_LISTED])]
    slow_ranks = sorted(np.argsort(-compute, kind="stable")[:MOST_LISTED].tolist())
    own_seconds, busy_seconds = records["own_seconds"].tolist(), records["busy_seconds"].tolist()
    measured = seconds if seconds >= SHORTEST_SECONDS else math.nan
    shares = {
        node: _others_shares(
            [posts[rank].grant.cores for rank in numbers[node]],
            [own_seconds[rank] for rank in numbers[node]],
            [busy_seconds[rank] for rank in numbers[node]],
            measured,
        )
        for node in {*listed, *(posts[rank].grant.node for rank in slow_ranks)}
    }
    return ClusterReport(
        seconds=seconds,
        steps=steps,
        n_ranks=len(posts),
        n_nodes=len(names),
        mean_compute_seconds=mean(compute.tolist()),
        slowest_compute_seconds=float(compute.max()),
        slowest_rank=int(compute.argmax()),
        mean_wait_seconds=mean(wait.tolist()),
        least_wait_seconds=float(wait.min()),
        median_per_row=_median_per_row(compute, records["rows"]),
        moved_shards=int(records["moved_shards"].sum(dtype=np.int64)),
        read_seconds=float(records["read_seconds"].max()),
        save_seconds=float(records["save_seconds"].max()),
        nodes=tuple(
            _node_state(node, [posts[rank] for rank in numbers[node]], records[numbers[node]], shares[node], measured)
            for node in listed
        ),
        ranks=tuple(
            _rank_state(
                rank, posts[rank], records[rank], shares[posts[rank].grant.node][posts[rank].grant.cores], measured
            )
            for rank in slow_ranks
        ),
    )


def _median_per_row(compute: np.ndarray, rows: np.ndarray) -> float:
    """Return the seconds for a row of the median rank of those that have any; of two, the quicker one's."""
    busy = (rows > 0) & (compute > 0)
    seconds = np.sort(compute[busy] / rows[busy])
    return float(seconds[(len(seconds) - 1) // 2]) if len(seconds) else 0.0


def _others_shares(
    cores: Sequence[frozenset[int]], own_seconds: Sequence[float], busy_seconds: Sequence[float], seconds: float
) -> dict[frozenset[int], float]:
    """Return for each set of cores that ranks of a node may use the part of its time that none of them took.

    The time of a rank is thought to be spread evenly over its cores. Of the ranks that may use the same ones, the first
    tells how busy these were.

    Parameters
    ----------
    cores, own_seconds, busy_seconds : sequence
        Of each rank of the node.
    """
    own: dict[frozenset[int], float] = {}
    busy: dict[frozenset[int], float] = {}
    for group, taken, of_all in zip(cores, own_seconds, busy_seconds, strict=True):
        own[group] = own.get(group, 0.0) + taken
        busy.setdefault(group, of_all)
    of_job: dict[int, float] = {}
    for group, taken in own.items():
        for core in group:
            of_job[core] = of_job.get(core, 0.0) + taken / len(group)
    return {group: (busy[group] - math.fsum(of_job[core] for core in group)) / (len(group) * seconds) for group in own}


def _rank_state(rank: int, post: Post, record: np.void, others: float, seconds: float) -> RankState:
    own = {name: float(record[name]) for name in RECORD.names or ()}
    cores = len(post.grant.cores)
    return RankState(
        rank=rank,
        node=post.grant.node,
        cores=cores,
        threads=post.threads,
        shards=int(own["shards"]),
        rows=int(own["rows"]),
        moved_shards=int(own["moved_shards"]),
        compute_seconds=own["compute_seconds"],
        wait_seconds=own["wait_seconds"],
        read_seconds=own["read_seconds"],
        save_seconds=own["save_seconds"],
        others_share=_share(others),
        steal_share=_share(own["stolen_seconds"] / (cores * seconds)),
        throttled_seconds=_known(own["throttled_seconds"]),
        rss_bytes=_whole(own["resident"]),
    )


def _node_state(
    node: str,
    posts: Sequence[Post],
    records: np.ndarray,
    shares: Mapping[frozenset[int], float],
    seconds: float,
) -> NodeState:
    """Return the state of a node, of whose ranks the first tells what it shows."""
    post, shown = posts[0], records[0]
    granted = frozenset[int]().union(*shares)
    is_shared = len(granted) == len(post.grant.cores)  # else each rank has cores, and a limit, of its own
    stolen = records["stolen_seconds"].tolist()
    taken = [
        shares[own.grant.cores] + steal / (len(own.grant.cores) * seconds)
        for own, steal in zip(posts, stolen, strict=True)
    ]
    return NodeState(
        node=node,
        ranks=len(posts),
        shards=int(records["shards"].sum(dtype=np.int64)),
        rows=int(records["rows"].sum(dtype=np.int64)),
        cores=post.n_cores if is_shared else float(len(granted)),
        compute_seconds=mean(records["compute_seconds"].tolist()),
        slowest_compute_seconds=float(records["compute_seconds"].max()),
        wait_seconds=mean(records["wait_seconds"].tolist()),
        load=_known(float(shown["load"])),
        others_share=_share(mean(taken)),
        memory_bytes=_whole(post.memory),
        memory_available_bytes=_whole(float(shown["available"])),
        rss_bytes=_whole(math.fsum(records["resident"].tolist())),
        frequency_mhz=_known(float(shown["megahertz"])),
        temperature_celsius=_known(float(shown["celsius"])),
    )


def _share(share: float) -> float | None:
    return None if math.isnan(share) else min(1.0, max(0.0, share))


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _whole(value: float) -> int | None:
    return None if math.isnan(value) else int(value)
