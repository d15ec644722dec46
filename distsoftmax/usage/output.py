"""Printing a text that was asked for, without what a job needs for that."""

from __future__ import annotations

import os
import sys

from distsoftmax.errors import OutputError


def print_text(text: str) -> int:
    """Print a text on standard output, and return the exit status. A reader that has gone, as `| head`, is no error."""
    try:
        print(text, flush=True)
    except OSError as error:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (stays open to the end)
        if not isinstance(error, BrokenPipeError):
            print(f"error: standard output could not be written: {error.strerror}", file=sys.stderr)
            return OutputError.exit_status
    return 0
