"""Commands that ask other hosts or a batch system, many at once and each within a time."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO

AT_ONCE = 64  # connections: more need more file descriptors than a process may have open
PROBE_SECONDS = 10.0  # a host that has not answered by then is left out
UNREACHED = 255  # the exit status of ssh where the host was not reached; that of the command else


@dataclass(frozen=True)
class Answer:
    """What has come of a command on a host.

    Attributes
    ----------
    status : int
        Of the command; UNREACHED where it was not started, or was not over in time.
    out : str
        Its standard output.
    complaint : str
        The last line of its standard error, or of ssh's own.
    """

    status: int
    out: str = ""
    complaint: str = ""


def ask(commands: Mapping[str, Sequence[str]], seconds: float) -> dict[str, Answer]:
    """Run the command of each host, and return what has come of each.

    Parameters
    ----------
    commands : mapping of str to sequence of str
        By the name of the host, the words of a command that runs here: of ssh, say.
    seconds : float
        Until a command is killed. There are AT_ONCE of them at a time.
    """
    if not commands:
        return {}
    with ThreadPoolExecutor(min(AT_ONCE, len(commands))) as pool:
        answers = pool.map(lambda words: _answer(words, seconds), commands.values())
        return dict(zip(commands, answers, strict=True))


def _answer(words: Sequence[str], seconds: float) -> Answer:
    # files, not pipes: a connection that ssh keeps for later (ControlPersist) holds a pipe open
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True)
        except OSError as error:
            return Answer(UNREACHED, complaint=f"{words[0]}: {error.strerror}")
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return Answer(UNREACHED, complaint=_last_line(err) or f"no answer within {seconds:g} s")
        return Answer(status if status >= 0 else 128 - status, _text(out), _last_line(err))


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def _last_line(file: IO[bytes]) -> str:
    return next((line.strip() for line in reversed(_text(file).splitlines()) if line.strip()), "")
