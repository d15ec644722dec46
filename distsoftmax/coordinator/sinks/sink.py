"""What a sink takes: a run's options, its lines of metrics, and its result."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

Line: TypeAlias = Mapping[str, Any]  # of metrics.jsonl
NOT_MEASURED = {"step", "time", "cluster", "format_version", "arithmetic", "tolerance"}  # in a line or a result
NOT_MEASURED |= {f"n_{name}" for name in ("ranks", "shards", "training", "held_out", "features", "classes", "samples")}


class Sink(ABC):
    """Takes the metrics of a run. Rank 0 alone has one, and calls it from one thread at a time, which it may hold up.

    Whatever a call raises, it is made again with the same arguments: a sink sees to it that no step is told twice.

    Attributes
    ----------
    where : str
        What an error calls it.
    """

    where: str

    @abstractmethod
    def begin(self, options: Mapping[str, object], history: Iterable[Line]) -> None:
        """Begin a run, or go on with one.

        Parameters
        ----------
        options : mapping
            By their command-line names.
        history : iterable of Line
            The lines of the steps before the one that the run goes on from. What the sink holds of that step and of
            later ones is taken again, and has the same values.
        """

    @abstractmethod
    def write(self, lines: Sequence[Line]) -> None:
        """Take lines, in the order of their steps."""

    @abstractmethod
    def end(self, result: Mapping[str, Any]) -> None:
        """Take what the run has come to: what result.json holds, or nothing but the status "failed"."""


def numbers_in(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the name and the value of each number that is known and finite, also of those one level below.

    Examples
    --------
    >>> list(numbers_in({"step": 3, "objective": 0.5, "gap": None, "held_out": {"accuracy": 1.0}, "converged": True}))
    [('objective', 0.5), ('held_out_accuracy', 1.0)]
    """
    for name, value in values.items():
        if name in NOT_MEASURED:
            continue
        if _is_number(value):
            yield name, float(value)
        elif isinstance(value, Mapping):
            for inner, number in value.items():
                if inner not in NOT_MEASURED and _is_number(number):
                    yield f"{name}_{inner}", float(number)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def seconds_of(line: Line) -> float:
    """Return when a line was written, in seconds since the epoch; now, where it does not say."""
    text = line.get("time")
    return time.time() if text is None else datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def as_text(value: object) -> str:
    """Return the value of an option as a text."""
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
