"""What metrics.jsonl tells of a run, step by step, and curves of it that are short enough to draw."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distsoftmax.errors import InputError
from distsoftmax.reporting.record import Record
from distsoftmax.run_folder import metrics_line

COLUMNS = (
    "objective",
    "batch_objective",
    "estimated_gap",
    "certified_gap",
    "held_out_accuracy",
    "held_out_log_loss",
    "gradient_norm",
    "seconds",
)
MOST_INTERVALS = 700  # of a curve that is thinned; each keeps its lowest and its highest point


@dataclass(frozen=True)
class Curve:
    """Points to be joined by a line, x ascending.

    Attributes
    ----------
    steps : ndarray of float64, (n_points,)
    seconds : ndarray of float64, (n_points,)
        Of training, from the first step on.
    values : ndarray of float64, (n_points,)
        Finite.
    """

    steps: NDArray[np.float64]
    seconds: NDArray[np.float64]
    values: NDArray[np.float64]

    def __len__(self) -> int:
        return self.values.size


@dataclass(frozen=True)
class History:
    """The lines of a run's metrics.jsonl.

    Attributes
    ----------
    steps : ndarray of float64, (n_lines,)
        Integers, ascending.
    columns : dict of str to ndarray of float64, (n_lines,)
        Of each name in `COLUMNS`; NaN where a line does not tell.
    last : Record
        The last whole line.
    last_time : str or None
        When the last line was written that tells.
    n_unreadable : int
        Lines that are none of ours.
    """

    steps: NDArray[np.float64]
    columns: dict[str, NDArray[np.float64]]
    last: Record
    last_time: str | None
    n_unreadable: int

    @cached_property
    def seconds(self) -> NDArray[np.float64]:
        """Seconds of training up to each line, (n_lines,); each step between two has taken what the later one says."""
        own = np.nan_to_num(self.columns["seconds"], nan=0.0)
        n_steps = np.diff(self.steps, prepend=self.steps[:1])
        return np.array(list(itertools.accumulate((own * np.maximum(n_steps, 0)).tolist())))

    def curve(self, name: str) -> Curve:
        """Return a column where it has values, thinned."""
        values = self.columns[name]
        given = np.flatnonzero(np.isfinite(values))
        kept = given[thinned(values[given])]
        return Curve(self.steps[kept], self.seconds[kept], values[kept])


def read_history(path: Path) -> History:
    """Read a run's metrics, passing over what is none of ours, such as a line that a crash cut short.

    Of lines that tell of the same step again, as after a crash, the last one counts.

    Raises
    ------
    InputError
        The file is there, but cannot be read.
    """
    table, width = array("d"), 1 + len(COLUMNS)  # a row a line: its step, and its columns
    last, last_time, n_unreadable = Record(), None, 0
    try:
        with path.open("rb") as file:
            for line in file:
                record = Record(metrics_line(line))
                step = record.count("step")
                if step is None:
                    n_unreadable += bool(line.strip())
                    continue
                while table and table[-width] >= step:
                    del table[-width:]
                table.append(step)
                table.extend(np.nan if (value := record.number(name)) is None else value for name in COLUMNS)
                last = record
                last_time = record.text("time") or last_time
    except FileNotFoundError:
        pass
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    steps, *columns = np.array(table).reshape(-1, width).T
    return History(steps, dict(zip(COLUMNS, columns, strict=True)), last, last_time, n_unreadable)


def thinned(values: Sequence[float] | NDArray[np.float64], most: int = MOST_INTERVALS) -> NDArray[np.int64]:
    """Return which points of a curve to keep: of each of so many intervals the lowest and the highest, and both ends.

    Examples
    --------
    >>> thinned([5.0, 1.0, 2.0, 9.0, 3.0, 3.0], 2).tolist()
    [0, 1, 3, 4, 5]
    """
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.size <= 2 * most:
        return np.arange(numbers.size)
    ends = [number * numbers.size // most for number in range(most + 1)]
    kept = {0, numbers.size - 1}
    for start, end in itertools.pairwise(ends):
        kept |= {start + int(np.argmin(numbers[start:end])), start + int(np.argmax(numbers[start:end]))}
    return np.array(sorted(kept), dtype=np.int64)
