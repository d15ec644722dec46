"""The state of a run as a text file for the textfile collector of Prometheus' node_exporter.

The format is Prometheus' text-based exposition format, version 0.0.4: a HELP and a TYPE line for each metric, then its
samples. node_exporter reads a file at any moment, so it is replaced as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter
from pathlib import Path

from distsoftmax.durable import write_atomically
from distsoftmax.monitoring.report import RankState
from distsoftmax.monitoring.run_state import RunState
from distsoftmax.monitoring.summary import Shares

Sample = tuple[Mapping[str, str], float | int | None]


def exposition(state: RunState) -> str:
    """Return the file's content: gauges, of the latest report; what is not known is left out."""
    run = {"run": str(state.folder)}
    lines = []
    for name, text, samples in _metrics(state):
        known = [(labels, value) for labels, value in samples if value is not None]
        if known:
            lines += [f"# HELP distsoftmax_{name} {text}", f"# TYPE distsoftmax_{name} gauge"]
            lines += [f"distsoftmax_{name}{{{_labels({**run, **labels})}}} {value!r}" for labels, value in known]
    return "\n".join(lines) + "\n"


def write_exposition(path: Path, state: RunState) -> None:
    """Replace the file as a whole; its temporary file does not end in .prom, so that nobody collects it.

    Raises
    ------
    OutputError
    """
    write_atomically(path, exposition(state).encode())


def _metrics(state: RunState) -> Iterator[tuple[str, str, list[Sample]]]:
    """Yield name, help and samples of each metric; names end in their unit, as Prometheus asks for."""
    yield "up", "Whether the run goes on.", [({}, int(state.is_live))]
    yield "step", "The last step.", [({}, state.step if state.step >= 0 else None)]
    yield "objective", "The objective after it.", [({}, state.objective)]
    yield "gap", "The certified gap, or else the estimated one.", [({}, state.gap)]
    yield "last_step_age_seconds", "Seconds since the last line of metrics.", [({}, round(state.age, 3))]
    report = state.latest
    if report is None:
        return
    shares = Shares.of(report)
    if shares is not None:
        yield "efficiency_ratio", "Part of the time spent computing, the ranks' mean.", [({}, shares.efficiency)]
        yield "waiting_ratio", "Part of the time spent waiting for slower ranks.", [({}, shares.waiting)]
        yield "messages_ratio", "Part of the time that messages take.", [({}, shares.messages)]
        yield "imbalance_ratio", "Compute time of the slowest rank in multiples of the mean.", [({}, shares.imbalance)]
        yield "step_seconds", "Seconds of a step, the mean.", [({}, report.seconds / report.steps)]
    yield "ranks", "Ranks of the run.", [({}, report.n_ranks)]
    for name, text in (
        ("load", "Processes that run or wait to, a mean of the last minute."),
        ("memory_bytes", "Memory of the node."),
        ("memory_available_bytes", "Memory of the node that may still be taken."),
        ("frequency_mhz", "Frequency of a core."),
        ("temperature_celsius", "Temperature of the processor."),
        ("cores", "Cores that the run may use."),
    ):
        samples: list[Sample] = [({"node": node.node}, getattr(node, name)) for node in report.nodes]
        yield f"node_{name}", text, samples
    speeds = report.speeds()

    def of_ranks(value: Callable[[RankState], float | int | None]) -> list[Sample]:
        return [({"rank": str(rank.rank), "node": rank.node}, value(rank)) for rank in report.ranks]

    for name, text in (
        ("shards", "Shards that the rank owns."),
        ("rows", "Rows that the rank owns."),
        ("rss_bytes", "Memory that the rank occupies."),
        ("others_share", "Part of the time of its cores that other processes took."),
        ("steal_share", "Part of the time of its cores that the hypervisor gave to others."),
    ):
        yield f"rank_{name.replace('_share', '_ratio')}", text, of_ranks(attrgetter(name))
    if report.seconds > 0:
        computed = of_ranks(lambda rank: rank.compute_seconds / report.seconds)
        yield "rank_compute_ratio", "Part of the time that the rank computed.", computed
        waited = of_ranks(lambda rank: rank.wait_seconds / report.seconds)
        yield "rank_wait_ratio", "Part of the time that the rank spent in messages.", waited
    speed = of_ranks(lambda rank: speeds.get(rank.rank))
    yield "rank_speed_ratio", "Rows a second in multiples of the median rank's.", speed


def _labels(labels: Mapping[str, str]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())


def _escaped(text: str) -> str:
    return re.sub(r'[\\"\n]', lambda match: {"\n": r"\n"}.get(match[0], f"\\{match[0]}"), text)
