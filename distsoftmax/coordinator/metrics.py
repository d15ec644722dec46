"""metrics.jsonl: one JSON object a line, a line every so many steps."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

from distsoftmax.cluster.control import Lap, Verdict
from distsoftmax.durable import remedy, write_atomically
from distsoftmax.errors import OutputError
from distsoftmax.solvers.state import State
from distsoftmax.training.stopping import Look


class MetricsFile:
    """Appends lines; what an earlier run wrote from the step it is resumed at is dropped first.

    Parameters
    ----------
    path : Path
    step : int
        The step the run goes on from.

    Raises
    ------
    OutputError
        The file cannot be written.
    """

    def __init__(self, path: Path, step: int) -> None:
        self._path = path
        if path.exists():
            kept = [line for line in path.read_bytes().splitlines() if _step_of(line) < step]
            write_atomically(path, b"".join(line + b"\n" for line in kept))

    def write(self, values: Mapping[str, float | None]) -> None:
        """Append one line. Numbers that are not finite become null.

        Raises
        ------
        OutputError
            It could not be written.
        """
        finite = {name: value if value is None or math.isfinite(value) else None for name, value in values.items()}
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(finite) + "\n")
        except OSError as error:
            raise OutputError(f"{self._path}: could not be written: {error.strerror}{remedy(error)}") from None


def metrics_of(state: State, look: Look, lap: Lap, verdict: Verdict, n_samples: int) -> dict[str, float | None]:
    """Return the line of a step that has looked at so many samples; of the last step, what the closing lines say."""
    values = {
        "step": state.step,
        "objective": state.value if state.is_current else None,
        "batch_objective": None if state.is_current else state.latest_value,
        "gradient_norm": state.evaluation.gradient_norm,
        "estimated_gap": state.estimated_gap,
        "certified_gap": state.certified_gap,
        "step_size": state.step_size,
        "seconds": lap.seconds,
        "samples_per_second": n_samples / lap.seconds if lap.seconds else None,
        "slowest_compute_seconds": verdict.slowest_seconds,
        "fastest_compute_seconds": verdict.fastest_seconds,
        "communication_seconds": verdict.communication_seconds,
    }
    if look.held_out is not None:
        values |= {"held_out_accuracy": look.held_out.accuracy, "held_out_log_loss": look.held_out.log_loss}
    if look.result is not None:
        result = look.result
        values |= {"objective": result.objective, "certified_gap": result.gap, "model_step": result.step}
    return values


def last_step(path: Path) -> int:
    """Return the step of the last whole line of a file of metrics; -1 where there is none."""
    try:
        steps = [_step_of(line) for line in path.read_bytes().splitlines()[-2:]]
    except OSError:
        return -1
    return int(max((step for step in steps if math.isfinite(step)), default=-1))


def _step_of(line: bytes) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf  # a line that a crash cut short
