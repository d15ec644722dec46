"""Numbers as int64: scaled by a power of two that is agreed on beforehand, rounded once, and added as integers.

Integer addition does not depend on its order, so a sum of such numbers is the same on any number of ranks.

The idea is that of reproducible summation by pre-rounding: J. Demmel and H. D. Nguyen, "Parallel Reproducible
Summation", IEEE Transactions on Computers 64(7), 2015, with an integer for their bins.
"""

from __future__ import annotations

from types import EllipsisType
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from distsoftmax.arithmetic.arrays import Doubles, Integers

Position: TypeAlias = "EllipsisType | tuple[EllipsisType, Integers]"  # all, or some of the last axis

FIRST_LIMB_BITS = 60  # sums stay below 2^60 by the bound, with room for a bound that rounding made too small
SECOND_LIMB_BITS = 40  # a remainder is at most 1/2, so the remainders of 2^22 shards fit
LARGEST_VALUE = 1e140  # of a feature: its square, times twice the largest, times any number of samples, is finite
LARGEST_SHIFT = 1000  # 2^1000 and 2^-1000 are ordinary float64; a column whose bound is below 2^-940 loses low bits


class FixedPoint:
    """Numbers as int64, each with its own power of two, `scale`.

    The first *limb* is the number times `scale`, rounded to an integer; the second, where there is one, what that
    rounding left over.

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
        exponent = np.frexp(np.asarray(bound, dtype=np.float64))[1].astype(np.int64)
        self.shift = np.minimum(np.maximum(FIRST_LIMB_BITS - exponent, -LARGEST_SHIFT), LARGEST_SHIFT)
        self.scale = _power_of_two(self.shift)
        self.inverse_scale = _power_of_two(-self.shift)

    def limbs(self, partial: ArrayLike, position: Position = ...) -> Integers:
        """Return a finite partial as two limbs, shape (2, ...); `position` is where it stands among the numbers."""
        scaled = np.multiply(partial, self.scale[position])
        first = np.rint(scaled)
        second = np.rint((scaled - first) * 2.0**SECOND_LIMB_BITS)  # the difference is exact
        return np.stack([first, second]).astype(np.int64)

    def value(self, limbs: Integers) -> Doubles:
        """Return summed limbs, (2, ...), or the first alone, (1, ...), as float64."""
        numbers: Doubles = limbs[0].astype(np.float64)
        if len(limbs) > 1:
            numbers += limbs[1] * 2.0**-SECOND_LIMB_BITS
        numbers *= self.inverse_scale
        return numbers


def _power_of_two(exponent: Integers) -> Doubles:
    """Return 2^exponent, from its bits; exponents are those of normal numbers."""
    return ((exponent + 1023) << 52).view(np.float64)
