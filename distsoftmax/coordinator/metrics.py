"""metrics.jsonl: one JSON object a line, a line every so many steps."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

from distsoftmax.durable import remedy, write_atomically
from distsoftmax.errors import OutputError


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


def _step_of(line: bytes) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf  # a line that a crash cut short
