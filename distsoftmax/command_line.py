"""From arguments to a call: the command line and the TOML file, both made from the dataclasses of `config`."""

from __future__ import annotations

import contextlib
import difflib
import io
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, get_type_hints

from distsoftmax.cluster.early_exit import end_before_joining, end_the_job_with_this_process
from distsoftmax.errors import DistSoftmaxError, InputError, RanksLost

if TYPE_CHECKING:
    from distsoftmax.cluster.communicator import Communicator

end_the_job_with_this_process()  # before the imports of what may be missing on a node: tyro, numpy, mpi4py

Config = TypeVar("Config")

FILES = (
    "data",
    "labels",
    "valid",
    "valid-labels",
    "class-weight",
    "weights",
    "init",
    "config",
)  # options that name files


class UsageText(Exception):
    """The command line asked for nothing but a text, such as --help or a complaint about an option."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def run_command(config_type: type[Config], command: Callable[[Config, Communicator], int]) -> NoReturn:
    """Parse `sys.argv`, start the cluster, call `command(config, cluster)` and exit with what it returns.

    Collective: every rank of the job calls it. Rank 0 alone prints. An error of ours ends all ranks with its own exit
    status; any other exception on any rank ends the whole job with status 1, its traceback and its rank.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started this, as by >&-
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (stays open to the end)
    config: Config | None = None
    problem: UsageText | DistSoftmaxError | None = None
    try:
        config = parse(config_type, sys.argv[1:], prog=f"python -m {_module_name()}")
    except (UsageText, DistSoftmaxError) as error:
        problem = error
    # after parsing, so that --help is quick
    from distsoftmax.cluster.communicator import complain
    from distsoftmax.cluster.first_message import FirstMessage, compare_ranks, resolved_options
    from distsoftmax.cluster.startup import join_job, load_core
    from distsoftmax.data.sightings import require_same_files

    options = None if config is None else resolved_options(config)
    try:
        cluster = join_job() if options is None else join_job(options["timeout"])
    except DistSoftmaxError as error:
        complain(f"error: {error}")
        end_before_joining(error.exit_status)
    try:
        is_help = isinstance(problem, UsageText) and problem.status == 0
        compare_ranks(cluster, FirstMessage.of(cluster, options, str(problem or ""), is_help=is_help))
        if isinstance(problem, DistSoftmaxError):
            raise problem.on_all_ranks()
        if isinstance(problem, UsageText):
            cluster.say(str(problem), to_stderr=not is_help)
            status = problem.status
        else:
            assert config is not None
            assert options is not None
            load_core(cluster)
            require_same_files(options, cluster)
            status = command(config, cluster)
    except DistSoftmaxError as error:
        if not error.agreed and cluster.size > 1:
            cluster.abort(f"rank {cluster.rank} of {cluster.size}: error: {error}", error.exit_status)
        text = f"error: {error}{f' (on node {error.node})' if error.node else ''}"
        if isinstance(error, RanksLost):  # rank 0, which speaks for all, may be one of them
            complain(text)
        else:
            cluster.say(text, to_stderr=True)
        status = error.exit_status
    cluster.leave(status)


def parse(config_type: type[Config], arguments: list[str], prog: str) -> Config:
    """Turn arguments, and the TOML file that --config names, into a `config_type`.

    Raises
    ------
    UsageText
        For --help (status 0) and for arguments that cannot be parsed (status 2), with the text to print.
    InputError
        The TOML file is missing, malformed or has an unknown key; an option that takes words has none; or a value is
        out of range.

    Examples
    --------
    >>> from distsoftmax.config import TrainConfig
    >>> config = parse(TrainConfig, ["--data", "wine.npz", "--l2", "1e-3"], prog="train")
    >>> config.data.data, config.objective.l2
    (('wine.npz',), 0.001)
    """
    import tyro

    doc = sys.modules["__main__"].__doc__ or config_type.__doc__
    settings = {"prog": prog, "description": doc, "config": (tyro.conf.OmitArgPrefixes,)}
    sections = _sections(config_type)
    options = get_type_hints(config_type) | _options(sections)
    _refuse_options_without_words(arguments, options)
    from_file = list(_options_in_file(arguments, sections))
    _refuse_options_without_words(from_file, options)
    text = io.StringIO()
    try:
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
            return tyro.cli(config_type, args=[*from_file, *arguments], **settings)  # type: ignore[no-any-return, call-overload]
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 2
        raise UsageText(status, _readable(text.getvalue())) from None


