"""The help text of a command: its options in groups, those that most users need first."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it imports tyro, which the monitor and the supervisor do without
    import argparse

    from distsoftmax.usage.options import Option

# The options of the first group, in this order, beside those that the command has alone.
COMMON = ("data", "label", "labels", "one-hot", "impute", "valid-fraction", "l2", "l2-path", "tolerance", "max-steps")
COMMON_AT_THE_END = ("config", "out", "print-config", "help")
MOST_COLUMNS, FEWEST_COLUMNS = 100, 60
INDENT = 22  # columns before the text of an option
BOLD, PLAIN = "\x1b[1m", "\x1b[0m"


def help_text(prog: str, doc: str, options: Sequence[Option]) -> str:
    """Return the help text of a command, as wide as the terminal, and with bold type on one that takes it.

    Parameters
    ----------
    prog : str
        How the command is called.
    doc : str
        What it does: paragraphs, and lines that are set in as they are.
    options : sequence of Option

    Examples
    --------
    >>> from distsoftmax.usage.options import Option
    >>> verbose = Option(name="verbose", flags=("--verbose",), part="", about="", text="Say more.")
    >>> print(help_text("count", "Count words.", [verbose]))
    usage: count [OPTIONS]
    <BLANKLINE>
    Count words.
    <BLANKLINE>
    options
      --verbose           Say more.
    """
    width = _columns()
    leading = [option for option in options if not option.flags]
    needed = [f"{option.flags[0]} {option.placeholder}" for option in options if option.required and option.flags]
    usage = " ".join([f"usage: {prog}", *map(_value, leading), *needed, "[OPTIONS]"])
    lines = [*_wrapped(usage, width, subsequent_indent="    "), "", described(doc), ""]
    bold = _takes_bold_type()
    for title, about, members in groups(options):
        lines.append(f"{BOLD}{title}{PLAIN}" if bold else title)
        lines += _wrapped(about, width, initial_indent="  ", subsequent_indent="  ")
        for option in members:
            lines += _lines(option, width, bold=bold)
        lines.append("")
    return "\n".join(lines).rstrip()


def described(doc: str) -> str:
    """Return a docstring as wide as the terminal; what is set in stays as it is."""
    return "\n\n".join("\n".join(_filled(paragraph, _columns())) for paragraph in _paragraphs(doc))


def described_parser(command: str, doc: str) -> argparse.ArgumentParser:
    """Return a parser of a command that takes no options of training: its help begins with the docstring."""
    import argparse  # which training's help does without

    form = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(f"python -m distsoftmax.{command}", description=described(doc), formatter_class=form)


def groups(options: Sequence[Option]) -> list[tuple[str, str, list[Option]]]:
    """Return the options by group, each with its title and what it is about; each option stands in one."""

    def is_common(option: Option) -> bool:
        return not option.flags or not option.part or option.name in (*COMMON, *COMMON_AT_THE_END)

    def place(option: Option) -> int:
        if not option.flags:
            return -1
        order = (*COMMON, "", *COMMON_AT_THE_END)
        return order.index(option.name if option.name in order else "")

    rest = [option for option in options if not is_common(option)]
    common = sorted(filter(is_common, options), key=place)
    parts = {option.part: option.about for option in rest}
    return [
        ("common options" if rest else "options", "", common),
        *(
            (f"{part} options", about, [option for option in rest if option.part == part])
            for part, about in parts.items()
        ),
    ]


def _columns() -> int:
    return min(max(shutil.get_terminal_size((80, 24)).columns, FEWEST_COLUMNS), MOST_COLUMNS)


def _value(option: Option) -> str:
    """Return what stands for an option's value: PATH ..., N|auto, csv|npz."""
    words = "|".join([option.placeholder, *option.choices] if option.placeholder else option.choices)
    return f"{words} ..." if option.several else words


def _lines(option: Option, width: int, *, bold: bool) -> Iterator[str]:
    """Yield an option's flags, its value, and its text beside or below them."""
    flags = ", ".join(option.flags)
    value = "" if option.is_switch else _value(option)
    head = f"{flags} {value}".strip()
    shown = f"{BOLD}{flags}{PLAIN} {value}".strip() if bold and flags else head
    text = _wrapped(f"{option.text}{_default(option)}", width - INDENT) or [""]
    if len(head) + 4 <= INDENT:
        yield f"  {shown}{' ' * (INDENT - 2 - len(head))}{text[0]}".rstrip()
        text = text[1:]
    else:
        yield f"  {shown}"
    yield from (" " * INDENT + line for line in text)


def _default(option: Option) -> str:
    """Return what follows the text: the default, where it is a value that the text does not say."""
    value = option.default
    if value is None or value is False or value == ():
        return " (required)" if option.required and option.flags else ""
    if isinstance(value, bool):
        return " (default: on)"
    return f" (default: {value:g})" if isinstance(value, float) else f" (default: {value})"


def _paragraphs(doc: str) -> Iterator[str]:
    """Yield the paragraphs of a docstring; a command that follows its first sentence is one."""
    for paragraph in textwrap.dedent(doc).strip().split("\n\n"):
        before, colon, command = paragraph.partition(": ")
        if re.match(r"(mpirun|python|distsoftmax) ", command) and "\n" not in command:
            yield f"{before}{colon.strip()}"
            yield f"    {command}"
        else:
            yield paragraph


def _filled(paragraph: str, width: int) -> list[str]:
    """Return a paragraph as lines: filled, or as they are where they are set in."""
    if paragraph.startswith(" "):
        return [filled for line in paragraph.splitlines() for filled in _as_it_is(line, width)]
    return _wrapped(" ".join(paragraph.split()), width)


def _as_it_is(line: str, width: int) -> list[str]:
    """Return a line that is set in; one that is too long goes on below, and gaps in it are closed first."""
    if len(line) > width:
        command, gap, meaning = re.match(r"(\s*\S.*?)(\s{2,}|$)(.*)", line).groups()  # type: ignore[union-attr]
        if gap:
            return [command, *_wrapped(meaning, width, initial_indent=" " * 8, subsequent_indent=" " * 8)]
    return _wrapped(line, width, subsequent_indent=" " * 8)


def _wrapped(text: str, width: int, **indents: str) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False, **indents)  # type: ignore[arg-type]


def _takes_bold_type() -> bool:
    """Whether standard output is a terminal whose user has not asked for plain text; see no-color.org."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
