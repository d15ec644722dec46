"""How near to the ideal a step comes under each policy of --balance, on a simulated cluster of unequal nodes.

    python tests/benchmarks/balance_simulation.py [--ranks 1024] [--shards-a-rank 64] [--noise 0.03] [--seed 0]

The ranks' speeds are log-normal with sigma 0.3; 5 % of them are stragglers, at a third of their speed. After a third of
the steps another 5 % become stragglers, after two thirds these are well again. A step takes as long as its slowest
rank; the ideal is all work divided by all speeds. What the balancer is told of a step is noisy: each rank's seconds
vary by a normal deviation, 3 % of them, and one in a hundred takes twice as long. A step's time is taken without the
noise. weighted knows the speeds by a probe before the first step, which is as noisy.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time

import numpy as np
from comparison import Table

from distsoftmax.cluster.assignment import Assignment, initial_assignment, n_moved
from distsoftmax.cluster.balance import Balancer

SIGMA = 0.3  # of the logarithm of the speeds
STRAGGLERS, SLOWED = 0.05, 3.0
SPIKES, SPIKE = 0.01, 2.0  # how often a measurement is far off, and how far
STEPS = 300  # in each of three phases
SHARD_SECONDS = 0.02  # of a median rank, for a shard in a step
MOVE_SECONDS = 0.05  # for a shard: 50 MB at 1 GB/s


class Cluster:
    """Ranks of unequal pace.

    Parameters
    ----------
    n_ranks : int
    noise : float
        Relative deviation of what is measured.
    """

    def __init__(self, n_ranks: int, noise: float, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._noise = noise
        pace = 1 / np.exp(SIGMA * self._random.standard_normal(n_ranks))
        chosen = self._random.permutation(n_ranks)
        self._first, self._second = np.split(chosen, [round(STRAGGLERS * n_ranks)])
        self._second = self._second[: self._first.size]
        self.pace = pace
        self.pace[self._first] *= SLOWED

    def slow_down(self) -> None:
        """Make more ranks stragglers."""
        self.pace[self._second] *= SLOWED

    def speed_up(self) -> None:
        """Make those well again."""
        self.pace[self._second] /= SLOWED

    def measured(self, seconds: np.ndarray) -> np.ndarray:
        """Return seconds as they would be measured."""
        spikes = np.where(self._random.random(seconds.size) < SPIKES, SPIKE, 1.0)
        return seconds * spikes * np.maximum(1 + self._noise * self._random.standard_normal(seconds.size), 0.1)


def loads_of(assignment: Assignment, costs: np.ndarray) -> np.ndarray:
    return np.array([costs[list(of_rank)].sum() for of_rank in assignment])


def simulate(policy: str, options: argparse.Namespace, table: Table) -> None:
    """Run one policy, and add its line to the table."""
    cluster = Cluster(options.ranks, options.noise, options.seed)
    costs = np.full(options.ranks * options.shards_a_rank, 1000)
    weights = 1 / cluster.measured(cluster.pace) if policy == "weighted" else None
    assignment = initial_assignment(policy, costs, options.ranks, weights)
    balancer = Balancer(costs, assignment) if policy == "dynamic" else None
    loads = loads_of(assignment, costs)
    settled, times, moves, moved_shards, decision = [], [], 0, 0, 0.0
    for change in (None, cluster.slow_down, cluster.speed_up):
        if change:
            change()
        ideal = costs.sum() / math.fsum(1 / cluster.pace)
        for _ in range(STEPS):
            seconds = SHARD_SECONDS / 1000 * loads * cluster.pace
            times.append((loads * cluster.pace).max() / ideal)
            if balancer is None:
                continue
            balancer.note(cluster.measured(seconds))
            start = time.process_time()
            better = balancer.proposal(3 * STEPS - len(times), MOVE_SECONDS)
            decision = max(decision, time.process_time() - start)
            if better is not None:
                moves, moved_shards = moves + 1, moved_shards + n_moved(assignment, better)[0]
                if options.verbose:
                    print(f"step {len(times)}: {n_moved(assignment, better)}, was {times[-1]:.3f} of the ideal")
                assignment, loads = better, loads_of(better, costs)
                balancer.moved(better)
        settled.append(statistics.median(times[-STEPS // 3 :]))
    mean = math.fsum(times) / len(times)
    table.row(policy, *settled, mean, moves, moved_shards, 1e3 * decision)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=1024)
    parser.add_argument("--shards-a-rank", type=int, default=64)
    parser.add_argument("--noise", type=float, default=0.03)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbose", action="store_true", help="tell each move")
    options = parser.parse_args()
    print(f"{options.ranks} ranks, {options.shards_a_rank} shards a rank; time of a step / ideal")
    table = Table(
        "policy", "5 % slow", "10 % slow", "5 % again", "mean", "moves", "shards moved", "longest decision, ms"
    )
    for policy in ("contiguous", "round-robin", "weighted", "dynamic"):
        simulate(policy, options, table)


if __name__ == "__main__":
    main()
