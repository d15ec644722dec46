"""How a run is, from the files in its folder: whether it goes on, how far it has come, and the reports on its nodes."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from distsoftmax.errors import InputError
from distsoftmax.monitoring.report import ClusterReport, merged
from distsoftmax.run_folder import holder, last_checkpoint_step, metrics_line

Status = Literal["reading", "running", "done", "stopped", "crashed", "not begun"]

LIVE = ("reading", "running")
MARK = b'"cluster"'  # what a line with a report holds; the others are not parsed, for there may be a million
QUIET_SECONDS = 60.0  # without a line, after which a run that cannot be asked is thought to have ended


@dataclass(frozen=True, kw_only=True)
class RunState:
    """A run at a moment.

    Attributes
    ----------
    folder : Path
        Of the run, or of the path that it is a part of.
    status : str
        reading: it has taken no step yet; running; done: the model is there; stopped: it can be resumed; crashed: it
        has died, and can be resumed, too; not begun: it ended before its first step.
    leg, n_legs : str, int
        The newest run of a path, and how many have begun; "" and 0 for a single run.
    step : int
        The last one; -1 before the first.
    objective, gap : float or None
        After it; the gap is the certified one, or else the estimated one.
    checkpoint : int
        The last step that is saved; -1 for none.
    host, process : str
        Where rank 0 runs, and its process id; empty where the folder does not tell.
    age : float
        Seconds since the last line of metrics was written.
    latest, whole : ClusterReport or None
        The last report, and all of them as one, as long as the run was on the same ranks, without the time before the
        first step.
    read_seconds, save_seconds : float
        Of the rank that read longest, when the run was started last; and of all saves.
    balance : str
        How the shards are dealt out, as in its config.toml; empty where that does not tell.
    """

    folder: Path
    status: Status
    leg: str
    n_legs: int
    step: int
    objective: float | None
    gap: float | None
    checkpoint: int
    host: str
    process: str
    age: float
    latest: ClusterReport | None
    whole: ClusterReport | None
    read_seconds: float
    save_seconds: float
    balance: str

    @property
    def is_live(self) -> bool:
        """Whether it goes on."""
        return self.status in LIVE


class RunReader:
    """Reads the state of a run, again and again: of metrics.jsonl only what is new. It writes nothing.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    InputError
        There is no such folder, or no run in it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        if not folder.is_dir():
            problem = "is a file" if folder.exists() else "does not exist"
            raise InputError(f"{folder} {problem}; name the folder of a run, the one given by --out")
        known = ("metrics.jsonl", "config.toml", "checkpoints", "path", "path.json", ".lock", "model.safetensors")
        if not any((folder / name).exists() for name in known):
            raise InputError(f"{folder} holds no run; name the folder of one, the one given by --out")
        self._lines = _Lines(folder / "metrics.jsonl")

    def read(self) -> RunState:
        """Return how it is now."""
        lock, named = holder(self._folder)  # first: what is written after that is no harm
        legs = sorted(leg for leg in self._folder.glob("path/*") if (leg / "metrics.jsonl").exists())
        folder = legs[-1] if legs else self._folder
        if self._lines.path != folder / "metrics.jsonl":
            self._lines = _Lines(folder / "metrics.jsonl")
        lines = self._lines
        lines.read()
        last = lines.last
        age = lines.age()
        is_held = lock == "held" or (lock == "unknown" and age < QUIET_SECONDS)
        return RunState(
            folder=self._folder,
            status=self._status(is_held, lock == "left", last),
            leg=folder.name if legs else "",
            n_legs=len(legs),
            step=last.get("step", -1),
            objective=_number(last.get("objective")),
            gap=_number(last.get("certified_gap")) or _number(last.get("estimated_gap")),
            checkpoint=_checkpoint(folder),
            host=str(named.get("host", "")) if is_held else "",
            process=str(named.get("process", "")) if is_held else "",
            age=age,
            latest=lines.latest,
            whole=lines.whole_with_reading,
            read_seconds=lines.read_seconds,
            save_seconds=lines.save_seconds,
            balance=_balance(folder),
        )

    def _status(self, is_held: bool, is_left: bool, last: Mapping[str, Any]) -> Status:
        if is_held:
            return "running" if last else "reading"
        if (self._folder / "model.safetensors").exists() and (not last or "model_step" in last):
            return "done"
        if is_left:
            return "crashed"
        return "stopped" if last else "not begun"


class _Lines:
    """The lines of a file that grows, and that may be replaced by another of its name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._forget()

    def _forget(self) -> None:
        self._file, self._offset = (-1, -1), 0
        self.last: Mapping[str, Any] = {}
        self.latest: ClusterReport | None = None
        self.whole: ClusterReport | None = None
        self._reading: dict[int, float] = {}
        self.read_seconds = self.save_seconds = 0.0

    def read(self) -> None:
        """Take up the whole lines that have come since."""
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                if (status.st_dev, status.st_ino) != self._file or status.st_size < self._offset:
                    self._forget()
                    self._file = status.st_dev, status.st_ino
                file.seek(self._offset)
                content = file.read()
        except OSError:
            self._forget()
            return
        end = content.rfind(b"\n") + 1  # what follows is being written
        self._offset += end
        lines = content[:end].splitlines()
        for line in lines:
            if MARK in line:
                self._take(metrics_line(line))
        self.last = next(filter(None, (metrics_line(line) for line in reversed(lines))), self.last)

    def age(self) -> float:
        """Return the seconds since the last line was written."""
        try:
            return max(0.0, time.time() - self.path.stat().st_mtime)
        except OSError:
            return 0.0

    def _take(self, line: Mapping[str, Any]) -> None:
        report = ClusterReport.from_json(line.get("cluster"))
        if report is None:
            return
        self.latest = report
        self.read_seconds = report.read_seconds or self.read_seconds
        self.save_seconds += report.save_seconds
        if report.steps:
            self.whole = merged(self.whole, report)
        else:
            self._reading = {state.rank: state.read_seconds for state in report.ranks}

    @property
    def whole_with_reading(self) -> ClusterReport | None:
        """The reports on the steps as one, with the seconds of reading, which come before them."""
        if self.whole is None:
            return None
        ranks = (replace(rank, read_seconds=self._reading.get(rank.rank, 0.0)) for rank in self.whole.ranks)
        return replace(self.whole, ranks=tuple(ranks))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _checkpoint(folder: Path) -> int:
    """Return the step of the newest checkpoint; -1 where there is none, or this user may not see it."""
    try:
        return last_checkpoint_step(folder)
    except OSError:
        return -1


def _balance(folder: Path) -> str:
    """Return the option's value, without a reader of TOML, which takes longer to load than all else here."""
    try:
        match = re.search(r'^balance = "([a-z-]+)"$', (folder / "config.toml").read_text("utf-8"), re.MULTILINE)
    except (OSError, UnicodeDecodeError):
        return ""
    return match[1] if match else ""
