"""The first thing the ranks tell each other: what each of them was asked to do, and with which software.

A rank that was given another option would train another model, or wait for ever in a call that no other makes. Builds
that differ must understand each other here, if nowhere else: these two collective calls, a broadcast and an allgather
of JSON objects in texts, stay as they are in every version. What a build does not know it leaves alone.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any

import numpy as np

import distsoftmax
from distsoftmax.arithmetic import library
from distsoftmax.cluster.communicator import Communicator
from distsoftmax.cluster.rank_table import ranks_in_words, who_has_what
from distsoftmax.errors import ClusterError, InputError

OF_THE_NODE = ("scratch", "threads")  # options that may differ by rank: they change no bit and no call
NOT_GIVEN = "not given"
UNKNOWN = "unknown"
ESSENTIAL = ("distsoftmax", "arithmetic")  # what must be one version: it decides on the bits, and on the calls
NOTED = ("Python", "numpy", "MPI")  # what may differ, and is told where it does
COLUMNS = (*ESSENTIAL, *NOTED, "processor")
REMEDY = "give every rank the same options"


@dataclass(frozen=True, kw_only=True)
class FirstMessage:
    """What a rank says at the start.

    Attributes
    ----------
    node : str
    build : dict
        The versions of this package, of its arithmetic and of what it stands on, and the kind of processor, each as a
        text, by the names in COLUMNS.
    options : dict
        The options that all ranks must be given alike, each as a text; None where they could not be parsed.
    usage : str
        What is to be printed, and nothing done: a help text, or a complaint about the arguments.
    is_help : bool
        Which of them it is.
    """

    node: str
    build: Mapping[str, str]
    options: Mapping[str, str] | None
    usage: str = ""
    is_help: bool = False

    @staticmethod
    def of(
        cluster: Communicator, options: Mapping[str, object] | None, usage: str = "", is_help: bool = False
    ) -> FirstMessage:
        """Return this rank's."""
        build = {
            "distsoftmax": distsoftmax.__version__,
            "arithmetic": str(library.VERSION),
            "Python": platform.python_version(),
            "numpy": np.__version__,
            "MPI": _short(cluster.library) or "none",
            "processor": platform.machine(),
        }
        compared = None
        if options is not None:
            compared = {name: _text(value) for name, value in options.items() if name not in OF_THE_NODE}
        return FirstMessage(node=os.uname().nodename, build=build, options=compared, usage=usage, is_help=is_help)

    @staticmethod
    def told_by(record: Mapping[str, Any]) -> FirstMessage:
        """Return what a rank of any build has said."""
        build = record.get("build")
        told: Mapping[str, str] = build if isinstance(build, dict) else {}
        return FirstMessage(
            node=record.get("node") or UNKNOWN,
            build={name: told.get(name) or UNKNOWN for name in COLUMNS},
            options=record.get("options"),
            usage=record.get("usage") or "",
            is_help=bool(record.get("is_help")),
        )


def resolved_options(config: Any, name: str = "") -> dict[str, Any]:
    """Return every option of a config by its command-line name, whether it was given or is a default.

    Examples
    --------
    >>> from distsoftmax.config import TrainConfig
    >>> options = resolved_options(TrainConfig())
    >>> options["valid-fraction"], options["max-steps"], options["command"]
    (None, None, 'TrainConfig')
    """
    options: dict[str, Any] = {} if name else {"command": type(config).__name__}
    for item in fields(config):
        value = getattr(config, item.name)
        if is_dataclass(value):
            options |= resolved_options(value, item.name)
        elif item.name != "config":  # what the file says is among the options
            options[item.name.replace("_", "-")] = value
    return options


