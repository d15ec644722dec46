"""A run in one JSON document: how it is, where its time goes, its nodes and ranks, and what to do about it.

Fields, of which any may be null where it is not known:

    run, leg, status          folder; the newest run of a path; reading, running, done, stopped, crashed or not begun
    step, objective, gap      the last step; the gap is the certified one, or else the estimated one
    checkpoint                the last step that is saved
    host, process             where rank 0 runs, while it does
    seconds, steps            that what follows is about: since the run has been on these ranks
    ranks_in_all, nodes_in_all
    efficiency                part of the time spent computing on the ranks' own samples, their mean
    waiting                   part spent on waiting for slower ranks
    messages                  part that the messages themselves take
    rest                      part that every rank spends on what all do alike, and rank 0 on metrics
    lost_seconds              that a rank has waited for slower ones, on the mean
    imbalance                 time that the slowest rank computes in a step, in multiples of the mean
    read_seconds              reading and preparing the data, when the run was started last
    save_seconds              writing checkpoints, beside the steps
    nodes, ranks              lists, as of `cluster` in metrics.jsonl, each rank with its `speed`: rows a second, in
                              multiples of the median
    advice                    a list of sentences
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from distsoftmax.monitoring.advice import advice, waiting_share
from distsoftmax.monitoring.report import ClusterReport
from distsoftmax.monitoring.run_state import RunState


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Where the time of the steps goes, in parts of 1: see the module."""

    efficiency: float
    waiting: float
    messages: float
    rest: float
    imbalance: float

    @classmethod
    def of(cls, report: ClusterReport | None) -> Shares | None:
        """Return those of a report; None where it holds no step."""
        if report is None or report.seconds <= 0 or not report.steps:
            return None
        efficiency = report.mean_compute_seconds / report.seconds
        waiting, messages = waiting_share(report), report.least_wait_seconds / report.seconds
        mean_compute = report.mean_compute_seconds
        return cls(
            efficiency=efficiency,
            waiting=waiting,
            messages=messages,
            rest=max(0.0, 1.0 - math.fsum((efficiency, waiting, messages))),
            imbalance=report.slowest_compute_seconds / mean_compute if mean_compute > 0 else 1.0,
        )


def summary(state: RunState) -> dict[str, object]:
    """Return the document; see the module."""
    report = state.whole or state.latest
    shares = Shares.of(report)
    speeds = {} if report is None else report.speeds()
    ranks = [] if report is None else [asdict(rank) | {"speed": speeds.get(rank.rank)} for rank in report.ranks]
    document = {
        "run": str(state.folder),
        "leg": state.leg or None,
        "status": state.status,
        "step": state.step if state.step >= 0 else None,
        "objective": state.objective,
        "gap": state.gap,
        "checkpoint": state.checkpoint if state.checkpoint >= 0 else None,
        "host": state.host or None,
        "process": state.process or None,
        "seconds": None if report is None else report.seconds,
        "steps": None if report is None else report.steps,
        "ranks_in_all": None if report is None else report.n_ranks,
        "nodes_in_all": None if report is None else report.n_nodes,
        **(asdict(shares) if shares else dict.fromkeys(("efficiency", "waiting", "messages", "rest", "imbalance"))),
        "lost_seconds": shares.waiting * report.seconds if shares and report else None,
        "read_seconds": state.read_seconds,
        "save_seconds": state.save_seconds,
        "nodes": [] if report is None else [asdict(node) for node in report.nodes],
        "ranks": ranks,
        "advice": advice(report, state.balance) if report else [],
    }
    rounded: dict[str, object] = _rounded(document)  # type: ignore[assignment]
    return rounded


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
