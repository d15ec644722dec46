"""Distributed softmax regression: the same bits on any number of ranks, and a certified answer.

python -m distsoftmax COMMAND --help
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from distsoftmax.cluster.early_exit import (
    end_the_job_with_this_process,
    is_first_process,
    started_processes,
)

if TYPE_CHECKING:
    from distsoftmax.usage.options import Option

COMMANDS = {
    "train": "train softmax regression",
    "evaluate": "measure a trained model on labelled samples",
    "predict": "predict the class of each sample",
    "describe": "look at samples before training on them",
    "summary": "standard errors and tests of a model's coefficients",
    "report": "make a page of runs, to look at and to show to others",
    "export": "write a trained model as other programs take it",
    "monitor": "watch a run from another terminal",
    "supervise": "start a job again where a rank or a node is lost",
}
WITHOUT_MPI = ("report", "export", "monitor", "supervise")  # no process of theirs waits for another
OTHER_WORDS = (
    "distsoftmax COMMAND --help tells the options of a command.",
    "distsoftmax --version tells the versions, also of the arithmetic and of MPI.",
    'eval "$(distsoftmax completion bash)" completes commands and options; zsh, too.',
)
BAD_USAGE = 2
SHELLS = ("bash", "zsh")


def main(words: list[str] | None = None) -> int:
    """Run the command that the first word names, with the words after it; or tell what there is.

    Parameters
    ----------
    words : list of str or None
        The command line after the program's name; None for `sys.argv`.

    Returns
    -------
    int
        The exit status: 0, or 2 for an unknown command. A command itself ends the process.

    Examples
    --------
    >>> main(["--version"])
    distsoftmax ...
    0
    """
    words = sys.argv[1:] if words is None else words
    command, *rest = words or ["--help"]
    if command == "help" and rest[:1] and rest[0] in COMMANDS:
        command, rest = rest[0], ["--help"]
    if command in COMMANDS:
        _run(command, rest)
    if command == "completion" and rest in [[shell] for shell in SHELLS]:
        return _say(_completion(rest[0]))
    if command in ("--version", "-V"):
        return _say(_version())
    if command in ("--help", "-h", "help"):
        return _say(_overview())
    _refuse(command)
    return BAD_USAGE


def _run(command: str, words: list[str]) -> None:
    """Run a command's module as python -m does, with these words as its command line."""
    if command not in WITHOUT_MPI:
        end_the_job_with_this_process()  # before the imports of what may be missing on a node
    import runpy

    sys.argv[1:] = words
    runpy.run_module(f"distsoftmax.{command}", run_name="__main__", alter_sys=True)
    sys.exit(0)


def _overview() -> str:
    """Return the commands, a line each, and the version."""
    from distsoftmax import __version__

    width = max(map(len, COMMANDS)) + 2
    lines = [
        f"distsoftmax {__version__}: softmax regression, the same bits on any number of ranks",
        "",
        "usage: distsoftmax COMMAND [OPTIONS], or python -m distsoftmax.COMMAND [OPTIONS]",
        "",
    ]
    lines += [f"  {command:{width}}{summary}" for command, summary in COMMANDS.items()]
    return "\n".join([*lines, "", *OTHER_WORDS])


def _version() -> str:
    """Return the versions of the package, of its arithmetic, and of the MPI library, without starting MPI."""
    from distsoftmax import __version__
    from distsoftmax.arithmetic import library
    from distsoftmax.cluster.startup import mpi_library

    python = ".".join(map(str, sys.version_info[:3]))
    lines = [f"distsoftmax {__version__}", library.describe(), f"Python {python}", f"MPI: {mpi_library() or 'none'}"]
    return "\n".join(lines)


def _completion(shell: str) -> str:
    from distsoftmax.usage.completion import script

    return script(shell, {command: command_options(command) for command in COMMANDS})


def command_options(command: str) -> tuple[Option, ...]:
    """Return the options of a command: of its dataclass, which bears its name, or of its parser.

    Examples
    --------
    >>> [option.name for option in command_options("supervise")]
    ['help', 'max-restarts', 'out', 'cold']
    """
    from importlib import import_module

    from distsoftmax.usage.options import options_of, options_of_parser

    module = import_module(f"distsoftmax.{command}")
    config_type = getattr(module, f"{command.capitalize()}Config", None)
    return options_of_parser(module.parser()) if config_type is None else options_of(config_type)


def _refuse(command: str) -> None:
    """Say that there is no such command, and which may be meant. Under mpirun this ends the job."""
    import difflib

    close = difflib.get_close_matches(command, [*COMMANDS, "completion"], n=1, cutoff=0.5)
    meant = f"did you mean {close[0]}?" if close else f"the commands are {', '.join(COMMANDS)}"
    problem = f"there is no command {command!r}; {meant}"
    if command == "completion":
        problem = f"completion is made for {' and '.join(SHELLS)}; name one: distsoftmax completion {SHELLS[0]}"
    complaint = f"error: {problem}"
    if started_processes() > 1:
        end_the_job_with_this_process()
        from distsoftmax.command_line import refuse

        refuse(complaint)  # from rank 0, once all are there: Open MPI ends it as soon as another rank has left
    print(complaint, file=sys.stderr)


def _say(text: str) -> int:
    """Print a text that was asked for, in a job on rank 0 alone, and return the exit status."""
    from distsoftmax.usage.output import print_text

    return print_text(text) if is_first_process() else 0


if __name__ == "__main__":
    sys.exit(main())
