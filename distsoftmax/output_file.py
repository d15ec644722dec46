"""The file that a command writes where --out says: whole or not there, never its input, never a device or a pipe."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from distsoftmax.durable import require_writable, whole_file
from distsoftmax.errors import InputError, OutputError

STANDARD_OUTPUT = "-"


def require_output(out: str) -> None:
    """Refuse an --out that cannot be written, before anything is read.

    Raises
    ------
    InputError
        It is a folder, a device or a pipe, or its folder cannot be written to.
    """
    if out == STANDARD_OUTPUT:
        return
    path = _behind_links(out)
    try:
        with contextlib.suppress(FileNotFoundError):
            mode = path.stat().st_mode
            if not stat.S_ISREG(mode):
                kind = "a folder" if stat.S_ISDIR(mode) else "no regular file"
                raise InputError(f"--out {out}: is {kind}; name a file, or - for standard output")
        require_writable(path)
    except OSError as error:
        raise InputError(
            f"--out {out}: cannot be written there: {error.strerror}; name a file in a folder that can be written to"
        ) from None


def require_no_input(out: str, inputs: Iterable[str | Path]) -> None:
    """Refuse an --out that is one of the files that are read.

    Raises
    ------
    InputError
        It is, by this name or another.
    """
    path = _behind_links(out)
    for name in inputs if out != STANDARD_OUTPUT and path.exists() else ():
        if os.path.exists(name) and path.samefile(name):
            raise InputError(f"--out {out}: is {name}, which is read; name another file")


@contextlib.contextmanager
def output_file(out: str) -> Iterator[BinaryIO]:
    """Write standard output, or a file that is whole or not there; a link to one stays a link.

    Raises
    ------
    OutputError
        It could not be written.

    Examples
    --------
    >>> with output_file("greeting.txt") as file:
    ...     _ = file.write(b"hello")
    >>> Path("greeting.txt").read_text()
    'hello'
    """
    if out != STANDARD_OUTPUT:
        with whole_file(_behind_links(out)) as file:
            yield file
        return
    try:
        yield sys.stdout.buffer
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still buffered
        if not isinstance(error, BrokenPipeError):  # a reader that has gone has what it wanted
            raise OutputError(f"standard output could not be written: {error.strerror}") from None


def _behind_links(out: str) -> Path:
    return Path(os.path.realpath(out))
