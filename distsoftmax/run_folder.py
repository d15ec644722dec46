"""The folder of a run as any process sees it, part of the run or not: its name, and how far the run has come."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

TAIL_BYTES = 1 << 16  # of metrics.jsonl, in which its last whole line lies
LOCK = ".lock"  # the file that the run which works in a folder holds locked
HELD = (errno.EAGAIN, errno.EACCES)  # what the calls say of a lock that another process holds
CHECKPOINT = re.compile(r"step-(\d+)\.safetensors")


@dataclass(frozen=True, order=True)
class Position:
    """The last step that is known of a run; a later one is greater.

    Attributes
    ----------
    leg : str
        The folder of the run within a path; "" for a single run.
    step : int
        -1 before the first.
    """

    leg: str = ""
    step: int = -1

    def __str__(self) -> str:
        if self.step < 0:
            return "before its first step"
        return f"after step {self.step}{self.leg and f' of {self.leg}'}"


def new_folder() -> str:
    """Return a name under runs/ that no other run has, not even one started in the same second, here or elsewhere."""
    host = os.uname().nodename.partition(".")[0]
    return f"runs/{datetime.now():%Y-%m-%d-%H%M%S}-{host}-{os.getpid()}"


def beside(file: str, name: str) -> str:
    """Return the folder that a relative name in a file of options means: from the folder which that file lies in.

    Where only the working directory has a folder of that name, or the file lies in that very folder, it is that one:
    so did files mean it that older versions have saved.

    Examples
    --------
    >>> beside("project/wine.toml", "runs/wine"), beside("wine.toml", "runs/wine")
    ('project/runs/wine', 'runs/wine')
    """
    folder = os.path.dirname(file) or os.curdir
    if os.path.realpath(folder) == os.path.realpath(os.curdir):
        return name
    path = os.path.normpath(os.path.join(folder, name))
    if os.path.isdir(name) and (os.path.realpath(name) == os.path.realpath(folder) or not os.path.isdir(path)):
        return name
    return path


def position(out: Path) -> Position:
    """Return the last step that a checkpoint or a line of metrics in a folder of results tells of.

    Of a path it is that of the last run that has any: their folders are numbered.

    Raises
    ------
    OSError
        The folder cannot be read now.
    """
    legs = [("", out), *((name, out / "path" / name) for name in names_in(out / "path"))]
    steps = ((name, max(last_metrics_step(leg / "metrics.jsonl"), last_checkpoint_step(leg))) for name, leg in legs)
    return max(Position(name, step) for name, step in steps if step >= 0 or name == "")


def model_stamp(out: Path) -> tuple[int, int] | None:
    """Return what changes whenever the model in a folder is written; None where there is none."""
    try:
        os.listdir(out)  # on NFS, to open a folder is to ask the server what other hosts have done to it: nfs(5)
        status = os.stat(out / "model.safetensors")
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def model_file(name: str | Path) -> Path:
    """Return the file of the model that a name means: a model.safetensors itself, or the folder it stands in.

    Examples
    --------
    >>> str(model_file("wine.safetensors")), str(model_file("/"))
    ('wine.safetensors', '/model.safetensors')
    """
    return Path(name, "model.safetensors") if os.path.isdir(name) else Path(name)


def whole_folder(folder: Path) -> Path:
    """Return the folder whose lock goes for a run: its own, or that of the path that it is a part of."""
    path = Path(os.path.realpath(folder)).parent
    return path.parent if path.name == "path" and os.path.exists(path.parent / "path.json") else folder


def holder(out: Path) -> tuple[Literal["held", "left", "none", "unknown"], Mapping[str, object]]:
    """Return whether a run works in a folder, and who says so: host, process and when it was started.

    In the folder of a run of a path that is whoever works in the path's. A lock that nobody holds was `left` by a run
    that has died. `unknown`: it cannot be told here.
    """
    try:
        descriptor = os.open(whole_folder(out) / LOCK, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return "none", {}
    except OSError:
        return "unknown", {}
    try:
        named = lock_content(descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return "held" if error.errno in HELD else "unknown", named
    finally:
        os.close(descriptor)
    return "left", named


def lock_content(descriptor: int) -> dict[str, object]:
    """Return what the file of a lock says of who holds it; nothing where it says nothing yet."""
    try:
        content = json.loads(os.pread(descriptor, 1000, 0))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def names_in(folder: Path) -> list[str]:
    """Return the names in a folder; none where there is no such folder.

    Raises
    ------
    OSError
        It cannot be listed, which says nothing of what is in it: `Path.glob` finds nothing then.
    """
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def last_checkpoint_step(folder: Path) -> int:
    """Return the step of the newest checkpoint in the folder of a run; -1 where there is none.

    Raises
    ------
    OSError
        The checkpoints cannot be listed.
    """
    matches = map(CHECKPOINT.fullmatch, names_in(folder / "checkpoints"))
    return max((int(match[1]) for match in matches if match), default=-1)


def last_metrics_step(path: Path) -> int:
    """Return the step of the last whole line of a file of metrics; -1 where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
            lines = file.read().splitlines()
    except OSError:
        return -1
    return next((int(values["step"]) for line in reversed(lines) if (values := metrics_line(line))), -1)


def metrics_line(line: bytes) -> dict[str, Any]:
    """Return the values of a line of metrics; none where it is none of ours, such as one that a crash has cut short."""
    try:
        values: dict[str, Any] = json.loads(line)
        return values if isinstance(values["step"], int) else {}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}


def read_toml(path: Path) -> dict[str, Any]:
    """Return what a TOML file holds.

    Raises
    ------
    OSError
        It cannot be read.
    ValueError
        It is not valid TOML in UTF-8.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("brackets are nested too deep") from None
    return table
