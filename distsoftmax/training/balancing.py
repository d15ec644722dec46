"""When shards move in mid-run, and what came of it: `--balance dynamic`, equal on every rank."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np

from distsoftmax.cluster.assignment import Assignment, n_moved
from distsoftmax.cluster.balance import Balancer
from distsoftmax.cluster.communicator import Communicator
from distsoftmax.cluster.control import Verdict
from distsoftmax.data.dataset import Dataset
from distsoftmax.data.moving import assignment_of, costs_of
from distsoftmax.errors import OutputError

BYTES_PER_SECOND = 1e8  # at which shards are taken to move, until it is measured
LEAST_WAVES = 8  # shards for each thread of ranks with several: they take whole ones, so one more can double a step
LEAST_SECONDS = 0.005  # that a shard is taken to need, until it is measured


class Balancing:
    """Has shards moved where a step takes some ranks longer than others.

    Parameters
    ----------
    dataset : Dataset
        What this rank holds.
    cluster : Communicator
    threads : int
        Of this rank.

    Attributes
    ----------
    n_moved, n_rebalances : int
        The shards that have moved since the start, and in how many goes; equal on every rank.
    n_received : int
        Of them, those that have come to this rank.
    trouble : str
        Why shards do not move any more; empty where they may.

    Notes
    -----
    Collective.
    """

    def __init__(self, dataset: Dataset, cluster: Communicator, threads: int) -> None:
        self.n_moved = self.n_rebalances = self.n_received = 0
        self._cluster = cluster
        self.begin(dataset, threads)

    def begin(self, dataset: Dataset, threads: int) -> None:
        """Begin anew with what the ranks hold, as after a loss; the counts go on. Collective."""
        self.trouble = ""
        self._balancer: Balancer | None = None
        self._seconds_per_shard = math.inf
        threads_of_ranks = self._cluster.allgather(threads)
        is_fine = max(threads_of_ranks) == 1 or dataset.n_shards >= LEAST_WAVES * sum(threads_of_ranks)
        if self._cluster.size > 1 and is_fine:
            self._balancer = Balancer(costs_of(dataset, self._cluster), assignment_of(dataset, self._cluster))
            largest = np.array([max((shard.nbytes for shard in dataset.training.store), default=0)])
            self._cluster.maximum(largest)
            self._seconds_per_shard = max(LEAST_SECONDS, float(largest[0]) / BYTES_PER_SECOND)

    def look(self, verdict: Verdict, steps_left: int) -> Assignment | None:
        """Look at the seconds of a step, and return the assignment that is worth moving to, if any. Not collective."""
        if self._balancer is None or self.trouble:
            return None
        self._balancer.note(verdict.compute_seconds)
        return self._balancer.proposal(steps_left, self._seconds_per_shard, verdict.seconds_left)

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
        assert self._balancer is not None, "which has proposed it"
        start, before = time.perf_counter(), self._balancer.assignment
        try:
            dataset = move(wanted)
        except OutputError as error:  # on all ranks; each holds what it did before
            self.trouble = str(error)
            return None
        seconds = np.array([time.perf_counter() - start])
        self._cluster.maximum(seconds)
        count, most = n_moved(before, wanted)
        self._seconds_per_shard = float(seconds[0]) / most
        self._balancer.moved(wanted)
        self.n_rebalances += 1
        self.n_moved += count
        self.n_received += len(set(wanted[self._cluster.rank]).difference(before[self._cluster.rank]))
        return dataset
