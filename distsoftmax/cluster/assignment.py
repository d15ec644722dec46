"""Which rank owns which shard: pure index arithmetic, no communication."""

from __future__ import annotations


def owned_shards(rank: int, n_ranks: int, n_shards: int) -> range:
    """Return the shards of a rank: consecutive, and as even as whole shards allow.

    Consecutive shards let a rank read one run of the source, and put the results back in order by joining the ranks'.
    Where ranks outnumber shards, some ranks own none.
    """
    return range(rank * n_shards // n_ranks, (rank + 1) * n_shards // n_ranks)