def compare_ranks(cluster: Communicator, own: FirstMessage) -> None:
    """Refuse to begin where the ranks were asked for different things, or are of different builds. Collective.

    Raises
    ------
    ClusterError
        On every rank: they are of different versions of this package, or of its arithmetic.
    InputError
        On every rank: one of them was given other options than rank 0.
    """
    first = FirstMessage.told_by(_record(cluster.broadcast(json.dumps(asdict(own)))))
    is_understood = not _differing(ESSENTIAL, [own.build, first.build])
    difference = _difference(own, first) if is_understood else []
    said = cluster.allgather(json.dumps({"node": own.node, "build": own.build, "difference": difference}))
    records = [_record(text) for text in said]
    ranks = [FirstMessage.told_by(record) for record in records]
    nodes, builds = [rank.node for rank in ranks], [rank.build for rank in ranks]
    if _differing(ESSENTIAL, builds):
        raise ClusterError(
            "the ranks run different versions of distsoftmax, whose sums do not fit together; install one version on "
            f"all nodes\n{_table(builds, nodes)}"
        ).on_all_ranks()
    differences = [record.get("difference") or [] for record in records]
    complaint = next(filter(None, differences), None)
    if complaint is not None:
        odd = [rank for rank, of_rank in enumerate(differences) if of_rank == complaint]
        raise InputError("; ".join([*(_in_words(entry, odd, nodes) for entry in complaint), REMEDY])).on_all_ranks()
    noted = _differing(NOTED, builds)
    if noted:
        cluster.say(
            f"note: the ranks run different versions of {', '.join(noted)}, which changes no bit of the model\n"
            f"{_table(builds, nodes)}",
            to_stderr=True,
        )


def _record(text: object) -> Mapping[str, Any]:
    """Return the JSON object in a text; nothing of it where a build has sent something else."""
    try:
        record = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        record = None
    return record if isinstance(record, dict) else {}


def _differing(names: Sequence[str], builds: Sequence[Mapping[str, str]]) -> list[str]:
    return [name for name in names if len({build[name] for build in builds}) > 1]


def _table(builds: Sequence[Mapping[str, str]], nodes: Sequence[str]) -> str:
    return who_has_what(COLUMNS, [[build[name] for name in COLUMNS] for build in builds], nodes)


def _difference(own: FirstMessage, first: FirstMessage) -> list[tuple[str, str, str]]:
    """Return in what this rank differs from rank 0: of what, what this one has, and what that one."""
    if own.is_help != first.is_help:
        return [("help", "given" if own.is_help else NOT_GIVEN, "given" if first.is_help else NOT_GIVEN)]
    if bool(own.usage) != bool(first.usage):
        return [("", own.usage, first.usage)]
    if own.options is None or first.options is None:
        return []
    return [
        (name, own.options.get(name, NOT_GIVEN), first.options.get(name, NOT_GIVEN))
        for name in {**first.options, **own.options}
        if own.options.get(name) != first.options.get(name)
    ]


def _in_words(entry: Sequence[str], odd: Sequence[int], nodes: Sequence[str]) -> str:
    """Return an entry of a difference as a sentence; `odd` are the ranks that have it."""
    name, own, first = entry
    where, rank_0 = ranks_in_words(odd, nodes), ranks_in_words([0], nodes)
    if name in ("", "help"):
        has, has_not = (where, rank_0) if own not in ("", NOT_GIVEN) else (rank_0, where)
        if name == "help":
            was, was_not = ("were" if ranks.startswith("ranks") else "was" for ranks in (has, has_not))
            return f"{has} {was} given --help, {has_not} {was_not} not"
        return f"{has} cannot read the options, {has_not} can: {own or first}"
    what = "the command" if name == "command" else f"--{name}"
    return f"{what} is {own} on {where}, {first} on {rank_0}"


def _short(library: str) -> str:
    """Return the version of an MPI library and that of mpi4py, without where and when it was built."""
    version, _, binding = library.rpartition(", ")
    return ", ".join(" ".join(part.split()) for part in (version.partition(",")[0], binding) if part)


def _text(value: object) -> str:
    if value is None or value == ():
        return NOT_GIVEN
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
