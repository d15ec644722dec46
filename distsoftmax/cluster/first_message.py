"""The first thing the ranks tell each other: what each of them was asked to do, and with which software.

A rank that was given another option would train another model, or wait for ever in a call that no other makes.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np

import distsoftmax
from distsoftmax.cluster.communicator import Communicator
from distsoftmax.errors import ClusterError, InputError

OF_THE_NODE = ("scratch", "threads")  # options that may differ by rank: they change no bit and no call
NOT_GIVEN = "not given"
MOST_NAMED = 8  # ranks in a message


@dataclass(frozen=True, kw_only=True)
class FirstMessage:
    """What a rank says at the start.

    Attributes
    ----------
    node : str
    version : str
        Of this package.
    software : dict
        Versions of what it stands on.
    options : dict
        The options that all ranks must be given alike, each as a text; None where they could not be parsed.
    usage : str
        What is to be printed, and nothing done: a help text, or a complaint about the arguments.
    is_help : bool
        Which of them it is.
    """

    node: str
    version: str
    software: Mapping[str, str]
    options: Mapping[str, str] | None
    usage: str = ""
    is_help: bool = False

    @staticmethod
    def of(
        cluster: Communicator, options: Mapping[str, object] | None, usage: str = "", is_help: bool = False
    ) -> FirstMessage:
        """Return this rank's."""
        software = {"Python": platform.python_version(), "numpy": np.__version__, "MPI": cluster.library}
        compared = None
        if options is not None:
            compared = {name: _text(value) for name, value in options.items() if name not in OF_THE_NODE}
        return FirstMessage(
            node=os.uname().nodename,
            version=distsoftmax.__version__,
            software=software,
            options=compared,
            usage=usage,
            is_help=is_help,
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
    """Refuse to begin where the ranks were asked for different things, or are of different versions. Collective.

    Raises
    ------
    ClusterError
        On every rank: they are of different versions of this package.
    InputError
        On every rank: one of them was given other options than rank 0.
    """
    first = cluster.broadcast(own)
    said = cluster.allgather((own.version, own.node, own.software, _difference(own, first, cluster.rank)))
    nodes = [node for _, node, _, _ in said]
    versions = [version for version, _, _, _ in said]
    if len(set(versions)) > 1:
        raise ClusterError(
            f"the ranks run different versions of distsoftmax: {_grouped(versions, nodes)}; install one version on all "
            "nodes"
        ).on_all_ranks()
    complaint = next((difference for _, _, _, difference in said if difference), "")
    if complaint:
        raise InputError(complaint).on_all_ranks()
    for name in own.software:
        used = [software[name] for _, _, software, _ in said]
        if len(set(used)) > 1:
            cluster.say(f"note: the ranks run different versions of {name}: {_grouped(used, nodes)}", to_stderr=True)


def _difference(own: FirstMessage, first: FirstMessage, rank: int) -> str:
    """Return in what this rank differs from rank 0, with the remedy; empty where it does not."""
    remedy = "give every rank the same options"
    if own.is_help != first.is_help:
        asks, does_not = (rank, 0) if own.is_help else (0, rank)
        return f"rank {asks} was given --help, rank {does_not} was not; {remedy}"
    if bool(own.usage) != bool(first.usage):
        cannot, can = (rank, 0) if own.usage else (0, rank)
        return f"rank {cannot} cannot read its options, rank {can} can; {remedy}\n{own.usage or first.usage}"
    if own.options is None or first.options is None:
        return ""
    differences = [
        f"{_in_words(name)} is {own.options.get(name, NOT_GIVEN)} on rank {rank}, "
        f"{first.options.get(name, NOT_GIVEN)} on rank 0"
        for name in {**first.options, **own.options}
        if own.options.get(name) != first.options.get(name)
    ]
    return f"{'; '.join(differences)}; {remedy}" if differences else ""


def _in_words(name: str) -> str:
    return "the command" if name == "command" else f"--{name}"


def _text(value: object) -> str:
    if value is None or value == ():
        return NOT_GIVEN
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _grouped(versions: Sequence[str], nodes: Sequence[str]) -> str:
    """Return who has what: "0.1.0 on ranks 0, 1 (node a), 0.2.0 on rank 2 (node b)"."""
    holders: dict[str, list[int]] = {}
    for rank, version in enumerate(versions):
        holders.setdefault(version, []).append(rank)
    return ", ".join(f"{version or 'none'} on {_ranks(ranks, nodes)}" for version, ranks in holders.items())


def _ranks(ranks: list[int], nodes: Sequence[str]) -> str:
    names = sorted({nodes[rank] for rank in ranks})
    where = f"node {names[0]}" if len(names) == 1 else f"{len(names)} nodes, such as {names[0]}"
    named = ", ".join(map(str, ranks[:MOST_NAMED]))
    more = f" and {len(ranks) - MOST_NAMED} more" if len(ranks) > MOST_NAMED else ""
    return f"rank{'s' if len(ranks) > 1 else ''} {named}{more} ({where})"
