"""Which rank owns which shard: pure index arithmetic, no communication."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Sequence
from itertools import islice

Assignment = tuple[tuple[int, ...], ...]  # for each rank its shards, ascending


def owned_shards(rank: int, n_ranks: int, n_shards: int) -> range:
    """Return the shards of a rank: consecutive, and as even as whole shards allow.

    Consecutive shards let a rank read one run of the source, and put the results back in order by joining the ranks'.
    Where ranks outnumber shards, some ranks own none.
    """
    return range(rank * n_shards // n_ranks, (rank + 1) * n_shards // n_ranks)


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
