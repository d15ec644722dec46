"""Sums over shards that do not depend on their order: fixed-point int64, added by machine integers.

Floating-point addition is not associative, so a sum over ranks would depend on how the shards are spread over them.
Integer addition is. Each partial sum (float64) is scaled by a power of two all ranks agree on and rounded once to
int64; what the rounding left over goes into a second one (`arithmetic/fixed_point.py`). The scale leaves room for the
sum of the magnitudes of all partials, so no order of additions can overflow.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from distsoftmax.arithmetic.arrays import Doubles, Integers
from distsoftmax.arithmetic.fixed_point import LARGEST_VALUE, FixedPoint, Position
from distsoftmax.cluster.communicator import Communicator
from distsoftmax.errors import InputError


@dataclass(frozen=True)
class ShardSum:
    """A shard's partial sum: of the whole shape, or of some columns (the last axis), 0 elsewhere."""

    shard: int
    values: Doubles
    columns: Integers | None = None

    @property
    def position(self) -> Position:
        """Where the values stand in the sum."""
        return ... if self.columns is None else (..., self.columns)


def exact_sum(partials: Iterable[ShardSum], shape: tuple[int, ...], n_shards: int, cluster: Communicator) -> Doubles:
    """Sum one float64 array a shard over all shards of all ranks: the same bits however they are spread.

    Collective. For small sums of which no bound is known beforehand: the ranks first agree on the largest magnitude,
    so each keeps its partials for so long. See `bounded_sum`.

    Parameters
    ----------
    partials : iterable of ShardSum
        This rank's shards and their partial sums, each of `shape`. May be empty.
    shape : tuple of int
    n_shards : int
        The number of shards on all ranks together.

    Raises
    ------
    InputError
        On every rank: naming the first shard with NaN or an infinity in its partial sum; or the sum itself is beyond
        float64.
    """
    own: list[ShardSum] = []
    largest = np.zeros(shape)
    with cluster.agreement():
        for partial in partials:
            own.append(partial)
            _check_finite(partial)
            largest[partial.position] = np.maximum(largest[partial.position], np.abs(partial.values))
    cluster.maximum(largest)
    # Bring every element near 1 first, in two exact halves, so that neither 1e300 nor a denormal leaves the range.
    _, exponent = np.frexp(largest)
    half = -exponent // 2
    rest = -exponent - half
    fixed = FixedPoint(np.full(shape, float(n_shards)))
    total = np.zeros((2, *shape), dtype=np.int64)
    for partial in own:
        position = partial.position
        near_one = np.ldexp(np.ldexp(partial.values, half[position]), rest[position])
        total[position] += fixed.limbs(near_one, position)
    cluster.sum_integers(total)
    result: Doubles = np.ldexp(np.ldexp(fixed.value(total), -half), -rest)
    if not np.isfinite(result).all():
        raise InputError("a sum over all samples is beyond the range of float64; rescale the data").on_all_ranks()
    return result


def bounded_sum(
    partials: Iterable[ShardSum], bound: Doubles, cluster: Communicator, shape: tuple[int, ...] | None = None
) -> Doubles:
    """Sum one float64 array a shard, of which a bound is known; no partial is kept. The same bits however spread.

    Collective.

    Parameters
    ----------
    partials : iterable of ShardSum
        This rank's shards and their partial sums. May be empty.
    bound : ndarray of float64
        For each number, a bound on the sum of the partials' magnitudes, the same on every rank. Finite.
    shape : tuple of int, optional
        Of the sum, which the bound broadcasts to; by default the bound's.

    Raises
    ------
    InputError
        On every rank: naming the first shard with NaN or an infinity in its partial sum.
    """
    fixed = FixedPoint(bound)
    total = np.zeros((2, *(bound.shape if shape is None else shape)), dtype=np.int64)
    with cluster.agreement():
        for partial in partials:
            _check_finite(partial)
            total[partial.position] += fixed.limbs(partial.values, partial.position)
    cluster.sum_integers(total)
    return fixed.value(total)


def _check_finite(partial: ShardSum) -> None:
    if not np.isfinite(partial.values).all():
        raise InputError(
            f"shard {partial.shard}: a sum over its samples is not finite; look for values beyond {LARGEST_VALUE:g} or "
            "NaN in it"
        )
