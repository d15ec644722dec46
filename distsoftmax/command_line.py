"""From arguments to a call: the command line and the TOML file, both made from the dataclasses of `config`."""

from __future__ import annotations

import contextlib
import difflib
import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, TypeVar, get_type_hints

from distsoftmax.cluster.early_exit import end_before_joining, end_the_job_with_this_process, started_processes
from distsoftmax.errors import DistSoftmaxError, InputError, RanksLost
from distsoftmax.run_folder import read_toml

if TYPE_CHECKING:
    from distsoftmax.cluster.communicator import Communicator
    from distsoftmax.usage.options import Option

end_the_job_with_this_process()  # before the imports of what may be missing on a node: tyro, numpy, mpi4py

Config = TypeVar("Config")
Sections: TypeAlias = "dict[str, dict[str, Option]]"  # of a TOML file, each with its options by name


class UsageText(Exception):
    """The command line asked for nothing but a text: help, the options themselves, or a complaint about one."""

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
        config = parse(config_type, sys.argv[1:], _called_as(), sys.modules[command.__module__].__doc__)
    except (UsageText, DistSoftmaxError) as error:
        problem = error
    if isinstance(problem, UsageText) and problem.status == 0 and started_processes() == 1:  # quick: without numpy, MPI
        from distsoftmax.usage.output import print_text

        sys.exit(print_text(str(problem)))
    _run_on_all_ranks(config, problem, command)


def refuse(complaint: str) -> NoReturn:
    """End all ranks with status 2 and with a complaint, which rank 0 prints. Collective, as `run_command` is."""
    _run_on_all_ranks(None, UsageText(2, complaint), None)


def _run_on_all_ranks(
    config: Config | None,
    problem: UsageText | DistSoftmaxError | None,
    command: Callable[[Config, Communicator], int] | None,
) -> NoReturn:
    """Join the job and run the command, or end with the problem, if that is what all ranks were asked for."""
    from distsoftmax.cluster.communicator import complain
    from distsoftmax.cluster.first_message import FirstMessage, compare_ranks, resolved_options
    from distsoftmax.cluster.startup import join_job, load_core
    from distsoftmax.data.sightings import require_same_files

    is_help = isinstance(problem, UsageText) and problem.status == 0
    options = None if config is None else resolved_options(config)
    try:
        cluster = join_job() if options is None else join_job(options["timeout"])
    except DistSoftmaxError as error:
        complain(f"error: {error}")
        end_before_joining(error.exit_status)
    try:
        compare_ranks(cluster, FirstMessage.of(cluster, options, str(problem or ""), is_help=is_help))
        if isinstance(problem, DistSoftmaxError):
            raise problem.on_all_ranks()
        if isinstance(problem, UsageText):
            cluster.say(str(problem), to_stderr=not is_help)
            status = problem.status
        else:
            assert config is not None
            assert options is not None
            assert command is not None
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


def parse(config_type: type[Config], arguments: list[str], prog: str, doc: str | None = None) -> Config:
    """Turn arguments, and the TOML file that --config names, into a `config_type`.

    Parameters
    ----------
    config_type : type
        The dataclass of a command's options, flat or with a dataclass for each part.
    arguments : list of str
    prog, doc : str
        How the command was called, and what it does, for its help; by default the dataclass's docstring.

    Raises
    ------
    UsageText
        For --help and --print-config (status 0) and for arguments that cannot be parsed (status 2), with the text to
        print.
    InputError
        The TOML file is missing, malformed or has an unknown key; an option that takes words has none, or one that is
        not UTF-8; or a value is out of range.

    Examples
    --------
    >>> from distsoftmax.config import TrainConfig
    >>> config = parse(TrainConfig, ["--data", "wine.npz", "--l2", "1e-3"], prog="train")
    >>> config.data.data, config.objective.l2
    (('wine.npz',), 0.001)
    """
    from distsoftmax.usage.options import HELP, PRINT_CONFIG, as_toml, options_of, refuse_other_bytes_than_utf8

    refuse_other_bytes_than_utf8(arguments)
    options = options_of(config_type)
    if set(HELP.flags) & set(arguments):
        from distsoftmax.usage.help import help_text

        raise UsageText(0, help_text(prog, doc or config_type.__doc__ or "", options))
    asking = PRINT_CONFIG.flags if PRINT_CONFIG in options else ()
    is_asked = bool(set(asking) & set(arguments))
    arguments = [argument for argument in arguments if argument not in asking]
    sections = _sections(config_type, options)
    _refuse_options_without_words(arguments, options)
    from_file = list(_options_in_file(arguments, sections))
    _refuse_options_without_words(from_file, options)
    try:
        config = _parsed(config_type, [*from_file, *arguments], prog)
    except UsageText as complaint:
        raise UsageText(
            complaint.status, f"{complaint}{_remedy(str(complaint), arguments, from_file, options)}"
        ) from None
    if is_asked:
        raise UsageText(0, as_toml(config))
    return config


