"""Which rank owns which shard: pure index arithmetic, no communication.

Every rank computes an assignment for itself and all must come to the same, on any processor. So floats are added,
multiplied, divided and compared here one by one, or by `math.fsum`, and never by a reduction of numpy's, whose order
follows the processor.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect, bisect_left, bisect_right, insort
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import accumulate, islice, pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Policy = Literal["contiguous", "round-robin", "weighted", "dynamic"]
Assignment = tuple[tuple[int, ...], ...]  # for each rank its shards, ascending

HALVINGS = 40  # of the interval that holds the least largest load: to 12 digits
NEAR = 1.005  # times the end that no assignment can beat: nearer than this no shard is worth moving


def initial_assignment(
    policy: Policy, costs: NDArray[np.int64], n_ranks: int, weights: NDArray[np.float64] | None = None
) -> Assignment:
    """Return where the shards lie when the first step is taken.

    Parameters
    ----------
    policy : {"contiguous", "round-robin", "weighted", "dynamic"}
        dynamic starts as contiguous.
    costs : ndarray of int64, (n_shards,)
        The work of each shard, such as its rows.
    weights : ndarray of float64, (n_ranks,), or None
        The speed of each rank; None: all are equal.

    Examples
    --------
    >>> initial_assignment("round-robin", np.full(5, 100), 2)
    ((0, 2, 4), (1, 3))
    >>> initial_assignment("weighted", np.full(5, 100), 2, np.array([1.0, 4.0]))
    ((0,), (1, 2, 3, 4))
    """
    if policy == "round-robin":
        return tuple(tuple(range(rank, costs.size, n_ranks)) for rank in range(n_ranks))
    return tuple(tuple(run) for run in reading_runs(costs, n_ranks, weights))


def reading_runs(costs: NDArray[np.int64], n_ranks: int, weights: NDArray[np.float64] | None = None) -> list[range]:
    """Return the consecutive shards that each rank reads: as `initial_assignment`, but for round-robin.

    Consecutive shards let a rank read one run of the source.
    """
    if weights is None:
        return [owned_shards(rank, n_ranks, costs.size) for rank in range(n_ranks)]
    return weighted_runs(costs, weights)


def owned_shards(rank: int, n_ranks: int, n_shards: int) -> range:
    """Return the shards of a rank where all are equal: consecutive, and as even as whole shards allow.

    Consecutive shards also put the results back in order by joining the ranks'. Where ranks outnumber shards, some
    ranks own none.
    """
    return range(rank * n_shards // n_ranks, (rank + 1) * n_shards // n_ranks)


def weighted_runs(costs: NDArray[np.int64], weights: NDArray[np.float64]) -> list[range]:
    """Return consecutive shards for each rank such that the largest of (cost of a rank / its weight) is least.

    Of all such cuts it is the one whose bounds are nearest to exact proportions, so that no rank is left without work
    for nothing. (The chains-on-chains partitioning problem for unequal processors: A. Pinar, E. Tabak, C. Aykanat,
    "One-dimensional partitioning for heterogeneous systems", J. Parallel Distrib. Comput. 68, 2008.)

    Parameters
    ----------
    costs : ndarray of int64, (n_shards,)
    weights : ndarray of float64, (n_ranks,)
        Above 0.

    Examples
    --------
    >>> weighted_runs(np.array([10, 10, 10, 10]), np.array([1.0, 3.0]))
    [range(0, 1), range(1, 4)]
    """
    total = [0, *accumulate(costs.tolist())]  # total[s]: the cost of the shards before s
    speeds, n_shards = weights.tolist(), costs.size

    def is_enough(load: float) -> bool:
        """Return whether all shards are dealt out where each rank takes as many as it carries through in a time."""
        start = 0
        for speed in speeds:
            start = bisect_right(total, total[start] + load * speed, start) - 1
        return start == n_shards

    low = total[-1] / math.fsum(speeds)
    high = min(low + int(costs.max()) / min(speeds), total[-1] / max(speeds))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    high *= 1 + 2**-40  # so that no rounding below leaves a shard over
    earliest = [n_shards]  # from the last rank to the first: where each may start so that those behind it suffice
    for speed in reversed(speeds):
        earliest.append(bisect_left(total, total[earliest[-1]] - high * speed, hi=earliest[-1]))
    earliest.reverse()
    before = list(accumulate(speeds))
    bounds = [0]
    for rank, speed in enumerate(speeds):
        proportional = bisect_right(total, total[-1] * before[rank] / before[-1]) - 1
        latest = bisect_right(total, total[bounds[-1]] + high * speed, bounds[-1]) - 1
        bounds.append(min(max(proportional, earliest[rank + 1], bounds[-1]), latest))
    return [range(*ends) for ends in pairwise(bounds)]


def rebalanced(assignment: Assignment, costs: Sequence[int], pace: Sequence[float]) -> Assignment:
    """Return an assignment by which the ranks end at about the same time, with as few shards moved as that takes.

    Again and again the rank that ends last gives a shard to the rank that then ends first, as long as that is earlier.
    Where shards cost the same, no assignment ends before the result does, but by less than `NEAR`, and no rank both
    gives and takes. Where they differ each move is an improvement, and its shard the one that leaves the two ranks
    nearest to each other.

    Parameters
    ----------
    assignment : Assignment
        The present one.
    costs : sequence of int, (n_shards,)
    pace : sequence of float, (n_ranks,)
        Seconds that each rank takes for a unit of cost.

    Examples
    --------
    >>> rebalanced(((0, 1, 2), (3, 4, 5)), [10] * 6, [2.0, 1.0])
    ((0, 1), (2, 3, 4, 5))
    """
    loads = loads_of(assignment, costs)
    owned = [list(held) for held in assignment]
    priced: dict[int, list[tuple[int, int]]] = {}  # costs and shards, ascending, of ranks that have given
    usual = math.fsum(loads) / len(costs)
    soon_enough = NEAR * math.fsum(loads) / math.fsum(1 / seconds for seconds in pace)
    latest = _Queue(-load * seconds for load, seconds in zip(loads, pace, strict=True))
    soonest = _Queue((load + usual) * seconds for load, seconds in zip(loads, pace, strict=True))
    moves: list[tuple[int, int, int]] = []  # giver, taker, shard
    least, n_needed = math.inf, 0
    while True:
        giver, taker = latest.first(), soonest.first()
        end = loads[giver] * pace[giver]
        if end < least:
            least, n_needed = end, len(moves)
        if end <= soon_enough:
            break
        if giver not in priced:
            priced[giver] = sorted((costs[shard], shard) for shard in owned[giver])
        even = (end - loads[taker] * pace[taker]) / (pace[giver] + pace[taker])  # a shard that costs this makes it so
        position = max(bisect(priced[giver], (even, len(costs))) - 1, 0)
        cost, shard = priced[giver][position]
        if (loads[taker] + cost) * pace[taker] >= end:
            break
        moves.append((giver, taker, shard))
        del priced[giver][position]
        owned[taker].append(shard)
        if taker in priced:
            insort(priced[taker], (cost, shard))
        for rank, change in ((giver, -cost), (taker, cost)):
            loads[rank] += change
            latest.change(rank, -loads[rank] * pace[rank])
            soonest.change(rank, (loads[rank] + usual) * pace[rank])
    owners = {shard: taker for _, taker, shard in moves[:n_needed]}  # after the others the last ends no earlier
    return _with_moved(assignment, owners)


def _with_moved(assignment: Assignment, owners: Mapping[int, int]) -> Assignment:
    """Return an assignment with some shards moved, each to the rank that it is mapped to."""
    taken: dict[int, list[int]] = {}
    for shard, owner in owners.items():
        taken.setdefault(owner, []).append(shard)
    return tuple(
        held
        if rank not in taken and owners.keys().isdisjoint(held)
        else tuple(sorted([shard for shard in held if shard not in owners] + taken.get(rank, [])))
        for rank, held in enumerate(assignment)
    )


class _Queue:
    """Ranks in the order of a number of each, which may change."""

    def __init__(self, numbers: Iterable[float]) -> None:
        self._numbers = list(numbers)
        self._heap = [(number, rank) for rank, number in enumerate(self._numbers)]
        heapq.heapify(self._heap)

    def first(self) -> int:
        """Return the rank with the least number, of equal ones the first."""
        while self._heap[0][0] != self._numbers[self._heap[0][1]]:  # an entry from before a change
            heapq.heappop(self._heap)
        return self._heap[0][1]

    def change(self, rank: int, number: float) -> None:
        """Give a rank another number."""
        self._numbers[rank] = number
        heapq.heappush(self._heap, (number, rank))


def ends_of(assignment: Assignment, costs: Sequence[int], pace: Sequence[float]) -> list[float]:
    """Return the seconds that each rank takes for a step."""
    return [load * seconds for load, seconds in zip(loads_of(assignment, costs), pace, strict=True)]


def loads_of(assignment: Assignment, costs: Sequence[int]) -> list[float]:
    """Return the cost of each rank's shards."""
    return [math.fsum([costs[shard] for shard in of_rank]) for of_rank in assignment]


