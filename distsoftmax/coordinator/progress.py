"""Progress: a moving line on a terminal, a plain line now and then in a log. On standard error, by rank 0."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING, Literal

import psutil

if TYPE_CHECKING:  # else imported where a line is drawn: a thousand ranks draw none
    from rich.progress import Progress

LAUNCHERS = ("mpirun", "mpiexec", "prterun", "srun", "orterun")
REFRESH_SECONDS = 0.1  # between two drawings of the moving line, at least
LOG_SECONDS = 30.0  # between two plain lines, at least


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
        self._drawn = False
        self._bar: Progress | None = None
        width = None if silent else _terminal_width()
        if silent or mode == "never" or (mode == "auto" and width is None):
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.table import Column

        self._console = Console(file=sys.stderr, force_terminal=True, width=width or 100, legacy_windows=False)
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

    def _show(self, description: str, completed: int, total: int, text: str) -> None:
        now = time.monotonic()
        if self._bar is None:
            if now - self._last >= LOG_SECONDS:
                if self._last:
                    print(f"{description}: {completed} of {total} {text}".rstrip(), file=sys.stderr, flush=True)
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
        """Leave the moving line where it stands; what comes next is printed below it."""
        if self._bar is not None:
            for task in self._bar.task_ids:
                self._bar.remove_task(task)
        self._drawn = False
        self._last = 0.0

    def _draw(self) -> None:
        """Draw the line over the last one. It ends in a newline: Open MPI holds back a line that has not ended."""
        from rich.control import Control
        from rich.segment import ControlType

        assert self._bar is not None
        if self._drawn:
            self._console.control(Control.move(0, -1), Control((ControlType.ERASE_IN_LINE, 2)))
        self._console.print(self._bar.get_renderable(), no_wrap=True, overflow="crop")
        self._drawn = True


def _terminal_width() -> int | None:
    """Return the columns of the terminal that standard error ends up on; None where it is no terminal.

    A rank's own standard error is a pipe to its launcher, so the launcher's is looked at (Linux).
    """
    if sys.stderr.isatty():
        return os.get_terminal_size(sys.stderr.fileno()).columns
    with contextlib.suppress(OSError, psutil.Error):
        for process in psutil.Process().parents():
            if process.name().startswith(LAUNCHERS):
                handle = os.open(f"/proc/{process.pid}/fd/2", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
                try:
                    return os.get_terminal_size(handle).columns
                finally:
                    os.close(handle)
    return None
