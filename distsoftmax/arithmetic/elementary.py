"""exp and log in float64: fixed polynomials, with the same bits on every machine, and proven bounds of their errors.

SPECIFICATION.md lists their operations. The kernels' softmax takes exp and log from the same sources,
core/elementary.h, in float32 as well. The bounds below are proven by tests/unit/elementary_bounds.py, for all numbers
of the domain and not only for those tried.
"""

from __future__ import annotations

from typing import overload

import numpy as np

from distsoftmax.arithmetic.arrays import Doubles
from distsoftmax.arithmetic.library import address, function

# |exp(x) computed - e^x| <= EXP_ERROR e^x for x in [-708, 709]: elementary_bounds.exp_bound, 1.3008 * 2^-53, rounded up
EXP_ERROR = 1.302 * 2.0**-53
# the same of the kernels' float32 exp for x in [-87, 88]: exp_bound, 1.3171 * 2^-24, rounded up
EXP_ERROR_F32 = 1.318 * 2.0**-24
# |log(x) computed - log x| <= LOG_ERROR |log x| for positive x: elementary_bounds.log_bound, 1.5923 * 2^-53, rounded up
LOG_ERROR = 1.594 * 2.0**-53


@overload
def exp(x: float) -> float: ...
@overload
def exp(x: Doubles) -> Doubles: ...
def exp(x: float | Doubles) -> float | Doubles:
    """Return e^x, of a number or of each element: within EXP_ERROR of the truth for x in [-708, 709].

    exp(0) is 1. A result below 2^-1022 is rounded to a denormal number once more. 0 for -inf and below about -745.13,
    inf above about 709.78, NaN for NaN.

    Parameters
    ----------
    x : float or ndarray of float64, any shape
    """
    return _apply("ds_exp", x)


@overload
def log(x: float) -> float: ...
@overload
def log(x: Doubles) -> Doubles: ...
def log(x: float | Doubles) -> float | Doubles:
    """Return the natural logarithm, of a number or of each element: within LOG_ERROR of the truth for positive x.

    log(1) is 0. -inf for 0 and -0, inf for inf, NaN for NaN and for what is negative. Nothing is raised or warned of.

    Parameters
    ----------
    x : float or ndarray of float64, any shape
    """
    return _apply("ds_log", x)


def _apply(name: str, x: float | Doubles) -> float | Doubles:
    if not isinstance(x, np.ndarray):
        return float(function(name, "x", "x")(x))
    if x.dtype != np.float64:
        raise ValueError(f"{name.removeprefix('ds_')} takes an array of float64, not of {x.dtype}")
    x = x if x.flags.c_contiguous else x.copy()
    result = np.empty_like(x)
    function(name + "_f64", "npp")(x.size, address(x), address(result))
    return result
