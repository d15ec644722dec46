"""The nodes of an allocation before anything runs there: measured by all ranks at once, ranked, and told to mpirun."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from distsoftmax.cluster.communicator import Communicator
from distsoftmax.cluster.cores import Grant, own_grant, share
from distsoftmax.cluster.weights import PROBE_SECONDS, probe
from distsoftmax.config.values import TIMEOUT, require, require_timeout
from distsoftmax.durable import write_atomically
from distsoftmax.errors import InputError
from distsoftmax.monitoring.node import NodeReader
from distsoftmax.monitoring.report import mean
from distsoftmax.monitoring.tables import columns, name, number

BUSY_SECONDS = 0.5  # over which it is measured who else takes the cores, before the ranks themselves do
MESSAGES = 50  # of a step, that are timed
BLOCK_BYTES = 4 << 20  # sent to rank 0 and back, for the rate of the network
COPIED_BYTES, COPIES = 16 << 20, 3  # of memory, more than a core's own cache, and how often; the quickest counts
MOST_RATES = 32  # nodes whose network is measured, one after the other


@dataclass(frozen=True, kw_only=True)
class NodesConfig:
    """What `monitor --nodes` is told."""

    nodes: bool = False
    """Measure the nodes of this job: start one rank a core, or as many as training will have."""
    seconds: float = 0.4
    """How long every rank computes."""
    hostfile: str | None = None
    """Write a host file for mpirun, the quickest nodes first, a slot for each core that nobody else takes."""
    hostfile_format: Literal["auto", "mpich", "openmpi"] = "auto"
    """host:slots for MPICH, host slots=N for Open MPI; auto: as the MPI of this job takes it."""
    weights: str | None = None
    """Write a file of weights by host, as training's --weights takes it."""
    timeout: float = TIMEOUT
    """End the job when no rank has made progress for so many seconds, and say which rank is late; 0: never."""

    def __post_init__(self) -> None:
        """Refuse a call that measures nothing."""
        if not self.nodes:
            raise InputError("nothing is asked for: give --nodes, or, without mpirun, the folder of a run")
        require(0.01 <= self.seconds <= 60, "seconds", self.seconds, "it must be at least 0.01 and at most 60")
        require_timeout(self.timeout)
        if self.timeout and self.timeout < 2 * self.seconds:  # the measurement is one piece of work without a call
            raise InputError(
                f"--timeout is {self.timeout:g} and --seconds {self.seconds:g}; give a timeout of twice the seconds"
            )


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A rank's measures, with all ranks at work.

    Attributes
    ----------
    grant : Grant
    threads : int
    n_cores : float
        Of the node that the rank may use, within the limit of its control group.
    speed : float
        Passes of the probe a second.
    copied : float
        Bytes a second that it reads and writes in memory.
    busy_share : float
        The part of its cores that others took, before the ranks went to work; NaN where the system does not tell.
    load, available : float
        Of the node; NaN where it does not tell.
    """

    grant: Grant
    threads: int
    n_cores: float
    speed: float
    copied: float
    busy_share: float
    load: float
    available: float


@dataclass(frozen=True, kw_only=True)
class NodeMeasures:
    """A node of an allocation.

    Attributes
    ----------
    node : str
    ranks, cores : int
        The ranks there, and the cores that these may use.
    speed : float
        Of each of its ranks, their mean, in multiples of the quickest node's.
    weight : float
        The speed of all its ranks together, in multiples of the quickest node's.
    slots : int
        Cores that nobody else takes, 1 at least.
    copied, busy_share, load, available : float
        Sums, means and readings over its ranks; see `Measured`.
    rate : float
        Bytes a second to rank 0 and back; NaN where it was not measured.
    """

    node: str
    ranks: int
    cores: int
    speed: float
    weight: float
    slots: int
    copied: float
    busy_share: float
    load: float
    available: float
    rate: float


def command(config: NodesConfig, cluster: Communicator) -> int:
    """Measure, print, write what was asked for, and return the exit status. Collective.

    Raises
    ------
    InputError, OutputError
        On every rank: a file cannot be written.
    """
    with cluster.agreement():
        if cluster.rank == 0:
            for option, file in (("--hostfile", config.hostfile), ("--weights", config.weights)):
                if file is not None and not Path(file).absolute().parent.is_dir():
                    raise InputError(f"{option} {file}: its folder does not exist; make it, or name another file")
    measured = cluster.allgather(_measure(config.seconds, cluster))
    rates = _rates([one.grant.node for one in measured], cluster)
    latency = _message_seconds(cluster)
    nodes = ranked(measured, rates)
    cluster.say("\n".join(as_lines(nodes, measured, latency)))
    own_format = "openmpi" if "Open MPI" in cluster.library else "mpich"
    chosen = own_format if config.hostfile_format == "auto" else config.hostfile_format
    with cluster.agreement():
        if cluster.rank == 0 and config.hostfile is not None:
            write_atomically(Path(config.hostfile), host_file(nodes, open_mpi=chosen == "openmpi").encode())
        if cluster.rank == 0 and config.weights is not None:
            write_atomically(Path(config.weights), weights_file(nodes).encode())
    return 0


def ranked(measured: Sequence[Measured], rates: dict[str, float]) -> list[NodeMeasures]:
    """Return the nodes, those with the quickest ranks first. Pure."""
    by_node: dict[str, list[Measured]] = {}
    for one in measured:
        by_node.setdefault(one.grant.node, []).append(one)
    speeds = {node: mean([one.speed for one in ranks]) for node, ranks in by_node.items()}
    quickest = max(speeds.values())
    most = max(speeds[node] * len(ranks) for node, ranks in by_node.items())
    nodes = []
    for node, ranks in by_node.items():
        cores = frozenset[int]().union(*(one.grant.cores for one in ranks))
        busy = mean([one.busy_share for one in ranks])
        is_shared = len(ranks[0].grant.cores) == len(cores)  # else each has cores, and a limit, of its own
        usable = ranks[0].n_cores if is_shared else len(cores)
        free = usable * (1 - (0.0 if np.isnan(busy) else busy))
        nodes.append(
            NodeMeasures(
                node=node,
                ranks=len(ranks),
                cores=len(cores),
                speed=speeds[node] / quickest,
                weight=speeds[node] * len(ranks) / most,
                slots=max(1, round(free)),
                copied=mean([one.copied for one in ranks]) * len(ranks),
                busy_share=busy,
                load=ranks[0].load,
                available=ranks[0].available,
                rate=rates.get(node, np.nan),
            )
        )
    return sorted(nodes, key=lambda node: -node.speed)


def host_file(nodes: Sequence[NodeMeasures], *, open_mpi: bool) -> str:
    """Return a host file for mpirun: `host slots=N` for Open MPI, `host:N` for MPICH; the quickest first."""
    return "".join(f"{node.node} slots={node.slots}\n" if open_mpi else f"{node.node}:{node.slots}\n" for node in nodes)


def weights_file(nodes: Sequence[NodeMeasures]) -> str:
    """Return a file of weights, as `cluster.weights` reads it: a host and its weight, which its ranks share."""
    lines = [f"{node.node} {max(node.weight, 1e-3):.3f}\n" for node in nodes]
    return (
        "# the speed of all ranks of each host together, measured by python -m distsoftmax.monitor --nodes\n"
        + "".join(lines)
    )


def as_lines(nodes: Sequence[NodeMeasures], measured: Sequence[Measured], latency: float) -> list[str]:
    """Return the table of the nodes, and below it what is to be said of the ranks."""
    head = ("node", "ranks", "cores", "speed", "weight", "load", "others", "free GiB", "copy GB/s", "net MB/s")
    rows = [
        [
            name(node.node),
            str(node.ranks),
            str(node.cores),
            f"{node.speed:.2f}",
            f"{node.weight:.2f}",
            number(node.load, "{:.1f}"),
            number(100 * node.busy_share, "{:.0f} %"),
            number(node.available, "{:.1f}", 2.0**30),
            f"{node.copied / 1e9:.1f}",
            number(node.rate, "{:.0f}", 1e6),
        ]
        for node in nodes
    ]
    lines = list(columns(head, rows, names=(0,)))
    speeds = [one.speed for one in measured]
    slowest = speeds.index(min(speeds))
    if len(speeds) > 1:
        ratio, node = min(speeds) / max(speeds), measured[slowest].grant.node
        lines += [
            f"the slowest rank, {slowest} on node {node}, computes at {ratio:.2f} of the quickest one's speed",
            f"a message of a step takes {1e6 * latency:.0f} us on {len(speeds)} ranks",
        ]
    return lines


def _measure(seconds: float, cluster: Communicator) -> Measured:
    grant = own_grant()
    reader = NodeReader(grant.cores)
    grants = cluster.allgather(grant)
    threads = share(grants, cluster.rank)
    before, start = reader.usage(), time.monotonic()
    time.sleep(BUSY_SECONDS)  # all ranks sleep, so that whoever is busy is none of them
    now, seconds_between = reader.usage(), time.monotonic() - start
    gauges = reader.gauges()
    taken = now.busy - before.busy - (now.own - before.own) + now.stolen - before.stolen
    busy = taken / (len(grant.cores) * seconds_between)
    return Measured(
        grant=grant,
        threads=threads,
        n_cores=reader.n_cores,
        speed=_speed(threads, seconds, cluster),
        copied=_copied(cluster),
        busy_share=busy if np.isnan(busy) else min(1.0, max(0.0, busy)),
        load=gauges.load,
        available=gauges.available,
    )


def _speed(threads: int, seconds: float, cluster: Communicator) -> float:
    """Return how often a second this rank does the probe that --balance weighted does, all at once. Collective."""
    cluster.barrier()
    return mean([probe(threads) for _ in range(max(1, round(seconds / PROBE_SECONDS)))])


def _copied(cluster: Communicator) -> float:
    """Return the bytes a second that this rank reads and writes in memory, all ranks at once. Collective."""
    source = np.ones(COPIED_BYTES, dtype=np.uint8)
    target, quickest = np.empty_like(source), np.inf
    cluster.barrier()
    for _ in range(COPIES):
        start = time.perf_counter()
        np.copyto(target, source)
        quickest = min(quickest, time.perf_counter() - start)
    return 2 * COPIED_BYTES / quickest


def _message_seconds(cluster: Communicator) -> float:
    """Return what the control message of a step takes, a median. Collective."""
    seconds, record = [], np.zeros((), dtype=[("seconds", np.float64, 4)])
    for _ in range(MESSAGES):
        start = time.perf_counter()
        cluster.gather_records(record)
        seconds.append(time.perf_counter() - start)
    return sorted(seconds)[MESSAGES // 2]


def _rates(nodes: Sequence[str], cluster: Communicator) -> dict[str, float]:
    """Return the bytes a second between rank 0 and the first rank of each other node, both ways. Collective."""
    others = [node for node in dict.fromkeys(nodes) if node != nodes[0]][:MOST_RATES]
    return {node: 2 * BLOCK_BYTES / _exchange_seconds(nodes.index(node), cluster) for node in others}


def _exchange_seconds(rank: int, cluster: Communicator) -> float:
    """Return how long rank 0 and another take to give each other a block, less what it takes to give nothing."""
    partner = {0: rank, rank: 0}.get(cluster.rank)
    seconds = []
    for size in (0, BLOCK_BYTES):
        contents = [b"\0" * size if number == partner else b"" for number in range(cluster.size)]
        cluster.barrier()
        start = time.perf_counter()
        cluster.alltoall(contents)
        seconds.append(time.perf_counter() - start)
    own = np.array([max(seconds[1] - seconds[0], 1e-9)])
    cluster.maximum(own)
    return float(own[0])
