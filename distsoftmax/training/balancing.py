"""When shards move in mid-run, and what came of it: `--balance dynamic`, equal on every rank."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from distsoftmax.cluster.assignment import Assignment
from distsoftmax.cluster.balance import Balancer
from distsoftmax.cluster.communicator import Communicator
from distsoftmax.cluster.control import Verdict
from distsoftmax.data.dataset import Dataset
from distsoftmax.data.moving import costs_of, holders_of
from distsoftmax.errors import OutputError

BYTES_PER_SECOND = 1e8  # at which shards are taken to move, until it is measured
LEAST_SECONDS = 0.005  # that a shard is taken to need, until it is measured


class Balancing:
    """Has shards moved where a step takes some ranks longer than others.

    Parameters
    ----------
    dataset : Dataset
        What this rank holds.
    cluster : Communicator

    Attributes
    ----------
    assignment : tuple of tuple of int
        The shards of each rank, ascending.
    n_moved, n_rebalances : int
        The shards that have moved, and in how many goes.
    trouble : str
        Why shards do not move any more; empty where they may.

    Notes
    -----
    Collective.
    """

    def __init__(self, dataset: Dataset, cluster: Communicator) -> None:
        self.n_moved = self.n_rebalances = 0
        self.trouble = ""
        self.assignment = _assignment(dataset, cluster)
        self._cluster = cluster
        self._balancer = Balancer(costs_of(dataset, cluster), self.assignment)
        largest = np.array([max((shard.nbytes for shard in dataset.training.store), default=0)])
        cluster.maximum(largest)
        self._seconds_per_shard = max(LEAST_SECONDS, float(largest[0]) / BYTES_PER_SECOND)

    def look(self, verdict: Verdict, steps_left: int) -> Assignment | None:
        """Look at the seconds of a step, and return the assignment that is worth moving to, if any. Not collective."""
        self._balancer.note(verdict.compute_seconds)
        return None if self.trouble else self._balancer.proposal(steps_left, self._seconds_per_shard)

    def carry_out(self, wanted: Assignment, move: Callable[[Assignment], Dataset]) -> Dataset | None:
        """Have shards moved, and return the dataset then; None where scratch has no room for them. Collective.

        Parameters
        ----------
        move : callable
            Moves shards to an assignment, and returns the dataset then. Collective.

        Raises
        ------
        InputError
            On every rank: see `move_shards`.
        """
        start = time.perf_counter()
        try:
            dataset = move(wanted)
        except OutputError as error:  # on all ranks; each holds what it did before
            self.trouble = str(error)
            return None
        seconds = np.array([time.perf_counter() - start])
        self._cluster.maximum(seconds)
        gained = [len(set(to) - set(of)) for of, to in zip(self.assignment, wanted, strict=True)]
        given = [len(set(of) - set(to)) for of, to in zip(self.assignment, wanted, strict=True)]
        self._seconds_per_shard = float(seconds[0]) / max(*gained, *given)
        self.assignment = wanted
        self._balancer.moved(wanted)
        self.n_moved += sum(int(count) for count in gained)
        self.n_rebalances += 1
        return dataset


def _assignment(dataset: Dataset, cluster: Communicator) -> Assignment:
    """Return which shards each rank holds. Collective."""
    holders = holders_of(dataset.training.store, dataset.n_shards, cluster)
    return tuple(tuple(np.flatnonzero(holders == rank).tolist()) for rank in range(cluster.size))