def n_moved(before: Assignment, after: Assignment) -> tuple[int, int]:
    """Return how many shards change their rank, and the most that one rank gives or takes."""
    gave, took = [], []
    for old, new in zip(before, after, strict=True):
        if old != new:
            kept = len(set(old).intersection(new))
            gave.append(len(old) - kept)
            took.append(len(new) - kept)
    return int(math.fsum(took)), max([*gave, *took], default=0)


def held_once(held: Sequence[Collection[int]]) -> list[list[int]]:
    """Leave each shard to the first rank that holds it, and return what each rank keeps.

    Two ranks may hold a shard where others were lost while it was moved.

    Examples
    --------
    >>> held_once([[0, 3], [0, 1, 2], [2, 4]])
    [[0, 3], [1, 2], [4]]
    """
    seen: set[int] = set()
    kept = []
    for of_rank in held:
        kept.append(sorted(set(of_rank) - seen))
        seen.update(of_rank)
    return kept


def lost_shards(held: Sequence[Collection[int]], n_shards: int) -> list[list[int]]:
    """Deal out the shards that no rank holds, so that the ranks hold as many each as can be.

    A rank takes over consecutive ones of the lost shards, so that it reads few runs of the source.

    Parameters
    ----------
    held : sequence of collection of int
        The shards that each rank holds.

    Returns
    -------
    list of list of int
        What each rank takes over.

    Examples
    --------
    >>> lost_shards([[0, 1, 2], [6, 7], [8, 9]], 11)
    [[3], [4, 5], [10]]
    """
    lost = sorted(set(range(n_shards)).difference(*held))
    taken = [0] * len(held)
    fewest = [(len(of_rank), rank) for rank, of_rank in enumerate(held)]
    heapq.heapify(fewest)
    for _ in lost:
        count, rank = fewest[0]
        taken[rank] += 1
        heapq.heapreplace(fewest, (count + 1, rank))
    rest = iter(lost)
    return [list(islice(rest, count)) for count in taken]
