"""Short commands that tell something of a host or of a batch system, each within a time."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence

PROBE_SECONDS = 10.0  # a host that has not answered by then is left out


def lines_of(words: Sequence[str]) -> list[str]:
    """Return what a command prints, by lines; none where it fails."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=PROBE_SECONDS)
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.splitlines()


def that_succeed(commands: Mapping[str, Sequence[str]]) -> set[str]:
    """Return the names of the commands, run all at once, that end in time with status 0."""
    deadline = time.monotonic() + PROBE_SECONDS
    probes = {name: _started(words) for name, words in commands.items()}
    succeeded = set()
    for name, probe in probes.items():
        if probe is None:
            continue
        try:
            if probe.wait(max(0.0, deadline - time.monotonic())) == 0:
                succeeded.add(name)
        except subprocess.TimeoutExpired:
            probe.kill()
            probe.wait()
    return succeeded


def _started(words: Sequence[str]) -> subprocess.Popen[bytes] | None:
    nothing = subprocess.DEVNULL
    try:
        return subprocess.Popen(words, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)
    except OSError:
        return None
