import math
import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distsoftmax.arithmetic.fixed_point import FixedPoint
from distsoftmax.cluster.assignment import owned_shards
from distsoftmax.cluster.communicator import Alone
from distsoftmax.cluster.exact_sum import ShardSum, bounded_sum, exact_sum
from distsoftmax.data.shards import default_n_shards, shard_bounds
from distsoftmax.errors import InputError


def summed(values):
    partials = [ShardSum(shard, np.array(value)) for shard, value in enumerate(values)]
    return float(exact_sum(partials, (), len(values), Alone()))


def true_sum(values):
    return sum((Fraction(value) for value in values), Fraction(0))


magnitudes = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300)


@given(st.lists(magnitudes, min_size=1, max_size=200))
@settings(max_examples=300, deadline=None)
def test_error_is_below_2_to_the_minus_53_of_the_magnitudes(values):
    error = abs(Fraction(summed(values)) - true_sum(values))
    total = sum(abs(Fraction(value)) for value in values)
    rounding_of_the_result = abs(true_sum(values)) * Fraction(1, 2**52) + Fraction(math.ulp(0.0))
    assert error <= total * Fraction(27, 10**18) + rounding_of_the_result


@given(st.lists(magnitudes, min_size=2, max_size=50), st.randoms())
@settings(max_examples=100, deadline=None)
def test_sum_does_not_depend_on_the_order(values, generator):
    shuffled = values[:]
    generator.shuffle(shuffled)
    assert summed(values) == summed(shuffled)


@pytest.mark.parametrize(
    "values",
    [
        [1e300, 1e-300, -1e300],
        [1e300, 1.0, -1e300, 2.0],
        [5e-324] * 7,
        [5e-324, -5e-324, 2.2250738585072014e-308],
        [0.0, -0.0],
        [1e16, 1.0, -1e16],
        [1.7e308, -1.7e308, 3.0],
    ],
    ids=str,
)
def test_adversarial_magnitudes_stay_within_the_bound(values):
    total = sum(abs(Fraction(value)) for value in values)
    assert abs(Fraction(summed(values)) - true_sum(values)) <= total * Fraction(27, 10**18) + Fraction(math.ulp(0.0))


def test_partials_over_18_decades_are_summed_30_times_closer_than_by_floats():
    generator = np.random.default_rng(1)
    values = (generator.standard_normal(4096) * 10.0 ** generator.uniform(-9, 9, 4096)).tolist()
    total = float(sum(abs(Fraction(value)) for value in values))
    ours = abs(float(Fraction(summed(values)) - true_sum(values)))
    assert ours / total < 2.8e-17
    assert summed(values) == math.fsum(values)


@pytest.mark.parametrize("bound", [1.0, 2.0**-900, 1e-280, 3e200])
def test_the_most_that_the_bound_allows_does_not_overflow(bound):
    fixed = FixedPoint(bound)
    total = sum(fixed.limbs(bound) for _ in range(3))  # three times the bound: more than rounding could ever add
    assert fixed.value(total) == 3 * bound


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_sum_that_is_not_finite_names_the_shard(bad):
    partials = [ShardSum(3, np.array([1.0, 2.0])), ShardSum(17, np.array([0.0, bad]))]
    with pytest.raises(InputError, match="shard 17"):
        exact_sum(partials, (2,), 64, Alone())


def test_sums_over_some_columns_are_those_over_all():
    generator = np.random.default_rng(2)
    spread = generator.standard_normal((6, 40)) * (generator.random((6, 40)) < 0.3)
    by_columns = [ShardSum(shard, row[np.flatnonzero(row)], np.flatnonzero(row)) for shard, row in enumerate(spread)]
    whole = [ShardSum(shard, row) for shard, row in enumerate(spread)]
    assert exact_sum(by_columns, (40,), 6, Alone()).tobytes() == exact_sum(whole, (40,), 6, Alone()).tobytes()


def test_bounded_sums_over_some_columns_of_a_matrix_are_those_over_all():
    generator = np.random.default_rng(3)
    spread = generator.standard_normal((6, 4, 40)) * (generator.random((6, 1, 40)) < 0.3)
    bound = np.abs(spread).sum(axis=(0, 1))
    by_columns = []
    for shard, matrix in enumerate(spread):
        columns = np.flatnonzero(matrix.any(axis=0))
        by_columns.append(ShardSum(shard, matrix[:, columns], columns))
    whole = [ShardSum(shard, matrix) for shard, matrix in enumerate(spread)]
    computed = bounded_sum(by_columns, bound, Alone(), (4, 40))
    assert computed.tobytes() == bounded_sum(whole, bound, Alone(), (4, 40)).tobytes()
    np.testing.assert_allclose(computed, spread.sum(axis=0), rtol=1e-12, atol=1e-15)


@given(st.integers(1, 300), st.integers(1, 200))
def test_every_shard_is_owned_once_and_evenly(n_ranks, n_shards):
    owned = [owned_shards(rank, n_ranks, n_shards) for rank in range(n_ranks)]
    assert [shard for shards in owned for shard in shards] == list(range(n_shards))
    sizes = [len(shards) for shards in owned]
    assert max(sizes) - min(sizes) <= 1


@given(st.integers(1, 10**12))
def test_default_shards_hold_rows_and_are_neither_few_nor_large(n_rows):
    n_shards = default_n_shards(n_rows)
    assert 1 <= n_shards <= n_rows
    assert n_shards >= min(n_rows, 16)
    assert n_shards >= 64 or n_rows < 64 * 1024
    assert -(-n_rows // n_shards) <= 16_384 or n_rows > 16_384 * n_shards - 16_384


@given(st.integers(0, 10_000), st.integers(1, 300))
def test_shard_bounds_cut_the_rows_evenly(n_rows, n_shards):
    bounds = shard_bounds(n_rows, n_shards)
    sizes = np.diff(bounds)
    assert bounds[0] == 0
    assert bounds[-1] == n_rows
    assert sizes.min() >= 0
    assert sizes.max() - sizes.min() <= 1


@given(st.integers(0, 10**15), st.integers(1, 2**20))
@settings(max_examples=20, deadline=None)
def test_shard_bounds_are_right_for_more_rows_than_32_bits_count(n_rows, n_shards):
    bounds = shard_bounds(n_rows, n_shards)
    for shard in {0, 1, n_shards // 3, n_shards - 1, n_shards}:
        assert int(bounds[shard]) == shard * n_rows // n_shards


def test_shuffled_threads_of_partials_add_to_the_same_integers():
    generator = np.random.default_rng(0)
    partials = generator.standard_normal((64, 5, 7))
    fixed = FixedPoint(np.abs(partials).sum(axis=0))
    results = []
    for seed in range(3):
        order = list(range(64))
        random.Random(seed).shuffle(order)
        total = np.zeros((2, 5, 7), dtype=np.int64)
        for shard in order:
            total += fixed.limbs(partials[shard])
        results.append(fixed.value(total).tobytes())
    assert len(set(results)) == 1
    np.testing.assert_allclose(np.frombuffer(results[0]).reshape(5, 7), partials.sum(axis=0), rtol=1e-13, atol=1e-14)
