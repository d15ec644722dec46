"""Saves on a thread of their own, while the steps go on; and what follows when one fails."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from distsoftmax.errors import InputError, OutputError


class Saver:
    """Does one save at a time on a thread of its own. What becomes due meanwhile is done next: of several, the newest.

    Nothing is copied: the arrays of a state are never written to after it was made. Hashing and writing, which take
    the time, release the interpreter's lock, so a step is not held up. The process does not end before the thread has.

    Attributes
    ----------
    longest_seconds : float
        That a save has taken.
    seconds : float
        That all of them have taken.
    """

    def __init__(self) -> None:
        self.longest_seconds = self.seconds = 0.0
        self._turn = threading.Lock()
        self._due: Callable[[], None] | None = None
        self._thread: threading.Thread | None = None
        self._errors: list[Exception] = []

    def save(self, write: Callable[[], None]) -> None:
        """Call `write` as soon as the save in progress has ended, unless another takes its place before."""
        with self._turn:
            self._due = write
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="saver")
                self._thread.start()

    def wait(self) -> None:
        """Return when nothing is in progress or due any more."""
        thread = self._thread
        if thread is not None:
            thread.join()

    def errors(self) -> list[OutputError]:
        """Return why saves have failed since the last call.

        Raises
        ------
        Exception
            Another one than OutputError ended a save.
        """
        failed: list[OutputError] = []
        while self._errors:
            error = self._errors.pop(0)
            if not isinstance(error, OutputError):
                raise error
            failed.append(error)
        return failed

    def _work(self) -> None:
        while True:
            with self._turn:
                write, self._due = self._due, None
                if write is None:
                    self._thread = None
                    return
            start = time.perf_counter()
            try:
                write()
            except Exception as error:  # the steps' thread raises it
                self._errors.append(error)
            seconds = time.perf_counter() - start
            self.longest_seconds = max(self.longest_seconds, seconds)
            self.seconds += seconds


class SaveErrors:
    """What could not be saved, and what follows from it, as --on-save-error says.

    Parameters
    ----------
    stop : bool
        Whether the first error ends the run.
    warn : callable
        Takes a text, where the run goes on.

    Attributes
    ----------
    fatal : str
        What ends the run; empty where it goes on.
    """

    def __init__(self, *, stop: bool, warn: Callable[[str], None]) -> None:
        self.fatal = ""
        self._stop = stop
        self._warn = warn
        self._causes: dict[str, str] = {}
        self._counts = Counter[str]()

    def add(self, kind: str, error: OutputError) -> None:
        """Note an error of a kind of file. A warning is given once for each cause, not for each save."""
        if self._stop:
            self.fatal = self.fatal or str(error)
            return
        self._counts[kind] += 1
        cause = re.sub(r"step-\d+", "", str(error))
        if self._causes.get(kind) != cause:
            self._causes[kind] = cause
            self._warn(f"warning: {error}. The run goes on, and tries again at its next save (--on-save-error)")

    def warn_of_shortfall(self, checkpoints: Callable[[], Sequence[Path]], n_lines: int) -> None:
        """Say at the end of a run what it has gone on without.

        Parameters
        ----------
        checkpoints : callable
            Returns those that are there, the oldest first, or raises an InputError.
        n_lines : int
            The lines that are missing in the metrics.
        """
        n_failed = self._counts["checkpoints"]
        if n_failed:
            try:
                paths = checkpoints()
                newest = f"the newest checkpoint is {paths[-1].name}" if paths else "there is no checkpoint"
            except InputError:
                newest = "the others cannot be listed now"
            self._warn(f"warning: {n_failed} {'save' if n_failed == 1 else 'saves'} of checkpoints failed; {newest}")
        if n_lines:
            self._warn(f"warning: metrics.jsonl lacks its last {n_lines} {'line' if n_lines == 1 else 'lines'}")
