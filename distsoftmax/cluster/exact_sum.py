"""Sums over shards that do not depend on their order: fixed-point int64, added by machine integers.

Floating-point addition is not associative, so a sum over ranks would depend on how the shards are spread over them.
Integer addition is. Each partial sum (float64) is scaled by a power of two all ranks agree on and rounded once to
int64, the first *limb*; what the rounding left over may go into a second limb. The scale leaves room for the sum of
the magnitudes of all partials, so no order of additions can overflow.

The idea is that of reproducible summation by pre-rounding: J. Demmel and H. D. Nguyen, "Parallel Reproducible
Summation", IEEE Transactions on Computers 64(7), 2015, with an integer for their bins.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import EllipsisType
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from distsoftmax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from distsoftmax.cluster.communicator import Cluster

Place: TypeAlias = "NDArray[np.int64] | int | EllipsisType"

FIRST_LIMB_BITS = 60  # sums stay below 2^60 by the bound, with room for a bound that rounding made too small
SECOND_LIMB_BITS = 40  # a remainder is at most 1/2, so 2^22 shards fit
LARGEST_VALUE = 1e140  # of a feature: its square, times twice the largest, times any number of samples, is finite
LARGEST_SHIFT = 1000  # 2^1000 and 2^-1000 are ordinary float64; a column whose bound is below 2^-940 loses low bits


class FixedPoint:
    """Numbers as int64, each with its own power of two, `scale`.

    Parameters
    ----------
    bound : array_like of float64
        For each number, a bound on the sum over all shards of the partials' magnitudes. Finite, 0 or more.

    Notes
    -----
    Each partial is rounded once, so a sum over S shards is off by at most S/2 units of 2^-60 of the bound (made
    a power of two) with one limb, and by 2^-40 of that with two.
    """

    def __init__(self, bound: ArrayLike) -> None:
        _, exponent = np.frexp(np.asarray(bound, dtype=np.float64))
        self.shift = np.clip(FIRST_LIMB_BITS - exponent.astype(np.int64), -LARGEST_SHIFT, LARGEST_SHIFT)
        self.scale = np.ldexp(1.0, self.shift)
        self.inverse_scale = np.ldexp(1.0, -self.shift)

    def error(self, n_shards: int) -> float:
        """Return how far a sum of two limbs over so many shards may be off, at most."""
        return float(np.ldexp(n_shards / 2 * 2.0**-SECOND_LIMB_BITS, -int(np.min(self.shift))))

    def limbs(self, partial: ArrayLike, place: Place = ...) -> NDArray[np.int64]:
        """Return a finite partial as two limbs, shape (2, ...); `place` is where it stands among the numbers."""
        scaled = np.multiply(partial, self.scale[place])
        first = np.rint(scaled)
        second = np.rint((scaled - first) * 2.0**SECOND_LIMB_BITS)  # the difference is exact
        return np.stack([first, second]).astype(np.int64)

    def value(self, first: NDArray[np.int64], second: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """Return summed limbs as float64."""
        result: NDArray[np.float64] = first.astype(np.float64)
        if second is not None:
            result += second * 2.0**-SECOND_LIMB_BITS
        return np.ldexp(result, -self.shift)


@dataclass(frozen=True)
class ShardSum:
    """A shard's partial sum: of the whole shape, or of some columns of a vector, 0 elsewhere."""

    shard: int
    values: NDArray[np.float64]
    columns: NDArray[np.int64] | None = None

    @property
    def place(self) -> NDArray[np.int64] | EllipsisType:
        """Where the values stand in the sum."""
        return ... if self.columns is None else self.columns


def exact_sum(
    partials: Iterable[ShardSum], shape: tuple[int, ...], n_shards: int, cluster: Cluster
) -> NDArray[np.float64]:
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
            largest[partial.place] = np.maximum(largest[partial.place], np.abs(partial.values))
    cluster.maximum(largest)
    # Bring every element near 1 first, in two exact halves, so that neither 1e300 nor a denormal leaves the range.
    _, exponent = np.frexp(largest)
    half = -exponent // 2
    rest = -exponent - half
    fixed = FixedPoint(np.full(shape, float(n_shards)))
    total = np.zeros((2, *shape), dtype=np.int64)
    for partial in own:
        place = partial.place
        near_one = np.ldexp(np.ldexp(partial.values, half[place]), rest[place])
        total[(slice(None), place)] += fixed.limbs(near_one, place)
    cluster.sum_integers(total)
    result: NDArray[np.float64] = np.ldexp(np.ldexp(fixed.value(total[0], total[1]), -half), -rest)
    if not np.isfinite(result).all():
        raise InputError("a sum over all samples is beyond the range of float64; rescale the data").on_all_ranks()
    return result


def bounded_sum(partials: Iterable[ShardSum], bound: NDArray[np.float64], cluster: Cluster) -> NDArray[np.float64]:
    """Sum one float64 array a shard, of which a bound is known; no partial is kept. The same bits however spread.

    Collective.

    Parameters
    ----------
    partials : iterable of ShardSum
        This rank's shards and their partial sums. May be empty.
    bound : ndarray of float64
        For each number, a bound on the sum of the partials' magnitudes, the same on every rank. Finite.

    Raises
    ------
    InputError
        On every rank: naming the first shard with NaN or an infinity in its partial sum.
    """
    fixed = FixedPoint(bound)
    total = np.zeros((2, *bound.shape), dtype=np.int64)
    with cluster.agreement():
        for partial in partials:
            _check_finite(partial)
            total[(slice(None), partial.place)] += fixed.limbs(partial.values, partial.place)
    cluster.sum_integers(total)
    return fixed.value(total[0], total[1])


def _check_finite(partial: ShardSum) -> None:
    if not np.isfinite(partial.values).all():
        raise InputError(
            f"shard {partial.shard}: a sum over its samples is not finite; look for values beyond {LARGEST_VALUE:g} or "
            "NaN in it"
        )
