"""Where the package lies in its source tree, the core follows its sources: they are compiled again when they change.

The processes of a job that start at the same time compile once. The others wait for a lock, which ends with the process
that holds it, and hear of a failure what the first one heard.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from distsoftmax.arithmetic import build

LOCK = "_core.lock"
FAILURE = "_core.failed"  # what the last failing build said


def holds(folder: Path) -> bool:
    """Return whether the folder of this package lies in its source tree."""
    return (folder.parents[1] / "pyproject.toml").is_file() and (folder / build.SOURCES.name).is_dir()


def bring_up_to_date(folder: Path) -> str:
    """Compile the core into the package's folder unless it is there already, and return the name of the build.

    Raises
    ------
    distsoftmax.arithmetic.build.BuildFailed
        There is no compiler, it fails, or the folder cannot be written.
    """
    expected = build.identity()
    if build.recorded_identity(folder) == expected:
        return expected
    before = _last_failure(folder)
    with _locked(folder / LOCK):
        failure = _last_failure(folder)
        if build.recorded_identity(folder) == build.identity():
            return build.identity()
        if failure != before and failure.startswith(_attempt()):
            raise build.BuildFailed(failure.partition("\n")[2])
        try:
            identity = build.compile_core(folder)
        except build.BuildFailed as error:
            with contextlib.suppress(OSError):
                (folder / FAILURE).write_text(f"{_attempt()} {time.time_ns()}\n{error}", encoding="utf-8")
            raise
        with contextlib.suppress(OSError):
            (folder / FAILURE).unlink()
        return identity


def _attempt() -> str:
    """What decides whether a build fails: the sources, and the compiler asked for."""
    return f"{build.identity()} {os.environ.get('CC', '')!r}"


def _last_failure(folder: Path) -> str:
    try:
        return (folder / FAILURE).read_text(encoding="utf-8")
    except OSError:
        return ""


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a file's lock; none where the file system has no locks.

    Each file of a build is replaced at once, so without a lock the work is only done twice.
    """
    try:
        path.touch()
    except OSError as error:
        raise build.BuildFailed(
            f"{path.parent}: the arithmetic core is older than its sources, and cannot be compiled because the folder "
            f"cannot be written: {error.strerror}. Run python once as the owner of the folder: "
            "python -c 'from distsoftmax.arithmetic import library; library.core()'"
        ) from None
    with path.open("a", encoding="ascii") as file:
        with contextlib.suppress(OSError):
            fcntl.lockf(file, fcntl.LOCK_EX)
        yield
