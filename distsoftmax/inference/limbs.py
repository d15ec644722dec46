"""Large sums as integers, a few numbers at a time: what is on the way must not be as large as the sum."""

from __future__ import annotations

from distsoftmax.arithmetic.arrays import Doubles, Integers
from distsoftmax.arithmetic.fixed_point import FixedPoint

ROOM = 1.01  # for the rounding of a bound
AT_ONCE = 1 << 16  # numbers


def add_limbs(sums: Integers, fixed: FixedPoint, partial: Doubles) -> None:
    """Add an array to sums, int64, (2, ...), with as many numbers; the bound is one number."""
    first, flat = sums.reshape(2, -1), partial.reshape(-1)
    for start in range(0, flat.size, AT_ONCE):
        block = slice(start, start + AT_ONCE)
        first[:, block] += fixed.limbs(flat[block])
