"""Arithmetic that rounds outwards: bounds on exact sums and norms, from those that float64 computes.

u = 2^-53, and gamma(n) = n u / (1 - n u) bounds the relative error of n roundings, in any order and of either kind
(N. J. Higham, "Accuracy and Stability of Numerical Algorithms", 2nd edition, 2002, lemma 3.1). A sum of numbers that
are not negative is off by gamma of the additions that each of them goes through.
"""

from __future__ import annotations

import math

import numpy as np

from distsoftmax.arithmetic.arrays import Doubles
from distsoftmax.arithmetic.parameters import column_norms, product, squared_norm

UNIT = 2.0**-53
ROOM = 1.01  # a factor for the rounding of the bounds themselves


def gamma(n: int) -> float:
    """Return a bound on the relative error of n roundings; inf where there is none."""
    return ROOM * n * UNIT / (1 - n * UNIT) if n * UNIT < 0.5 else math.inf


def relative_error_of_sums(values: Doubles) -> float:
    """Bound the relative error of a sum over an array of products that are not negative, and twice that for safety.

    `arithmetic.parameters` adds row by row, in 32 chains and a tree, or each column in a chain.
    """
    return 2 * gamma(values.size // 32 + 2 * len(values) + 64)


def room_for_sums(values: Doubles) -> float:
    """Return a factor for what such a sum may have lost."""
    return 1 + relative_error_of_sums(values)


def bound_norm(values: Doubles) -> float:
    """Return a number that the Euclidean norm is not above, whatever has underflowed."""
    return math.sqrt(squared_norm(values) + values.size * 2.0**-1070) * room_for_sums(values)


def column_lengths(values: Doubles) -> Doubles:
    """Return the Euclidean norms of the columns, with room for squares that underflow."""
    lengths: Doubles = column_norms(values) + 2.0**-520
    return lengths


def column_sums(values: Doubles) -> Doubles:
    """Return the sum of each column: one chain of additions, row by row."""
    sums: Doubles = product(np.ones((1, len(values))), values)[0]
    return sums


def largest_by_column(values: Doubles) -> Doubles:
    """Return the largest magnitude of each column."""
    largest: Doubles = np.maximum(values.max(axis=0), -values.min(axis=0))
    return largest
