"""The options of a command, read from its dataclass: names, values, defaults and texts stand there and nowhere else.

A new option needs nothing here. `PLACEHOLDERS` names those whose values are more than a text or a number.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import sys
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from itertools import pairwise
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from tyro.conf import Positional
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

import distsoftmax
from distsoftmax.errors import InputError

PLACEHOLDERS = {  # what stands for the value of an option in its help, as in the README
    **dict.fromkeys(("data", "valid"), "PATH"),
    **dict.fromkeys(("labels", "valid-labels", "class-weight", "weights", "config", "csv", "vcov"), "FILE"),
    **dict.fromkeys(("out", "scratch"), "DIR"),
    **dict.fromkeys(("label", "weight", "features", "one-hot", "drop", "keep", "cluster"), "COLUMN"),
    **dict.fromkeys(("timeout", "max-seconds", "checkpoint-seconds"), "T"),
    "init": "MODEL",
    "reference": "CLASS",
    "memory": "SIZE",
    "deadline": "WHEN",
    "l2-path": "FROM:TO:COUNT",
}
NAMES_OF_FILES = ("DATA", "PATH", "FILE", "DIR", "MODEL", "RUN")  # placeholders of what lies on a disk
OF_A_TYPE = {int: "N", float: "X"}  # placeholders of numbers
POSITIONAL = get_args(Positional[int])[1]


@dataclass(frozen=True, kw_only=True)
class Option:
    """An option of a command.

    Attributes
    ----------
    name : str
        As on the command line, without dashes.
    part, about : str
        The part of the options it belongs to, and what that is; of an option of the command alone both are empty.
    text : str
        What it does, in one paragraph.
    placeholder : str
        What stands for its value; "" for a switch.
    choices : tuple of str
        The words it takes; none where it takes any.
    flags : tuple of str
        The words that give it, as --warm and --no-warm; none where its place does.
    several, required : bool
    default : object
    """

    name: str
    flags: tuple[str, ...]
    part: str
    about: str
    text: str
    placeholder: str = ""
    choices: tuple[str, ...] = ()
    several: bool = False
    required: bool = False
    default: object = None

    @property
    def is_switch(self) -> bool:
        """Whether it takes no value."""
        return not self.placeholder and not self.choices

    @property
    def takes_files(self) -> bool:
        """Whether its value names a file or a folder."""
        return self.placeholder in NAMES_OF_FILES


HELP = Option(name="help", flags=("-h", "--help"), part="", about="", text="Show this text, and do nothing.")
PRINT_CONFIG = Option(
    name="print-config",
    flags=("--print-config",),
    part="",
    about="",
    text="Show all options as they come out of --config and the command line, as a file for --config, and do nothing.",
)


def options_of(config_type: type) -> tuple[Option, ...]:
    """Return the options of a command, in the order of its dataclass, those of nested dataclasses in its place.

    The last ones ask for a text and stand for no field: --help and, of nested dataclasses, --print-config.

    Examples
    --------
    >>> from distsoftmax.config import TrainConfig
    >>> label = next(option for option in options_of(TrainConfig) if option.name == "label")
    >>> label.flags, label.placeholder, label.part
    (('--label',), 'COLUMN', 'data')
    """
    own = [PRINT_CONFIG, HELP] if any(map(is_dataclass, get_type_hints(config_type).values())) else [HELP]
    return (*_options(config_type, None), *own)


def refuse_other_bytes_than_utf8(arguments: Sequence[str]) -> None:
    """Raise an InputError where an argument is not UTF-8: no file of options, no checkpoint and no log can name it."""
    option = ""
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if argument.startswith("--"):
            option = f"{name} "
        try:
            argument.encode()
        except UnicodeEncodeError:
            word = value if equals and argument.startswith("--") else argument
            raise InputError(f"{option}{word!r} is not UTF-8; name it by a link to it, or rename it") from None


def options_of_parser(parser: argparse.ArgumentParser) -> tuple[Option, ...]:
    """Return the options of a command that has no dataclass."""
    return tuple(
        Option(
            name=max(action.option_strings, key=len, default=action.dest).removeprefix("--"),
            flags=tuple(action.option_strings),
            part="",
            about="",
            text=action.help or "",
            placeholder="" if action.nargs == 0 else str(action.metavar or action.dest.upper()),
            choices=tuple(map(str, action.choices or ())),
        )
        for action in parser._actions
    )


def as_toml(config: Any) -> str:
    """Return a nested config as a TOML file; what is not set stands there as a comment.

    Examples
    --------
    >>> from distsoftmax.config import ObjectiveConfig, TrainConfig
    >>> text = as_toml(TrainConfig(objective=ObjectiveConfig(l2=1e-3)))
    >>> [line for line in text.splitlines() if "l2" in line]
    ['l2 = 0.001', '# l2-path = FROM:TO:COUNT']
    """
    import tomli_w

    from distsoftmax.config.file_paths import lasting

    lines = [f"# options of python -m distsoftmax.train --config FILE, version {distsoftmax.__version__}"]
    known: dict[str, Option] = {option.name: option for option in options_of(type(config))}
    for item in fields(config):
        part = getattr(config, item.name)
        lines += ["", f"[{item.name}]"]
        for value, name in ((getattr(part, option.name), option.name.replace("_", "-")) for option in fields(part)):
            if name == "config":
                continue
            if value in (None, ()):
                dots = " ..." if known[name].several else ""
                lines.append(f"# {name} = {known[name].placeholder}{dots}")
            else:
                lines.append(tomli_w.dumps({name: lasting(name, value)}).rstrip())
    return "\n".join(lines)


def number_rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    """Tell tyro how to read an option that takes a number, words, or none, and what to say where it is neither."""
    numeric, choices, is_optional = _alternatives(info.type)
    if numeric is None or (info.type is not numeric and not choices and not is_optional):
        return None
    expected = " or ".join([{int: "an integer", float: "a number"}[numeric], *choices])

    def read(words: list[str]) -> Any:
        if words[0] in choices:
            return words[0]
        try:
            return numeric(words[0])
        except ValueError:
            raise ValueError(f"{words[0]!r} is not {expected}") from None

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="|".join([OF_A_TYPE[numeric], *choices]),
        instance_from_str=read,
        is_instance=lambda value: value is None or value in choices or isinstance(value, (int, numeric)),
        str_from_instance=lambda value: [str(value)],
    )


def registry() -> ConstructorRegistry:
    """Return what tyro is to know beyond itself."""
    known = ConstructorRegistry()
    known.primitive_rule(number_rule)
    return known


def _options(config_type: type, part: tuple[str, str] | None) -> Iterator[Option]:
    """Yield the options of a dataclass; `part` is the name and the text of what it is a part of."""
    hints = get_type_hints(config_type, include_extras=True)
    for item in fields(config_type):
        if is_dataclass(hints[item.name]):
            yield from _options(hints[item.name], (item.name, _about(hints[item.name])))
        elif item.init:
            owner = next(kind for kind in config_type.__mro__ if item.name in inspect.get_annotations(kind))
            name = owner.__name__.removesuffix("Config").lower()
            where = part or (("", "") if owner is config_type else (name, _about(owner)))
            yield _option(item, hints[item.name], where, _texts(owner).get(item.name, ""))


def _option(item: Field, hint: Any, part: tuple[str, str], text: str) -> Option:
    extras = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    base = get_args(hint)[0] if extras else hint
    name, several = item.name.replace("_", "-"), base is tuple
    numeric, choices, _ = _alternatives(base)
    told = [extra.metavar for extra in extras if getattr(extra, "metavar", None) and "STR" not in extra.metavar]
    placeholder = ""
    if base is not bool and (numeric or not choices):
        general = PLACEHOLDERS.get(name) or (OF_A_TYPE[numeric] if numeric else "TEXT")
        placeholder = told[-1].removesuffix(" ...") if told else general
    default = item.default_factory() if item.default_factory is not MISSING else item.default
    flags = () if POSITIONAL in extras else (f"--{name}", f"--no-{name}") if base is bool else (f"--{name}",)
    return Option(
        name=name,
        flags=flags,
        part=part[0],
        about=part[1],
        text=text,
        placeholder=placeholder,
        choices=choices,
        several=several,
        required=default is MISSING,
        default=None if default is MISSING else default,
    )


def _alternatives(kind: Any) -> tuple[type[int] | type[float] | None, tuple[str, ...], bool]:
    """Return the number, the words and whether the None that a type takes."""
    members: Sequence[Any] = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    numeric = next((member for member in members if member in (int, float)), None)
    choices = [word for member in members if get_origin(member) is Literal for word in get_args(member)]
    return numeric, tuple(choices), NoneType in members


def _about(owner: type) -> str:
    """Return the first paragraph of a class's docstring, without what is marked as code in it."""
    text = inspect.getdoc(owner) or ""
    return " ".join(text.partition("\n\n")[0].replace("`", "").split())


@cache
def _texts(owner: type) -> dict[str, str]:
    """Return the text below each field of a dataclass."""
    module = ast.parse(inspect.getsource(sys.modules[owner.__module__]))
    (body,) = (node.body for node in module.body if isinstance(node, ast.ClassDef) and node.name == owner.__name__)
    texts = {}
    for node, after in pairwise(body):
        if isinstance(node, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            assert isinstance(node.target, ast.Name)
            texts[node.target.id] = " ".join(str(after.value.value).split())
    return texts
