"""How much work each rank gets by --balance weighted: as a file of hosts says, or as a short probe has measured."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from distsoftmax.arithmetic.fixed_point import FixedPoint
from distsoftmax.arithmetic.kernels import Scorer
from distsoftmax.arithmetic.samples import dense_rows
from distsoftmax.arithmetic.sums import Sums
from distsoftmax.cluster.communicator import Communicator
from distsoftmax.config import RunConfig
from distsoftmax.errors import InputError

PROBE_SECONDS = 0.08
ROWS, FEATURES, CLASSES = 512, 64, 16  # of the probe's samples: they stay in a core's own cache
LEAST, LARGEST = 1e-6, 1e6  # weight
MOST_NAMED = 8  # hosts in a message


class Line(NamedTuple):
    """What a line of a file of weights says."""

    number: int
    weight: float


def choose_weights(config: RunConfig, threads: int, cluster: Communicator) -> NDArray[np.float64] | None:
    """Return the weight of each rank, (n_ranks,), equal on every rank; None where all shall get the same. Collective.

    Parameters
    ----------
    threads : int
        Of this rank.

    Raises
    ------
    InputError
        On every rank: --weights cannot be read, or does not fit the hosts of the job.
    """
    if config.balance != "weighted":
        return None
    if config.weights is None:
        if cluster.size == 1:
            return None
        cluster.barrier()  # all at once, so that they compete as they will in the steps
        return np.array(cluster.allgather(probe(threads)))
    hosts = cluster.allgather(os.uname().nodename)
    own: list[float] = []
    with cluster.agreement():
        if cluster.rank == 0:
            own, idle = weights_of_ranks(config.weights, hosts, may_lack=config.warm)
            if idle:
                cluster.say(f"note: {idle}")
    return np.array(cluster.broadcast(own))


def weights_of_ranks(path: str, hosts: Sequence[str], *, may_lack: bool = False) -> tuple[list[float], str]:
    """Read a file of weights, and return the weight of each rank: its host's, shared with the ranks beside it.

    A host may be written with its domain or without.

    Parameters
    ----------
    hosts : sequence of str
        Of each rank.
    may_lack : bool
        Whether the job may have fewer hosts than the file: one that is started again leaves out those that are lost.

    Returns
    -------
    weights : list of float
    note : str
        Which hosts the job lacks; empty where it has all.

    Raises
    ------
    InputError
        The file cannot be read; a line is wrong; a host of the job has no weight; the job lacks a host.
    """
    lines = read_weights(path)
    names = {host: _name_in(lines, host) for host in hosts}
    for host, name in names.items():
        if name is None:
            ranks = [str(rank) for rank, of_rank in enumerate(hosts) if of_rank == host]
            which = f"rank {ranks[0]} runs" if len(ranks) == 1 else f"ranks {_list(ranks)} run"
            raise InputError(f"{path}: no line has the weight of {host}, and {which} there; add one, as in {host} 1")
    lacking = [name for name in lines if name not in names.values()]
    note = ""
    if lacking:
        note = f"{path}, line {lines[lacking[0]].number}: no rank runs on {_list(lacking)}"
        if not may_lack:
            raise InputError(f"{note}; the job has {_list([*names])}. Correct the name, or take the line out")
    return [lines[names[host] or ""].weight / hosts.count(host) for host in hosts], note


def read_weights(path: str) -> dict[str, Line]:
    """Read a file with a host and its weight on each line; # begins a comment.

    Raises
    ------
    InputError
        It cannot be read; a line is no such line; a host stands on two; there are none.
    """
    try:
        texts = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(
            f"--weights {path}: cannot be read: {error.strerror}; name a file with a host and its weight on each line "
            "(a column of sample weights is --weight)"
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"--weights {path}: is not text; write a host and its weight on each line") from None
    lines: dict[str, Line] = {}
    for number, text in enumerate(texts, 1):
        words = text.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 2:
            line = " ".join(words)[:80]
            raise InputError(f"{path}, line {number}: {line!r} is not a host and its weight; write them as in node1 2")
        host, word = words
        try:
            weight = float(word)
        except ValueError:
            weight = float("nan")
        if not LEAST <= weight <= LARGEST:
            raise InputError(
                f"{path}, line {number}: the weight of {host} is {word[:40]}; it must be a number from {LEAST:g} to "
                f"{LARGEST:g}; to leave a host out, start no rank on it"
            )
        if host in lines:
            raise InputError(
                f"{path}, line {number}: {host} has a weight in line {lines[host].number} already; keep one of them"
            )
        lines[host] = Line(number, weight)
    if not lines:
        raise InputError(f"--weights {path}: holds no weights; write a host and its weight on each line")
    return lines


def probe(threads: int) -> float:
    """Return how often a second this rank computes loss and gradient of some made-up samples. Not collective."""
    values = np.arange(ROWS * FEATURES, dtype=np.int64) * 7919 % 1021
    features = np.ascontiguousarray((values / 1021).reshape(ROWS, FEATURES), dtype=np.float32)
    rows = dense_rows(features, np.dtype(np.float32), np.arange(ROWS, dtype=np.int64) % CLASSES)
    scorer = Scorer(np.zeros((CLASSES, FEATURES + 1)), np.dtype(np.float32), sparse=False)
    bound = 4.0 * ROWS  # every feature is below 1, and every loss log(CLASSES)
    sums = Sums(FixedPoint(np.full(FEATURES + 1, bound)), FixedPoint(bound), CLASSES, by_column=False)

    def work(seconds: float) -> float:
        start, count = time.perf_counter(), 0
        while (passed := time.perf_counter() - start) < seconds or not count:
            scorer.add_loss_and_gradient(rows, sums.empty())
            count += 1
        return count / passed

    if threads == 1:
        return work(PROBE_SECONDS)
    with ThreadPoolExecutor(threads) as pool:
        speeds = list(pool.map(work, [PROBE_SECONDS] * threads))
    return float(np.array(speeds).min()) * threads


def _name_in(lines: Mapping[str, Line], host: str) -> str | None:
    """Return the name by which a file has a host; None where it has it not."""
    if host in lines:
        return host
    without = host.partition(".")[0]
    same = [name for name in lines if name.partition(".")[0] == without and (name == without or host == without)]
    return same[0] if len(same) == 1 else None


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
