"""Tails and quantiles of the normal and the chi-square distribution, by scipy's special functions.

They are rounded to 12 digits, which hides what versions of scipy and of libm differ by. They are shown, and nothing is
computed from them but the ends of the confidence intervals.
"""

from __future__ import annotations

import numpy as np

from distsoftmax.arithmetic.arrays import Doubles

DIGITS = 12


def two_sided(z: Doubles) -> Doubles:
    """Return the probability that a standard normal number is as far from 0, any shape."""
    from scipy.special import ndtr

    return _rounded(2 * ndtr(-np.abs(z)))


def normal_quantile(confidence: float) -> float:
    """Return the number that a standard normal one is within, up to its sign, with a probability."""
    from scipy.special import ndtri

    return float(_rounded(np.array(-ndtri((1 - confidence) / 2))))


def chi_square_tail(statistic: float, degrees: int) -> float:
    """Return the probability that a chi-square number with so many degrees of freedom is larger."""
    from scipy.special import chdtrc

    return float(_rounded(np.array(chdtrc(degrees, max(statistic, 0.0)))))


def _rounded(numbers: Doubles) -> Doubles:
    texts = [f"{number:.{DIGITS}g}" for number in numbers.ravel().tolist()]
    return np.array(texts, dtype=np.float64).reshape(numbers.shape)