def _parsed(config_type: type[Config], arguments: list[str], prog: str) -> Config:
    import tyro

    from distsoftmax.usage.options import registry

    settings = {"prog": prog, "config": (tyro.conf.OmitArgPrefixes,), "registry": registry()}
    text = io.StringIO()
    try:
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
            return tyro.cli(config_type, args=arguments, **settings)  # type: ignore[no-any-return, call-overload]
    except SystemExit as end:
        # where tyro shows an option, it also shows a default that says nothing
        complaint = re.sub(r"\s*\(default:\s*(None)?\)", "", text.getvalue())
        complaint = "\n".join(line.rstrip() for line in complaint.splitlines()).rstrip()
        raise UsageText(end.code if isinstance(end.code, int) else 2, complaint) from None


def _remedy(complaint: str, arguments: Sequence[str], from_file: Sequence[str], options: Sequence[Option]) -> str:
    """Return what to add to a complaint: which file has the option, or which option takes files."""
    about = re.search(r"Error parsing (--[\w-]+)", complaint)
    if about and any(word.split("=")[0] == about[1] for word in from_file):
        return f"\n{about[1]} stands in {_config_file(arguments)}"
    stray = re.search(r"Unrecognized options: (?!-)([^\s,]+)", complaint)
    if stray and any(option.name == "data" for option in options):
        return f"\nto read {stray[1]}, say --data {stray[1]}"
    return ""


def _called_as() -> str:
    """Return how this command was called: by a module of its own, or as a word after distsoftmax."""
    spec = sys.modules["__main__"].__spec__
    module = spec.name if spec else "distsoftmax"
    name = module.rpartition(".")[2]
    for number, (word, following) in enumerate(pairwise(sys.orig_argv)):
        if os.path.basename(word) == "distsoftmax" and following == name:
            return f"{'python -m ' if sys.orig_argv[number - 1] == '-m' else ''}distsoftmax {name}"
    return f"python -m {module}"


def _config_file(arguments: Sequence[str]) -> str | None:
    """Return the file of options that --config names; None for none."""
    path = None
    for position, argument in enumerate(arguments):
        if argument == "--config" and position + 1 < len(arguments):
            path = arguments[position + 1]
        elif argument.startswith("--config="):
            path = argument.removeprefix("--config=")
    return path


def _options_in_file(arguments: list[str], sections: Sections) -> Iterator[str]:
    """Yield the options of the TOML file named by --config as command-line arguments."""
    path = _config_file(arguments)
    if path is None or not sections:
        return
    from distsoftmax.config.file_paths import located

    try:
        table = read_toml(Path(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{path}: is not valid TOML: {error}") from None
    given: dict[str, str] = {}  # where each option stands
    for key, value, section in _entries(path, table, sections):
        name, where = key.replace("_", "-"), f"as {key} {f'in [{section}]' if section else 'outside of the sections'}"
        if name in given:
            raise InputError(f"{path}: {name} is given twice, {given[name]} and {where}; keep one of them")
        given[name] = where
        value = located(path, name, value, is_given=any(word.split("=")[0] == f"--{name}" for word in arguments))
        yield from _arguments(path, key, value, sections[section] if section else _options(sections))


def _entries(path: str, table: dict[str, object], sections: Sections) -> Iterator[tuple[str, object, str]]:
    """Yield each key of a TOML file with its value and its section; "" for none."""
    for key, value in table.items():
        if not isinstance(value, dict):
            yield key, value, ""
        elif key in sections:
            yield from ((name, inner, key) for name, inner in value.items())
        else:
            raise InputError(f"{path}: unknown section [{key}]{_nearest(key, sections)}")


def _options(sections: Sections) -> dict[str, Option]:
    """Return the options of all sections by name."""
    return {name: option for part in sections.values() for name, option in part.items()}


def _refuse_options_without_words(arguments: list[str], options: Sequence[Option]) -> None:
    """Raise an InputError where an option that takes several words has none, or one that names a path an empty one."""
    several = {option.name for option in options if option.several}
    files = {option.name for option in options if option.takes_files}
    for number, argument in enumerate(arguments):
        name, equals, word = argument.removeprefix("--").partition("=")
        words = [word] if equals else arguments[number + 1 : number + 2]
        is_missing = name in several and (not words or (not equals and words[0].startswith("--")))
        if argument.startswith("--") and (is_missing or (name in files and words == [""])):
            raise InputError(
                f"--{name} names nothing, as where a variable of the shell is not set; name it, or leave it out"
            )


def _sections(config_type: type, options: Sequence[Option]) -> Sections:
    """Return the sections of a nested config, each with the options that a file may give, by name."""
    return {
        name: {option.name: option for option in options if option.part == name and option.name != "config"}
        for name, kind in get_type_hints(config_type).items()
        if is_dataclass(kind)
    }


def _arguments(path: str, key: str, value: object, known: dict[str, Option]) -> Iterator[str]:
    name = key.replace("_", "-")
    if name not in known:
        raise InputError(f"{path}: unknown key {key}{_nearest(name, known)}")
    if isinstance(value, bool) != known[name].is_switch:
        expected = "true or false" if known[name].is_switch else "a text or a number"
        raise InputError(f"{path}: {key} is {value!r}; it must be {expected}")
    if any("\0" in text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)):
        raise InputError(f"{path}: {key} holds a null character, which no option takes; leave it out")
    takes_several = known[name].several
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
