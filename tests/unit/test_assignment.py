"""Who owns which shard: policies as pure functions, swept up to thousands of ranks without starting a process."""

import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distsoftmax.cluster.assignment import (
    NEAR,
    ends_of,
    initial_assignment,
    n_moved,
    owned_shards,
    reading_runs,
    rebalanced,
    weighted_runs,
)

POLICIES = ("contiguous", "round-robin", "weighted", "dynamic")
MANY = [(1, 64), (3, 64), (5, 17), (7, 3), (64, 1000), (1000, 64), (1024, 16384), (4096, 16384)]
paces = st.lists(st.floats(0.05, 20), min_size=1, max_size=8)
some_costs = st.lists(st.integers(1, 50), min_size=1, max_size=24)


def log_normal(n_ranks, seed=0):
    return np.exp(0.3 * np.random.default_rng(seed).standard_normal(n_ranks))


def is_whole(assignment, n_shards):
    """Whether each shard has one rank, and each rank's shards ascend."""
    ascend = all(list(of_rank) == sorted(of_rank) for of_rank in assignment)
    return ascend and sorted(itertools.chain(*assignment)) == list(range(n_shards))


@pytest.mark.parametrize(("n_ranks", "n_shards"), MANY)
@pytest.mark.parametrize("policy", POLICIES)
def test_every_shard_is_owned_once(policy, n_ranks, n_shards):
    costs = np.random.default_rng(1).integers(1, 1000, n_shards)
    weights = log_normal(n_ranks) if policy == "weighted" else None
    assert is_whole(initial_assignment(policy, costs, n_ranks, weights), n_shards)


@pytest.mark.parametrize(("n_ranks", "n_shards"), MANY)
def test_ranks_read_consecutive_shards_and_round_robin_alone_moves_some_then(n_ranks, n_shards):
    costs = np.full(n_shards, 10)
    runs = tuple(tuple(run) for run in reading_runs(costs, n_ranks))
    for policy in ("contiguous", "weighted", "dynamic"):
        assert initial_assignment(policy, costs, n_ranks) == runs
    dealt = initial_assignment("round-robin", costs, n_ranks)
    assert all(shard % n_ranks == rank for rank, of_rank in enumerate(dealt) for shard in of_rank)


@pytest.mark.parametrize(("n_ranks", "n_shards"), MANY)
def test_equal_weights_are_no_weights(n_ranks, n_shards):
    runs = weighted_runs(np.full(n_shards, 1000), np.full(n_ranks, 0.5))
    assert runs == [owned_shards(rank, n_ranks, n_shards) for rank in range(n_ranks)]


@settings(max_examples=150)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.lists(st.floats(0.01, 100), min_size=1, max_size=4))
def test_no_other_cut_by_weight_has_a_smaller_largest_load(costs, weights):
    """Against all cuts there are."""
    total = [0, *itertools.accumulate(costs)]

    def largest(bounds):
        loads = [total[end] - total[start] for start, end in itertools.pairwise(bounds)]
        return max(load / weight for load, weight in zip(loads, weights, strict=True))

    cuts = itertools.combinations_with_replacement(range(len(costs) + 1), len(weights) - 1)
    least = min(largest([0, *cut, len(costs)]) for cut in cuts)
    runs = weighted_runs(np.array(costs), np.array(weights))
    assert is_whole(tuple(map(tuple, runs)), len(costs))
    assert [run.start for run in runs[1:]] == [run.stop for run in runs[:-1]]
    assert largest([0, *(run.stop for run in runs)]) <= least * (1 + 1e-9)


def dealt(seed, n_shards, n_ranks):
    """Return an assignment drawn at random, of which some ranks have much."""
    generator = random.Random(seed)
    owners = [min(generator.randrange(n_ranks), generator.randrange(n_ranks)) for _ in range(n_shards)]
    return tuple(tuple(shard for shard, owner in enumerate(owners) if owner == rank) for rank in range(n_ranks))


@settings(max_examples=200)
@given(st.integers(0, 99), some_costs, paces)
def test_a_move_never_makes_the_last_end_later(seed, costs, pace):
    before = dealt(seed, len(costs), len(pace))
    after = rebalanced(before, costs, pace)
    assert is_whole(after, len(costs))
    assert max(ends_of(after, costs, pace)) <= max(ends_of(before, costs, pace)) * (1 + 1e-12)


def least_end(n_shards, pace):
    """When the last rank ends at the least, where each shard takes a rank its pace."""
    candidates = sorted(count * seconds for seconds in pace for count in range(n_shards + 1))
    return next(end for end in candidates if sum(math.floor(end / seconds + 1e-9) for seconds in pace) >= n_shards)


@settings(max_examples=200)
@given(st.integers(0, 99), st.integers(1, 40), paces)
def test_equal_shards_move_to_the_least_end_and_no_more_of_them_than_that_takes(seed, n_shards, pace):
    before = dealt(seed, n_shards, len(pace))
    after = rebalanced(before, [1] * n_shards, pace)
    end = max(ends_of(after, [1] * n_shards, pace))
    ideal = n_shards / sum(1 / seconds for seconds in pace)
    assert end <= max(least_end(n_shards, pace), NEAR * ideal) * (1 + 1e-9)
    over = [
        max(0, len(of_rank) - math.floor(end / seconds + 1e-9)) for of_rank, seconds in zip(before, pace, strict=True)
    ]
    assert n_moved(before, after)[0] == sum(over)  # each rank that ends later than that must give these


@pytest.mark.parametrize("n_ranks", [2, 3, 5, 64, 1024, 4096])
def test_thousands_of_unequal_ranks_end_together(n_ranks):
    costs = np.full(16 * n_ranks, 1000)
    pace = (1 / log_normal(n_ranks)).tolist()
    before = initial_assignment("contiguous", costs, n_ranks)
    after = rebalanced(before, costs.tolist(), pace)
    assert is_whole(after, costs.size)
    ideal = costs.sum() / sum(1 / seconds for seconds in pace)
    assert max(ends_of(after, costs.tolist(), pace)) <= (1 + 1 / 16) * ideal
    assert n_moved(before, after)[0] <= costs.size // 6


@given(st.integers(0, 99), st.integers(1, 30), st.integers(1, 6))
def test_what_has_moved_is_counted(seed, n_shards, n_ranks):
    before, after = dealt(seed, n_shards, n_ranks), dealt(seed + 100, n_shards, n_ranks)
    old, new = (
        {shard: rank for rank, of_rank in enumerate(assignment) for shard in of_rank} for assignment in (before, after)
    )
    moves = [(old[shard], new[shard]) for shard in range(n_shards) if old[shard] != new[shard]]
    gives = [sum(giver == rank for giver, _ in moves) for rank in range(n_ranks)]
    takes = [sum(taker == rank for _, taker in moves) for rank in range(n_ranks)]
    assert n_moved(before, after) == (len(moves), max(gives + takes))
