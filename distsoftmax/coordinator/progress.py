"""Progress: a moving line on a terminal or in a notebook, a plain line now and then in a log. On standard error."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING, Literal

import psutil

from distsoftmax.coordinator.time_left import in_time
from distsoftmax.monitoring.live import node_lines, remark

if TYPE_CHECKING:
    from distsoftmax.monitoring.report import ClusterReport

LAUNCHERS = ("mpirun", "mpiexec", "prterun", "srun", "orterun")
REFRESH_SECONDS = 0.1  # between two drawings of the moving line, at least
NOTEBOOK_SECONDS = 1.0  # in a notebook, which keeps each of them in its file
LOG_SECONDS = 30.0  # between two plain lines, at least
MOST_NODES = 12  # lines under the moving line
LEFT_LINES = 4  # of the terminal, that stay free of them
WIDTH, HEIGHT = 80, 24  # of a terminal that does not tell its own
BAR_WIDTHS = (20, 10)  # the wider one where there is room
LONGEST_DESCRIPTION = 40  # characters
UP, ERASE = "\x1b[1A", "\x1b[2K"  # to the line above; all that stands in the line


class ProgressLine:
    """Shows how far a piece of work has come.

    Parameters
    ----------
    mode : {"auto", "always", "never"}
        auto shows the moving line where standard error is a terminal, also one behind mpirun, or a notebook.
    silent : bool
        Show nothing at all: every rank but 0.

    Attributes
    ----------
    is_silent : bool
    """

    def __init__(self, mode: Literal["auto", "always", "never"], *, silent: bool) -> None:
        self.is_silent = silent
        self._last = self._start = 0.0
        self._drawn = 0  # lines
        self._shown = ("", 0, 1, "", "")
        self._report: ClusterReport | None = None
        self._terminal = None if silent or mode == "never" else _terminal()
        is_cell = _is_of_a_notebook(sys.stderr)
        self._in_notebook = is_cell or "JPY_PARENT_PID" in os.environ  # which the commands have that a notebook starts
        is_seen = is_cell or self._terminal is not None
        self._moves = not silent and (mode == "always" or (mode == "auto" and is_seen))

    def show(self, description: str, completed: int, total: int, text: str = "", left: str = "") -> None:
        """Say that `completed` of `total` is done.

        Parameters
        ----------
        text : str
            How it goes: parts with two spaces between them. On a narrow terminal the first ones are shown.
        left : str
            The time that is left.
        """
        if self.is_silent:
            return
        try:
            self._show(description, completed, total, text, left)
        except OSError:  # nobody reads it any more, as behind `| head`
            self.is_silent = True

    def watch(self, report: ClusterReport) -> None:
        """Show with the next lines how the nodes do: one line each on a terminal, what is notable in a log."""
        self._report = report

    def leave(self) -> None:
        """Leave the moving line where it stands, without the nodes; what comes next is printed below it."""
        if self._drawn:
            with contextlib.suppress(OSError):
                if self._in_notebook:
                    print(file=sys.stderr, flush=True)
                elif self._drawn > 1:
                    self._draw(nodes=False)
        self._shown = ("", 0, 1, "", "")
        self._drawn = 0
        self._last = 0.0

    def _show(self, description: str, completed: int, total: int, text: str, left: str) -> None:
        now = time.monotonic()
        if not self._moves:
            if now - self._last >= LOG_SECONDS:
                if self._last:
                    print(plain_line(description, completed, total, text, left), file=sys.stderr, flush=True)
                    if self._report is not None and (text := remark(self._report)):
                        print(text, file=sys.stderr, flush=True)
                self._last = now
            return
        if self._shown[0] != description:
            self.leave()
            self._start = now
        self._shown = description, completed, total, text, left
        pause = NOTEBOOK_SECONDS if self._in_notebook else REFRESH_SECONDS
        if now - self._last >= pause or completed >= total:
            self._draw()
            self._last = now

    def _draw(self, *, nodes: bool = True) -> None:
        """Draw the lines over the last ones. Each ends in a newline: Open MPI holds back one that has not ended.

        A notebook knows no movement up, but goes back to a line's beginning.
        """
        width, height = _size_of(self._terminal)
        elapsed = time.monotonic() - self._start
        line = moving_line(*self._shown, elapsed, width - 1, fine=_takes_fine_lines())
        if self._in_notebook:
            print(f"\r{line:{width - 1}}", end="", file=sys.stderr, flush=True)
            self._drawn = 1
            return
        most = min(MOST_NODES, max(height - LEFT_LINES, 0))
        below = [] if self._report is None or not nodes else node_lines(self._report, most)
        lines = [line, *(text[: width - 1] for text in below)]
        back = f"{UP}{ERASE}" * self._drawn
        print(back + "\n".join(lines), file=sys.stderr, flush=True)
        self._drawn = len(lines)


def moving_line(
    description: str,
    completed: int,
    total: int,
    text: str,
    left: str,
    elapsed: float,
    width: int,
    *,
    fine: bool = True,
) -> str:
    """Return the moving line in at most so many characters: what matters most, as much as there is room for.

    Parameters
    ----------
    text, left
        See `ProgressLine.show`.
    elapsed : float
        Seconds since the work began.
    fine : bool
        Whether the terminal can show lines that are no ASCII.

    Examples
    --------
    >>> moving_line("training", 267, 1000, "step 267 of 1000  gap 2.28e-04", "about 0:12 left", 4.0, 80, fine=False)
    'training ##-------- 0:04 step 267 of 1000  gap 2.28e-04  about 0:12 left'
    >>> moving_line("training", 267, 1000, "step 267 of 1000  gap 2.28e-04", "about 0:12 left", 4.0, 40, fine=False)
    'training step 267 of 1000  gap 2.28e-04'
    """
    description = _shortened(description, min(LONGEST_DESCRIPTION, width))
    parts: list[str] = []
    room = width - len(description) - 1
    first, *rest = text.split("  ") if text else [f"{completed} of {total}"]
    for part in (first, *rest[:1], left, *rest[1:]):
        if part and len(part) <= room:
            parts.append(part)
            room -= len(part) + 2
    parts.sort(key=[first, *rest, left].index)
    clock = in_time(elapsed)
    before = [description]
    room += 1  # no more parts follow
    bar = next((size for size in BAR_WIDTHS if size + len(clock) + 2 <= room), 0)
    if bar:
        done = min(bar * completed // max(total, 1), bar)
        full, empty = ("━", "─") if fine else ("#", "-")
        before += [full * done + empty * (bar - done)]
    if len(clock) + 1 <= room:
        before.append(clock)
    return " ".join([*before, "  ".join(parts)]).rstrip()


def plain_line(description: str, completed: int, total: int, text: str, left: str) -> str:
    """Return the line for a log."""
    parts = [text or f"{completed} of {total}", left]
    return f"{description}: {'  '.join(filter(None, parts))}"


def _is_of_a_notebook(stream: object) -> bool:
    """Whether what is printed there stands in a notebook at once."""
    return type(stream).__module__.startswith("ipykernel")


def _shortened(name: str, width: int) -> str:
    end = (width - 2) // 2
    return name if len(name) <= width else f"{name[: width - 2 - end]}..{name[-end:]}"


def _takes_fine_lines() -> bool:
    return (getattr(sys.stderr, "encoding", None) or "").lower().startswith("utf")


def _terminal() -> str | int | None:
    """Return what standard error ends up on, where that is a terminal: a file descriptor, or a path to open.

    A rank's own standard error is a pipe to its launcher, so the launcher's is looked at (Linux).
    """
    if sys.stderr.isatty():
        return sys.stderr.fileno()
    with contextlib.suppress(OSError, psutil.Error):
        for process in psutil.Process().parents():
            if process.name().startswith(LAUNCHERS):
                path = f"/proc/{process.pid}/fd/2"
                return path if _size_at(path) is not None else None
    return None


def _size_of(terminal: str | int | None) -> tuple[int, int]:
    """Return the columns and lines of a terminal now: its window may have changed."""
    columns, lines = (None if terminal is None else _size_at(terminal)) or (0, 0)
    return columns or WIDTH, lines or HEIGHT  # a terminal of unknown size says 0


def _size_at(terminal: str | int) -> tuple[int, int] | None:
    with contextlib.suppress(OSError):
        if isinstance(terminal, int):
            return os.get_terminal_size(terminal)
        handle = os.open(terminal, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            return os.get_terminal_size(handle)
        finally:
            os.close(handle)
    return None
