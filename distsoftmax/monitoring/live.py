"""How the nodes do, while a run goes on: the lines under the moving line, and the remark in a log."""

from __future__ import annotations

from distsoftmax.monitoring.report import ClusterReport, NodeState, RankState

NOTABLE = 1.25  # times the mean that the slowest rank computes, from which on it is named
RANKS_IN_A_LINE = 16
LONGEST_NAME = 24  # of a node


def node_lines(report: ClusterReport, most: int) -> list[str]:
    """Return a line on each node, the slowest marked; of more nodes than so many, the slowest.

    A job of one node has one line on its ranks, and a single rank none.
    """
    if report.n_ranks == 1 or report.seconds <= 0 or most < 1:
        return []
    if report.n_nodes == 1:
        return [_of_one_node(report)]
    slow = sorted(report.nodes, key=lambda node: -node.slowest_compute_seconds)[:most]
    is_uneven = notable(report)
    width = min(LONGEST_NAME, max(len(node.node) for node in slow))
    lines = [_of_node(node, report, width, mark=is_uneven and node is slow[0]) for node in slow]
    hidden = report.n_nodes - len(lines)
    if hidden:
        lines[-1:] = [f"  and {hidden + 1} nodes that compute less long"]
    return lines


def remark(report: ClusterReport) -> str:
    """Return what a log says of the slowest rank, where the others wait for it notably; else nothing."""
    if not notable(report):
        return ""
    slowest = next(rank for rank in report.ranks if rank.rank == report.slowest_rank)
    ratio = report.slowest_compute_seconds / report.mean_compute_seconds
    return (
        f"slowest: rank {slowest.rank} on node {slowest.node} computes {ratio:.1f} times as long as the mean"
        f"{_taken(slowest)}; the ranks wait {percent(report.mean_wait_seconds, report.seconds)} of the time"
    )


def notable(report: ClusterReport) -> bool:
    """Whether one rank computes so much longer than the others that these wait for it."""
    waits = report.mean_wait_seconds - report.least_wait_seconds
    return (
        report.steps > 0
        and report.slowest_compute_seconds > NOTABLE * report.mean_compute_seconds
        and waits > 0.05 * report.seconds
    )


def percent(part: float | None, whole: float = 1.0) -> str:
    """Return a part of a whole in percent; `-` for what is not known."""
    return "-" if part is None or not whole else f"{100 * part / whole:.0f} %"


def _of_one_node(report: ClusterReport) -> str:
    shown = report.ranks[:RANKS_IN_A_LINE]
    shares = " ".join(f"{100 * rank.compute_seconds / report.seconds:.0f}" for rank in shown)
    more = f" and {report.n_ranks - len(shown)} more" if report.n_ranks > len(shown) else ""
    slowest = f", rank {report.slowest_rank} the slowest" if notable(report) else ""
    return f"  ranks compute {shares}{more} % of the time{slowest}{_others(report.nodes[0])}"


def _of_node(node: NodeState, report: ClusterReport, width: int, *, mark: bool) -> str:
    compute, wait = (percent(part, report.seconds) for part in (node.slowest_compute_seconds, node.wait_seconds))
    ranks = "1 rank" if node.ranks == 1 else f"{node.ranks} ranks"
    slowest = "  <- slowest" if mark else ""
    return f"  {node.node[:width]:{width}}  {ranks}  compute {compute}, wait {wait}{_others(node)}{slowest}"


def _others(node: NodeState) -> str:
    return f", others {percent(node.others_share)}" if node.others_share is not None else ""


def _taken(rank: RankState) -> str:
    share = (rank.others_share or 0.0) + (rank.steal_share or 0.0)
    return f" (others take {percent(share)} of its cores)" if share > 0.1 else ""
