"""metrics.jsonl: one JSON object a line, a line every so many steps."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections import deque
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from io import FileIO
from pathlib import Path
from typing import Any

from distsoftmax.cluster.control import Lap, Verdict
from distsoftmax.durable import open_regular, remedy, write_atomically
from distsoftmax.errors import OutputError
from distsoftmax.monitoring.report import ClusterReport
from distsoftmax.run_folder import metrics_line
from distsoftmax.solvers.state import State
from distsoftmax.training.result import Review

MOST_UNWRITTEN = 100_000  # lines kept for another try, some 40 MB; beyond it the oldest are lost


class MetricsFile:
    """Appends lines; what an earlier run wrote from the step it is resumed at is dropped first.

    Parameters
    ----------
    path : Path
        A symbolic link in its place is an error.
    step : int
        The step the run goes on from.

    Attributes
    ----------
    n_unwritten : int
        The lines that could not be written so far; they are tried again with the next one.

    Raises
    ------
    OutputError
        The file cannot be read or written.
    """

    def __init__(self, path: Path, step: int) -> None:
        self._path = path
        self._unwritten = deque[bytes](maxlen=MOST_UNWRITTEN)
        try:
            with os.fdopen(open_regular(path, os.O_RDONLY), "rb") as file:
                lines = file.read().splitlines()
        except FileNotFoundError:
            return
        except OSError as error:
            raise OutputError(f"{path}: cannot be read: {error.strerror}{remedy(error)}") from None
        earlier = (line for line in lines if metrics_line(line).get("step", step) < step)  # whole ones of ours
        write_atomically(path, b"".join(line + b"\n" for line in earlier))

    @property
    def n_unwritten(self) -> int:
        """See above."""
        return len(self._unwritten)

    def write(self, values: Mapping[str, object]) -> None:
        """Append one line, whole or not at all. Numbers that are not finite become null.

        Raises
        ------
        OutputError
            It could not be written.
        """
        self._unwritten.append(json.dumps(finite(values)).encode() + b"\n")
        try:
            descriptor = open_regular(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            with os.fdopen(descriptor, "ab", buffering=0) as file:
                append_whole(file, b"".join(self._unwritten))
        except OSError as error:
            raise OutputError(f"{self._path}: could not be written: {error.strerror}{remedy(error)}") from None
        self._unwritten.clear()


def metrics_of(
    state: State, review: Review, lap: Lap, verdict: Verdict, n_samples: int, report: ClusterReport | None
) -> dict[str, object]:
    """Return the line of a step that has looked at so many samples; of the last step, what the closing lines say."""
    values: dict[str, object] = {
        "step": state.step,
        "time": utc_now("milliseconds"),
        "objective": state.value if state.is_current else None,
        "batch_objective": None if state.is_current else state.latest_value,
        "gradient_norm": state.evaluation.gradient_norm,
        "estimated_gap": state.estimated_gap,
        "certified_gap": state.certified_gap,
        "step_size": state.step_size,
        "seconds": lap.seconds,
        "samples_per_second": n_samples / lap.seconds if lap.seconds else None,
        "slowest_compute_seconds": float(verdict.compute_seconds.max()),
        "fastest_compute_seconds": float(verdict.compute_seconds.min()),
        "communication_seconds": float(verdict.communication_seconds.max()),
    }
    if review.held_out is not None:
        values |= {"held_out_accuracy": review.held_out.accuracy, "held_out_log_loss": review.held_out.log_loss}
    if review.result is not None:
        result = review.result
        values |= {"objective": result.objective, "certified_gap": result.gap, "model_step": result.step}
    if report is not None:
        values["cluster"] = report.as_json()
    return values


def finite(value: Any) -> Any:
    """Return a value of JSON with null for the numbers in it that are not finite."""
    if isinstance(value, Mapping):
        return {name: finite(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def utc_now(precision: str) -> str:
    """Return the time of day in UTC, as ISO 8601 writes it: with "seconds" as 2026-03-01T06:00:00Z."""
    return datetime.now(timezone.utc).isoformat(timespec=precision).replace("+00:00", "Z")


def in_words(state: State, n_steps: int | None = None) -> str:
    """Return what the progress line says of a step, of so many at most: what matters most comes first."""
    gap = state.certified_gap if state.certified_gap is not None else state.estimated_gap
    reached = f"gap {gap:.2e}" if gap is not None else f"gradient {state.evaluation.gradient_norm:.2e}"
    step = f"step {state.step}" if n_steps is None else f"step {state.step} of {n_steps}"
    return f"{step}  {reached}  objective {state.latest_value:.6f}"


def append_whole(file: FileIO, content: bytes) -> None:
    """Write at the end of a file; where there is no room for all of it, nothing stays."""
    size, unwritten = os.fstat(file.fileno()).st_size, memoryview(content)
    try:
        while unwritten:
            unwritten = unwritten[file.write(unwritten) :]
    except OSError:
        with contextlib.suppress(OSError):
            file.truncate(size)
        raise


def earlier_lines(path: Path, step: int) -> Iterator[dict[str, Any]]:
    """Yield the lines of the steps before one, also while more are appended; none where there is no file yet.

    Raises
    ------
    OSError
    """
    with contextlib.suppress(FileNotFoundError), os.fdopen(open_regular(path, os.O_RDONLY), "rb") as file:
        yield from (values for line in file if (values := metrics_line(line)) and values["step"] < step)
