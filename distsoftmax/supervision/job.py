"""A command that runs as a child, with all the processes that come of it."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

SET_DEATH_SIGNAL, SET_SUBREAPER = 1, 36  # PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER of Linux's prctl
CLEAR_SECONDS = 10.0  # in which the processes that are left over must end after SIGKILL
TAIL_LINES = 20  # of standard error that are kept
# how a line on standard error ends that says that a rank ends the job for all, or that ssh hears nothing of a host
ENDED = (b"; the job is ended", b" not responding.")
END_SECONDS = 15.0  # that the launcher may take from there: it may wait for a node that it does not reach
POLL_SECONDS = 0.02  # between two looks whether a process has ended, where no signal says so
ON_LINUX = sys.platform == "linux"
_C = ctypes.CDLL(None) if ON_LINUX else None


def adopt_orphans() -> None:
    """Let processes whose parent has died become children of this one, not of init, so that none gets lost (Linux)."""
    if _C is not None:
        _C.prctl(SET_SUBREAPER, 1, 0, 0, 0)


class Job:
    """A command in a session of its own: a terminal's Ctrl-C does not reach it.

    Its output passes through as it comes. Where standard error is no terminal it passes through a pipe, and its last
    lines are kept; after one that says that the job has ended, or a host is lost, a launcher that goes on is killed.
    When this process is killed the job gets SIGUSR1: a run saves its state, and ends.

    Parameters
    ----------
    words : sequence of str
    wakeup : int
        A file descriptor that can be read when a signal has come; see `signal.set_wakeup_fd`.
    environment : mapping

    Raises
    ------
    OSError
        There is no such command.
    """

    def __init__(self, words: Sequence[str], wakeup: int, environment: Mapping[str, str]) -> None:
        self._wakeup = wakeup
        self._tail: deque[bytes] = deque([b""], TAIL_LINES + 1)
        self._end = math.inf  # by `time.monotonic`, when the command is killed
        parent = os.getpid()

        def end_with_the_parent() -> None:
            if _C is not None:
                _C.prctl(SET_DEATH_SIGNAL, signal.SIGUSR1, 0, 0, 0)
                if os.getppid() != parent:  # it has died before it could be watched
                    os._exit(1)

        self._process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stderr=None if os.isatty(2) else subprocess.PIPE,
            env=environment,
            start_new_session=True,
            preexec_fn=end_with_the_parent,  # there are no other threads
        )
        self._pipe = None if self._process.stderr is None else self._process.stderr.fileno()

    @property
    def last_lines(self) -> list[str]:
        """The last lines of its standard error, but for empty ones and rules; none where that is a terminal."""
        lines = [line.decode(errors="replace").rstrip() for line in self._tail]
        return [line for line in lines if line.strip("=-* ")]

    def send(self, number: int) -> None:
        """Send a signal to the command itself, not to what it has started."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def wait(self) -> int:
        """Wait for the command, end all that it has left over, and return its status; -N where signal N has ended it.

        Signals are taken while it waits.
        """
        while self._process.poll() is None:
            self._pass_on(1.0)
            if time.monotonic() > self._end:
                say(
                    f"the launcher does not end, {END_SECONDS:.0f} s after the job has or a host was lost; it is killed"
                )
                self._end = math.inf
                self.send(signal.SIGKILL)
        self.clear()
        deadline = time.monotonic() + 1.0
        while self._pipe is not None and time.monotonic() < deadline:
            self._pass_on(POLL_SECONDS)
        if self._process.stderr is not None:
            self._process.stderr.close()
        return self._process.returncode

    def clear(self) -> None:
        """Kill all processes that have come of the command and still run, and wait until they are gone."""
        deadline = time.monotonic() + CLEAR_SECONDS
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        while True:
            remaining = psutil.Process().children(recursive=True)
            for process in remaining:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            self._process.poll()
            for process in remaining:
                with contextlib.suppress(ChildProcessError):
                    if process.pid != self._process.pid:
                        os.waitpid(process.pid, os.WNOHANG)
            if not remaining:
                remove_session(self._process.pid)
                return
            if time.monotonic() > deadline:
                names = ", ".join(str(process.pid) for process in remaining)
                say(f"processes that cannot be ended remain: {names}; look for a file system that does not answer")
                return
            time.sleep(POLL_SECONDS)

    def _pass_on(self, seconds: float) -> None:
        """Wait for a signal or for standard error, at most for so many seconds, and pass on what there is of it."""
        watched = [self._wakeup] if self._pipe is None else [self._wakeup, self._pipe]
        ready, _, _ = select.select(watched, [], [], seconds)
        if self._wakeup in ready:
            os.read(self._wakeup, 4096)
        if self._pipe not in ready or self._pipe is None:
            return
        chunk = os.read(self._pipe, 1 << 16)
        if not chunk:
            self._pipe = None
            return
        first, *lines = chunk.split(b"\n")
        self._tail[-1] = (self._tail[-1] + first)[-4096:]
        if lines and any(line.rstrip().endswith(ENDED) for line in (self._tail[-1], *lines)):
            self._end = min(self._end, time.monotonic() + END_SECONDS)
        self._tail.extend(lines)
        write_to_stderr(chunk)


def remove_session(launcher: int) -> None:
    """Remove the folder that Open MPI's mpirun had for itself, where it was killed before it could.

    An mpirun that gets the same process id later would refuse to start: "The PMIx server's listener thread failed".
    """
    shutil.rmtree(Path(tempfile.gettempdir(), f"ompi.{launcher}"), ignore_errors=True)


def say(text: str) -> None:
    """Tell one event on standard error."""
    write_to_stderr(f"supervise: {text}\n".encode())


def write_to_stderr(content: bytes) -> None:
    """Write to standard error what it takes: that nobody reads it, or a full disk, is no reason to end."""
    with contextlib.suppress(OSError):
        while content:
            content = content[os.write(2, content) :]
