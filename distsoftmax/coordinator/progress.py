"""Progress: a moving line on a terminal, a plain line now and then in a log. On standard error, by rank 0."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING, Literal

import psutil

from distsoftmax.monitoring.live import node_lines, remark

if TYPE_CHECKING:  # else imported where a line is drawn: a thousand ranks draw none
    from rich.progress import Progress

    from distsoftmax.monitoring.report import ClusterReport

LAUNCHERS = ("mpirun", "mpiexec", "prterun", "srun", "orterun")
REFRESH_SECONDS = 0.1  # between two drawings of the moving line, at least
LOG_SECONDS = 30.0  # between two plain lines, at least
MOST_NODES = 12  # lines under the moving line
LEFT_LINES = 4  # of the terminal, that stay free of them


class ProgressLine:
    """Shows how far a piece of work has come.

    Parameters
    ----------
    mode : {"auto", "always", "never"}
        auto shows the moving line where standard error is a terminal, also one behind mpirun.
    silent : bool
        Show nothing at all: every rank but 0.

    Attributes
    ----------
    is_silent : bool
    """

    def __init__(self, mode: Literal["auto", "always", "never"], *, silent: bool) -> None:
        self.is_silent = silent
        self._last = 0.0
        self._drawn = 0  # lines
        self._report: ClusterReport | None = None
        self._bar: Progress | None = None
        size = None if silent else _terminal_size()
        if silent or mode == "never" or (mode == "auto" and size is None):
            return
        columns, lines = size or (0, 0)
        width, height = columns or 100, lines or 24  # a terminal of unknown size says 0
        self._most_nodes = min(MOST_NODES, max(height - LEFT_LINES, 0))
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.table import Column

        self._console = Console(file=sys.stderr, force_terminal=True, width=width, legacy_windows=False)
        words = TextColumn("{task.fields[text]}", table_column=Column(no_wrap=True))
        self._bar = Progress(TextColumn("{task.description}"), BarColumn(bar_width=20), TimeElapsedColumn(), words)

    def show(self, description: str, completed: int, total: int, text: str = "") -> None:
        """Say that `completed` of `total` is done, with a few words on how it goes."""
        if self.is_silent:
            return
        try:
            self._show(description, completed, total, text)
        except (OSError, SystemExit):  # nobody reads it any more, as behind `| head`; rich ends the process for that
            self.is_silent = True

    def watch(self, report: ClusterReport) -> None:
        """Show with the next lines how the nodes do: one line each on a terminal, what is notable in a log."""
        self._report = report

    def _show(self, description: str, completed: int, total: int, text: str) -> None:
        now = time.monotonic()
        if self._bar is None:
            if now - self._last >= LOG_SECONDS:
                if self._last:
                    print(f"{description}: {completed} of {total} {text}".rstrip(), file=sys.stderr, flush=True)
                    if self._report is not None and (text := remark(self._report)):
                        print(text, file=sys.stderr, flush=True)
                self._last = now
            return
        if not self._bar.tasks or self._bar.tasks[-1].description != description:
            self.leave()
            self._bar.add_task(description, total=total, text=text)
        self._bar.update(self._bar.task_ids[-1], completed=completed, text=text)
        if now - self._last >= REFRESH_SECONDS or completed >= total:
            self._draw()
            self._last = now

    def leave(self) -> None:
        """Leave the moving line where it stands, without the nodes; what comes next is printed below it."""
        if self._bar is not None:
            if self._drawn > 1:
                with contextlib.suppress(OSError, SystemExit):
                    self._draw(nodes=False)
            for task in self._bar.task_ids:
                self._bar.remove_task(task)
        self._drawn = 0
        self._last = 0.0

    def _draw(self, *, nodes: bool = True) -> None:
        """Draw the lines over the last ones. Each ends in a newline: Open MPI holds back one that has not ended."""
        from rich.control import Control
        from rich.segment import ControlType
        from rich.text import Text

        assert self._bar is not None
        for _ in range(self._drawn):
            self._console.control(Control.move(0, -1), Control((ControlType.ERASE_IN_LINE, 2)))
        self._console.print(self._bar.get_renderable(), no_wrap=True, overflow="crop")
        below = [] if self._report is None or not nodes else node_lines(self._report, self._most_nodes)
        for text in below:
            self._console.print(Text(text), no_wrap=True, overflow="crop")
        self._drawn = 1 + len(below)


def _terminal_size() -> tuple[int, int] | None:
    """Return the columns and lines of the terminal that standard error ends up on; None where it is no terminal.

    A rank's own standard error is a pipe to its launcher, so the launcher's is looked at (Linux).
    """
    if sys.stderr.isatty():
        return os.get_terminal_size(sys.stderr.fileno())
    with contextlib.suppress(OSError, psutil.Error):
        for process in psutil.Process().parents():
            if process.name().startswith(LAUNCHERS):
                handle = os.open(f"/proc/{process.pid}/fd/2", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
                try:
                    return os.get_terminal_size(handle)
                finally:
                    os.close(handle)
    return None
