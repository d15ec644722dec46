"""What would make a run quicker, in plain words, from the reports on its nodes. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from distsoftmax.monitoring.report import ClusterReport, NodeState, RankState, mean

MOST = 5  # pieces of advice
WAITED = 0.03  # of the time spent on waiting for others, from which on it is worth a word
SLOW = 0.8  # of the median speed, below which a rank is called slow
TAKEN = 0.1  # of a rank's cores taken by others, from which on that is the reason
HELD_BACK = 0.05  # of the time, by a control group
UNEVEN = 1.2  # times the mean of rows that a rank has
MESSAGES = 0.25  # of the time, from which on messages may be what a step consists of
SCARCE = 0.05  # of a node's memory, below which it is about to run out


def advice(report: ClusterReport, balance: str = "") -> list[str]:
    """Return what to do about what costs most time; nothing where the ranks are busy.

    Parameters
    ----------
    report : ClusterReport
    balance : str
        The run's --balance; empty where it is not known.
    """
    if report.seconds <= 0:
        return []
    crowded = list(_crowded(report))
    slow = [] if crowded else [*_slow(report, balance), *_uneven(report), *_messages(report)]  # it follows from that
    return [*crowded, *slow, *_idle(report), *_scarce(report)][:MOST]


def waiting_share(report: ClusterReport) -> float:
    """Return the part of the time that the ranks wait for others, beyond what the messages themselves take."""
    return max(0.0, report.mean_wait_seconds - report.least_wait_seconds) / report.seconds


def threads_of(report: ClusterReport, node: NodeState) -> int:
    """Return the shards that a node computes at once; 0 where none of its ranks is listed."""
    threads = [rank.threads for rank in report.ranks if rank.node == node.node]
    if len(threads) == node.ranks:
        return sum(int(count) for count in threads)
    return max(threads, default=0) * node.ranks


def _crowded(report: ClusterReport) -> Iterator[str]:
    for node in report.nodes:
        threads = threads_of(report, node)
        if threads >= node.cores + 1:
            many = "1 rank" if node.ranks == 1 else f"{node.ranks} ranks"
            of_threads = f" of {threads // node.ranks} threads" if threads > node.ranks else ""
            fewer = max(1, int(node.cores))
            remedy = "give fewer --threads" if node.ranks <= fewer else f"start {fewer} there"
            yield f"{many}{of_threads} on node {node.node} share {_cores(node.cores)}: {remedy}"


def _slow(report: ClusterReport, balance: str) -> Iterator[str]:
    """Yield a sentence on each node's slow ranks, the slowest first."""
    remedy = "more --shards divide more finely" if balance == "dynamic" else "--balance dynamic"
    speeds = report.speeds()
    slow: dict[str, list[RankState]] = {}
    for rank in sorted(report.ranks, key=lambda state: speeds.get(state.rank, 1.0)):
        if speeds.get(rank.rank, 1.0) < SLOW and waiting_share(report) > WAITED:
            slow.setdefault(rank.node, []).append(rank)
    for node, ranks in slow.items():
        numbers = ", ".join(str(rank.rank) for rank in ranks)
        who = (
            f"rank {numbers} on node {node} computes" if len(ranks) == 1 else f"ranks {numbers} on node {node} compute"
        )
        held_back = mean([(rank.throttled_seconds or 0.0) / report.seconds for rank in ranks])
        taken = mean([(rank.others_share or 0.0) + (rank.steal_share or 0.0) for rank in ranks])
        if held_back > HELD_BACK:
            why = f", held back for {held_back:.0%} of the time by a limit on the control group: raise it, or"
        elif taken > TAKEN:
            why = f", as others take {taken:.0%} of the cores: end them, or"
        else:
            why = ":"
        yield f"{who} at {mean([speeds[rank.rank] for rank in ranks]):.2f} of the others' speed{why} {remedy}"


def _uneven(report: ClusterReport) -> Iterator[str]:
    empty = [rank.rank for rank in report.ranks if not rank.shards]
    if empty:
        yield f"{len(empty)} of {report.n_ranks} ranks have no shard: start fewer ranks, or give more --shards"
        return
    n_rows = sum(int(node.rows) for node in report.nodes)
    most = max(report.ranks, key=lambda rank: rank.rows)
    if len(report.nodes) == report.n_nodes and n_rows and waiting_share(report) > WAITED:
        ratio = most.rows * report.n_ranks / n_rows
        if ratio > UNEVEN and report.speeds().get(most.rank, 0.0) < 1 / SLOW:
            yield (
                f"rank {most.rank} has {ratio:.2f} times the rows of the mean: more --shards divide evenly (another "
                "sum, so the model's bits change)"
            )


def _messages(report: ClusterReport) -> Iterator[str]:
    messages, compute = (part / report.seconds for part in (report.least_wait_seconds, report.mean_compute_seconds))
    if report.n_ranks > 1 and messages > max(MESSAGES, compute):
        yield (
            f"messages take {messages:.0%} of a step and computing {compute:.0%}: the steps are shorter than the "
            "messages, so fewer ranks are quicker"
        )


def _idle(report: ClusterReport) -> Iterator[str]:
    for node in report.nodes:
        threads = threads_of(report, node)
        if 0 < threads <= node.cores - 1 and node.shards > threads:
            yield (
                f"{threads} of {_cores(node.cores)} of node {node.node} compute: raise --threads, or start more ranks "
                "there"
            )


def _scarce(report: ClusterReport) -> Iterator[str]:
    for node in report.nodes:
        available, memory = node.memory_available_bytes, node.memory_bytes
        if available is not None and memory and available < SCARCE * memory:
            gib = 2.0**30
            yield (
                f"node {node.node} has {available / gib:.1f} of {memory / gib:.1f} GiB of memory left: --memory bounds "
                "what a rank keeps"
            )


def _cores(number: float) -> str:
    return "1 core" if number == 1 else f"{number:.3g} cores"
