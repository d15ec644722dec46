"""A report on the cluster: what every rank and every node did and showed since the last one. Plain values, and JSON.

It stands in metrics.jsonl as `cluster`, in the line of the step after which it was gathered. What is not known is null.
However many ranks there are, a report is no longer than some 20 kB: of many ranks and nodes the slowest are listed, and
the others are in the sums over all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from types import NoneType
from typing import Any, TypeVar

MOST_LISTED = 32  # ranks, and nodes, of a report: the slowest
KINDS: dict[str, tuple[type, ...]] = {  # of the values that a field of such a type may have
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "int | None": (int, NoneType),
    "float | None": (int, float, NoneType),
    "tuple[NodeState, ...]": (tuple,),
    "tuple[RankState, ...]": (tuple,),
}

Record = TypeVar("Record", bound="RankState | NodeState | ClusterReport")


@dataclass(frozen=True, kw_only=True)
class RankState:
    """A rank since the last report.

    Attributes
    ----------
    rank : int
    node : str
    cores, threads : int
        Cores it may use, and the shards that it computes at once.
    shards, rows : int
        It owns of the training data.
    moved_shards : int
        That have come to it.
    compute_seconds, wait_seconds : float
        On its own samples; in messages, waiting for others included.
    read_seconds, save_seconds : float
        Reading and preparing data; writing checkpoints, which goes on beside the steps.
    others_share, steal_share : float or None
        The part of its cores' time that other processes took (none of this job), and other machines of the hypervisor.
    throttled_seconds : float or None
        For which a limit of its control group kept it from running.
    rss_bytes : int or None
        Of memory that it occupies.
    """

    rank: int
    node: str
    cores: int
    threads: int
    shards: int
    rows: int
    moved_shards: int
    compute_seconds: float
    wait_seconds: float
    read_seconds: float
    save_seconds: float
    others_share: float | None
    steal_share: float | None
    throttled_seconds: float | None
    rss_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class NodeState:
    """A node since the last report.

    Attributes
    ----------
    node : str
    ranks, shards, rows : int
        The ranks of the job there, and what they own.
    cores : float
        That the job may use there: fewer than there are where the launcher or a control group says so.
    compute_seconds, slowest_compute_seconds, wait_seconds : float
        Means over its ranks, and the most.
    load : float or None
        Processes that run or wait to, a mean of the last minute.
    others_share : float or None
        The part of those cores' time that other processes and other machines took: the mean over its ranks.
    memory_bytes, memory_available_bytes, rss_bytes : int or None
        Of the node, what may still be taken, and what its ranks occupy.
    frequency_mhz, temperature_celsius : float or None
    """

    node: str
    ranks: int
    shards: int
    rows: int
    cores: float
    compute_seconds: float
    slowest_compute_seconds: float
    wait_seconds: float
    load: float | None
    others_share: float | None
    memory_bytes: int | None
    memory_available_bytes: int | None
    rss_bytes: int | None
    frequency_mhz: float | None
    temperature_celsius: float | None


@dataclass(frozen=True, kw_only=True)
class ClusterReport:
    """All ranks since the last report.

    Attributes
    ----------
    seconds : float
        Since then.
    steps : int
        Taken in them.
    n_ranks, n_nodes : int
    mean_compute_seconds, slowest_compute_seconds : float
        On the ranks' own samples.
    slowest_rank : int
    mean_wait_seconds, least_wait_seconds : float
        In messages; the rank that waits least waits for nobody, so its is what the messages themselves take.
    median_per_row : float
        Seconds that the median of all ranks computes on one of its rows; 0 where none has.
    moved_shards : int
        That have come to any rank.
    read_seconds, save_seconds : float
        Of the rank that read, or saved, longest.
    nodes, ranks : tuple
        Of many the slowest, `MOST_LISTED` of each; in order.
    """

    seconds: float
    steps: int
    n_ranks: int
    n_nodes: int
    mean_compute_seconds: float
    slowest_compute_seconds: float
    slowest_rank: int
    mean_wait_seconds: float
    least_wait_seconds: float
    median_per_row: float
    moved_shards: int
    read_seconds: float
    save_seconds: float
    nodes: tuple[NodeState, ...]
    ranks: tuple[RankState, ...]

    def as_json(self) -> dict[str, object]:
        """Return what stands in metrics.jsonl: numbers rounded to what they are worth."""
        return _rounded(asdict(self))

    @classmethod
    def from_json(cls, content: Any) -> ClusterReport | None:
        """Return the report that stands in a line of metrics.jsonl; None where there is none that can be read."""
        try:
            nodes = tuple(NodeState(**_known(NodeState, state)) for state in content["nodes"])
            ranks = tuple(RankState(**_known(RankState, state)) for state in content["ranks"])
            report = cls(**_known(cls, content) | {"nodes": nodes, "ranks": ranks})
        except (TypeError, KeyError, AttributeError):
            return None
        records: tuple[ClusterReport | NodeState | RankState, ...] = (report, *ranks, *nodes)
        return report if ranks and nodes and all(map(_is_whole, records)) else None

    def speeds(self) -> dict[int, float]:
        """Return the rows a second of each listed rank that has rows, in multiples of the median of all ranks."""
        if self.median_per_row <= 0:
            return {}
        return {
            s.rank: self.median_per_row / (s.compute_seconds / s.rows)
            for s in self.ranks
            if s.rows and s.compute_seconds > 0
        }


def merged(earlier: ClusterReport | None, later: ClusterReport) -> ClusterReport:
    """Return one report on the time of two, as long as they are on the same number of ranks; else, the later one.

    Seconds, steps and moves add up, shares are means over the time; what a node shows is the later one's. Ranks and
    nodes are listed that both reports list: of many those that are slow for long.
    """
    if earlier is None or (earlier.n_ranks, earlier.n_nodes) != (later.n_ranks, later.n_nodes):
        return later
    first = earlier.seconds / (earlier.seconds + later.seconds or 1.0)
    old_ranks = {(state.rank, state.node): state for state in earlier.ranks}
    old_nodes = {state.node: state for state in earlier.nodes}
    ranks = tuple(
        _added(old_ranks[state.rank, state.node], state, first)
        for state in later.ranks
        if (state.rank, state.node) in old_ranks
    )
    nodes = tuple(_added(old_nodes[state.node], state, first) for state in later.nodes if state.node in old_nodes)
    if not ranks or not nodes:
        return later
    slowest = max(ranks, key=lambda state: state.compute_seconds).rank
    return replace(_added(earlier, later, first), slowest_rank=slowest, ranks=ranks, nodes=nodes)


def mean(values: Sequence[float]) -> float:
    """Return the mean of some numbers; NaN of none."""
    return math.fsum(values) / len(values) if values else math.nan


def _added(before: Record, now: Record, first: float) -> Record:
    """Return a record over the time of two, of which the first had such a part."""
    values: dict[str, float] = {}
    for name in (item.name for item in fields(now)):
        old, new = getattr(before, name), getattr(now, name)
        if old is None or new is None:
            continue
        if name.endswith("seconds") or name in ("steps", "median_per_row", "moved_shards"):
            values[name] = old + new
        elif name.endswith("_share"):
            values[name] = first * old + (1 - first) * new
    return replace(now, **values)  # type: ignore[arg-type]


def _rounded(values: dict[str, object]) -> dict[str, object]:
    return {name: _round(name, value) for name, value in values.items()}


def _round(name: str, value: Any) -> object:
    if isinstance(value, tuple):
        return [_rounded(state) for state in value]
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return None
    return float(f"{value:.6g}") if name.endswith("per_row") else round(value, 6 if name.endswith("seconds") else 4)


def _known(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that a record of a kind has: a later version may write more."""
    return {item.name: values[item.name] for item in fields(kind) if item.name in values}


def _is_whole(record: ClusterReport | NodeState | RankState) -> bool:
    """Whether each value is of the type that its field has: a file may hold anything."""
    return all(isinstance(getattr(record, item.name), KINDS[str(item.type)]) for item in fields(record))