def _readable(text: str) -> str:
    """Return a help text of tyro's without the defaults and types that say nothing."""
    text = re.sub(r"\s*\(default:\s*(None)?\)", "", text)
    text = re.sub(r"\{None\}\|(\S+)", r"\1       ", text)
    return "\n".join(line.rstrip() for line in text.splitlines()).rstrip()


def _module_name() -> str:
    spec = sys.modules["__main__"].__spec__
    return spec.name if spec else "distsoftmax"


def _options_in_file(arguments: list[str], sections: dict[str, dict[str, object]]) -> Iterator[str]:
    """Yield the options of the TOML file named by --config as command-line arguments."""
    path = None
    for position, argument in enumerate(arguments):
        if argument == "--config" and position + 1 < len(arguments):
            path = arguments[position + 1]
        elif argument.startswith("--config="):
            path = argument.removeprefix("--config=")
    if path is None or not sections:
        return
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    from distsoftmax.config.file_paths import located

    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is not valid TOML: {error}") from None
    given: dict[str, str] = {}  # where each option stands
    for key, value, section in _entries(path, table, sections):
        name, where = key.replace("_", "-"), f"as {key} {f'in [{section}]' if section else 'outside of the sections'}"
        if name in given:
            raise InputError(f"{path}: {name} is given twice, {given[name]} and {where}; keep one of them")
        given[name] = where
        value = located(path, name, value, is_given=any(word.split("=")[0] == f"--{name}" for word in arguments))
        yield from _arguments(path, key, value, sections[section] if section else _options(sections))


def _entries(
    path: str, table: dict[str, object], sections: dict[str, dict[str, object]]
) -> Iterator[tuple[str, object, str]]:
    """Yield each key of a TOML file with its value and its section; "" for none."""
    for key, value in table.items():
        if not isinstance(value, dict):
            yield key, value, ""
        elif key in sections:
            yield from ((name, inner, key) for name, inner in value.items())
        else:
            raise InputError(f"{path}: unknown section [{key}]{_nearest(key, sections)}")


def _options(sections: dict[str, dict[str, object]]) -> dict[str, object]:
    """Return the options of all sections, each with its type."""
    return {name: kind for part in sections.values() for name, kind in part.items()}


def _refuse_options_without_words(arguments: list[str], options: dict[str, object]) -> None:
    """Raise an InputError where an option that takes several words has none, or one that names files an empty one."""
    several = {name.replace("_", "-") for name, kind in options.items() if kind is tuple}
    for number, argument in enumerate(arguments):
        name, equals, word = argument.removeprefix("--").partition("=")
        words = [word] if equals else arguments[number + 1 : number + 2]
        is_missing = name in several and (not words or (not equals and words[0].startswith("--")))
        if argument.startswith("--") and (is_missing or (name in FILES and words == [""])):
            raise InputError(
                f"--{name} names nothing, as where a variable of the shell is not set; name it, or leave it out"
            )


def _sections(config_type: type) -> dict[str, dict[str, object]]:
    """The section names of a nested config, each with the names of its options and their types."""
    hints = get_type_hints(config_type)
    return {
        name: {option.replace("_", "-"): kind for option, kind in get_type_hints(part).items() if option != "config"}
        for name, part in hints.items()
        if is_dataclass(part)
    }


def _arguments(path: str, key: str, value: object, known: dict[str, object]) -> Iterator[str]:
    name = key.replace("_", "-")
    if name not in known:
        raise InputError(f"{path}: unknown key {key}{_nearest(name, known)}")
    if isinstance(value, bool) != (known[name] is bool):
        expected = "true or false" if known[name] is bool else "a text or a number"
        raise InputError(f"{path}: {key} is {value!r}; it must be {expected}")
    if any("\0" in text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)):
        raise InputError(f"{path}: {key} holds a null character, which no option takes; leave it out")
    takes_several = known[name] is tuple
    if isinstance(value, bool):
        yield f"--{name}" if value else f"--no-{name}"
    elif takes_several and isinstance(value, list) and all(isinstance(item, str) for item in value):
        yield from [f"--{name}={value[0]}"] if len(value) == 1 else [f"--{name}", *value]
    elif isinstance(value, (str, int, float)):
        yield f"--{name}={value}"
    else:
        expected = "a text, or a list of texts" if takes_several else "a single text, number or truth value"
        raise InputError(f"{path}: {key} is {value!r}; it must be {expected}")


def _nearest(name: str, known: list[str] | dict[str, Any]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.3)
    return f"; did you mean {close[0]}?" if close else ""
