"""How the state of a run is shown to people: plain text, 80 columns wide unless there are more."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from distsoftmax.monitoring.advice import advice
from distsoftmax.monitoring.live import percent
from distsoftmax.monitoring.report import ClusterReport, NodeState, RankState
from distsoftmax.monitoring.run_state import RunState
from distsoftmax.monitoring.summary import Shares

RANKS_SHOWN, NODES_SHOWN = 16, 16  # the slowest
LONGEST_NAME = 14  # of a node in a table
GAP = "  "  # between two columns
GIB, MIB = 2.0**30, 2.0**20
NODE_HEAD = ("node", "ranks", "cores", "load", "others", "free GiB", "MHz", "C", "compute", "wait")
RANK_HEAD = ("rank", "node", "shards", "rows", "compute", "wait", "speed", "others", "MiB")


def as_lines(state: RunState, report: ClusterReport | None, *, width: int = 80, most: int = RANKS_SHOWN) -> list[str]:
    """Return what is shown of a run: how it is, where its time goes, its nodes and ranks, and advice.

    Parameters
    ----------
    report : ClusterReport or None
        On which time: the latest one, or all.
    width : int
        Columns.
    most : int
        Ranks, and nodes, to list at most.
    """
    lines = [wrapped for text in _head(state) for wrapped in _wrapped(text, width)]
    if report is None:
        if state.step >= 0:
            lines.append("there is no report on its nodes: an earlier version has made this run")
        return [line[:width] for line in lines]
    lines += [wrapped for text in _shares(state, report) for wrapped in _wrapped(text, width)]
    lines += ["", *_nodes(report, min(most, NODES_SHOWN), width), "", *_ranks(report, min(most, RANKS_SHOWN), width)]
    words = advice(report, state.balance)
    if words:
        lines += ["", *(wrapped for text in words for wrapped in _wrapped(f"- {text}", width))]
    return [line[:width].rstrip() for line in lines]


def _head(state: RunState) -> Iterator[str]:
    leg = f", {state.leg} (run {state.n_legs} of a path)" if state.leg else ""
    where = f" (process {state.process} on {state.host})" if state.host else ""
    yield f"{state.folder}{leg}: {_status(state)}{where}"
    if state.step >= 0:
        objective = "" if state.objective is None else f", objective {state.objective:.6g}"
        gap = "" if state.gap is None else f", gap {state.gap:.2e}"
        ago = f", {state.age:.0f} s ago" if state.is_live and state.age > 5 else ""
        yield f"step {state.step}{objective}{gap}{ago}"


def _status(state: RunState) -> str:
    saved = f"it goes on from step {state.checkpoint}" if state.checkpoint >= 0 else "nothing of it is saved"
    return {
        "reading": "reads its data; it has taken no step yet",
        "running": "running",
        "done": "done",
        "stopped": f"stopped; {saved}",
        "crashed": f"crashed; {saved}",
        "not begun": "ended before its first step",
    }[state.status]


def _shares(state: RunState, report: ClusterReport) -> Iterator[str]:
    shares = Shares.of(report)
    if shares is None:
        yield f"read its data in {state.read_seconds:.1f} s; no report on its steps has come yet"
        return
    ranks = "1 rank" if report.n_ranks == 1 else f"{report.n_ranks} ranks"
    nodes = "1 node" if report.n_nodes == 1 else f"{report.n_nodes} nodes"
    yield f"{report.steps} steps in {report.seconds:.1f} s on {ranks} of {nodes}"
    yield (
        f"computing {percent(shares.efficiency)}, waiting for slower ranks {percent(shares.waiting)}, messages "
        f"{percent(shares.messages)}, rest {percent(shares.rest)}"
    )
    lost = shares.waiting * report.seconds
    yield f"the slowest rank computes {shares.imbalance:.2f} times as long as the mean; {lost:.1f} s lost by waiting"
    count = report.moved_shards
    moved = f", {count} shard{'s' if count > 1 else ''} moved" if count else ""
    saved = f", {state.save_seconds:.1f} s writing checkpoints beside the steps" if state.save_seconds else ""
    yield f"{state.read_seconds:.1f} s reading the data{saved}{moved}"


def _nodes(report: ClusterReport, most: int, width: int) -> Iterator[str]:
    shown = sorted(report.nodes, key=lambda node: -node.slowest_compute_seconds)[:most]
    chosen = [node for node in report.nodes if node in shown]
    yield from columns(NODE_HEAD, [_node_row(node, report) for node in chosen], names=(0,), width=width)
    yield from _rest(report.n_nodes - len(chosen), "node")


def _ranks(report: ClusterReport, most: int, width: int) -> Iterator[str]:
    shown = sorted(report.ranks, key=lambda rank: -rank.compute_seconds)[:most]
    chosen = [rank for rank in report.ranks if rank in shown]
    speeds = report.speeds()
    rows = [_rank_row(rank, report, speeds.get(rank.rank)) for rank in chosen]
    yield from columns(RANK_HEAD, rows, names=(1,), width=width)
    yield from _rest(report.n_ranks - len(chosen), "rank")


def _node_row(node: NodeState, report: ClusterReport) -> list[str]:
    return [
        name(node.node),
        str(node.ranks),
        f"{node.cores:.3g}",
        number(node.load, "{:.1f}"),
        percent(node.others_share),
        number(node.memory_available_bytes, "{:.1f}", GIB),
        number(node.frequency_mhz, "{:.0f}"),
        number(node.temperature_celsius, "{:.0f}"),
        percent(node.compute_seconds, report.seconds),
        percent(node.wait_seconds, report.seconds),
    ]


def _rank_row(rank: RankState, report: ClusterReport, speed: float | None) -> list[str]:
    taken = None if rank.others_share is None else min(1.0, rank.others_share + (rank.steal_share or 0.0))
    return [
        str(rank.rank),
        name(rank.node),
        str(rank.shards),
        str(rank.rows),
        percent(rank.compute_seconds, report.seconds),
        percent(rank.wait_seconds, report.seconds),
        number(speed, "{:.2f}"),
        percent(taken),
        number(rank.rss_bytes, "{:.0f}", MIB),
    ]


def columns(
    head: Sequence[str], rows: Sequence[Sequence[str]], names: Sequence[int], width: float = math.inf
) -> Iterator[str]:
    """Yield the lines of a table: columns of names are flush left, numbers right; what does not fit is left out."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    while len(widths) > 1 and len(GAP.join("".ljust(wide) for wide in widths)) > width:
        widths.pop()
    for row in (head, *rows):
        cells = [
            f"{cell:{'<' if number in names else '>'}{wide}}"
            for number, (cell, wide) in enumerate(zip(row, widths, strict=False))
        ]
        yield GAP.join(cells).rstrip()


def _rest(count: int, what: str) -> list[str]:
    return [f"and {count} {what}{'s' if count > 1 else ''} that compute{'s' if count == 1 else ''} less"] * (count > 0)


def _wrapped(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width, subsequent_indent="  ")


def name(node: str) -> str:
    """Return a node's name, cut where it is long."""
    return node if len(node) <= LONGEST_NAME else f"{node[: LONGEST_NAME - 1]}~"


def number(value: float | None, form: str, unit: float = 1.0) -> str:
    """Return a number in a unit; `-` for what is not known."""
    return "-" if value is None or math.isnan(value) else form.format(value / unit)
