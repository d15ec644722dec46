"""Shell completion: a script that knows the commands, their options, and what these take.

It is made once, as the shell starts, and then needs no Python: what stands in it is the version that made it. One
function serves `distsoftmax train`, `python -m distsoftmax.train` and both behind mpirun. Where a line of python or
mpirun is none of ours, the completion that was there before goes on.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from distsoftmax.usage.options import Option

FILES = "@files"  # stands for the names of files and folders


def script(shell: str, commands: Mapping[str, Sequence[Option]]) -> str:
    """Return the completion script of a shell.

    Parameters
    ----------
    shell : str
        bash or zsh.
    commands : mapping of str to sequence of Option

    Examples
    --------
    >>> from distsoftmax.usage.options import HELP
    >>> "train) REPLY='-h --help'" in script("bash", {"train": [HELP]})
    True
    """
    flags = [(command, " ".join(_flags(options))) for command, options in commands.items()]
    values = [(f"{command} {flag}", words) for command, options in commands.items() for flag, words in _values(options)]
    tables = (
        f"_distsoftmax_commands={shlex.quote(' '.join(commands))}",
        *_table("_distsoftmax_flags", flags),
        *_table("_distsoftmax_values", values),
    )
    for_bash = Path(__file__).with_name("completion.bash").read_text(encoding="utf-8")
    shared, blank, rest = for_bash.partition("\n\n")
    if shell == "zsh":
        rest = Path(__file__).with_name("completion.zsh").read_text(encoding="utf-8")
    return "\n".join([HEAD.format(shell=shell), *tables, "", shared + blank + rest.rstrip()])


def _flags(options: Sequence[Option]) -> Iterator[str]:
    for option in options:
        yield from option.flags


def _values(options: Sequence[Option]) -> Iterator[tuple[str, str]]:
    """Yield each flag that takes a value with what completes it, after a plus where it takes several.

    An empty flag stands for the words that follow none.
    """
    for option in options:
        if option.is_switch:
            continue
        words = [*option.choices, *_words_in(option.text), *([FILES] if option.takes_files else [])]
        for flag in option.flags or ("",):
            yield flag, " ".join([*(["+"] if option.several else []), *dict.fromkeys(words)])


def _words_in(text: str) -> list[str]:
    """Return words that a text says an option takes: what stands before a colon, as in "auto: all columns"."""
    return re.findall(r"(?:^|[;.] )(auto): ", text)


def _table(function: str, rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Yield a function of the shell that sets REPLY to the words that belong to a key; to a dash for none."""
    yield f"{function}() {{ case $1 in"
    for words in dict.fromkeys(words for _, words in rows):
        keys = "|".join(shlex.quote(key) for key, others in rows if others == words)
        yield f"  {keys}) REPLY={shlex.quote(words)};;"
    yield "  *) REPLY=-;;"
    yield "esac; }"


HEAD = """\
# Completes distsoftmax COMMAND and python -m distsoftmax.COMMAND, also behind mpirun. In a start-up file of {shell}:
#   eval "$(distsoftmax completion {shell})"        or        eval "$(python -m distsoftmax completion {shell})\""""
