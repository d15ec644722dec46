"""Proofs: bounds of the relative errors of exp and log, by interval arithmetic on exact rationals.

Every number of the reduced range lies in one of many short intervals. In each, the distance of the polynomial from the
function is bounded by Taylor expansions with their remainders, and every operation adds what its rounding can add. All
of it is exact or rounded outward, so what is returned is a bound for all numbers, not an estimate. The constants are
those of oracle.py, which agrees with the compiled core to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import pairwise

import oracle

GRID = 2**200  # the ends of intervals are rounded outward to multiples of 1 / GRID
EXP_DOMAIN = {"float32": (-87, 88), "float64": (-708, 709)}
EXP_INTERVALS = 256  # intervals that cover the reduced range of exp
LOG_INTERVALS = 64  # intervals of m on either side of 1, besides those close to it


@dataclass(frozen=True)
class Interval:
    """All numbers from low to high."""

    low: Fraction
    high: Fraction

    @staticmethod
    def of(low: Fraction | int | float, high: Fraction | int | float) -> Interval:
        return Interval(
            Fraction(math.floor(Fraction(low) * GRID), GRID), Fraction(math.ceil(Fraction(high) * GRID), GRID)
        )

    @staticmethod
    def around(other: Interval | Fraction | int | float) -> Interval:
        return other if isinstance(other, Interval) else Interval.of(other, other)

    def __add__(self, other):
        other = Interval.around(other)
        return Interval(self.low + other.low, self.high + other.high)

    def __neg__(self):
        return Interval(-self.high, -self.low)

    def __sub__(self, other):
        return self + -Interval.around(other)

    def __mul__(self, other):
        other = Interval.around(other)
        ends = [a * b for a in (self.low, self.high) for b in (other.low, other.high)]
        return Interval.of(min(ends), max(ends))

    def __truediv__(self, other):
        other = Interval.around(other)
        if other.low <= 0 <= other.high:
            raise ZeroDivisionError("the divisor may be 0")
        return self * Interval.of(1 / other.high, 1 / other.low)

    def widened(self, error: Fraction) -> Interval:
        """Return the interval of all numbers within an error of its own."""
        return Interval.of(self.low - error, self.high + error)

    @property
    def largest(self) -> Fraction:
        """The largest magnitude."""
        return max(abs(self.low), abs(self.high))

    @property
    def least(self) -> Fraction:
        """The least magnitude."""
        return Fraction(0) if self.low <= 0 <= self.high else min(abs(self.low), abs(self.high))


# --- what rounding adds, and functions as intervals ---


def half_unit(largest: Fraction, kind: str) -> Fraction:
    """Return the most that rounding a number of at most this magnitude changes it.

    Just above a power of 2 that is more than half a unit of what is below it by no more than the distance from it.
    """
    exponent = math.frexp(float(largest))[1] + 1
    while Fraction(2) ** exponent > largest:
        exponent -= 1
    least = Fraction(2) ** (oracle.LEAST_EXPONENT[kind] - 1)
    below = Fraction(2) ** (exponent - oracle.PRECISION[kind] - 1)
    return max(below, min(2 * below, largest - Fraction(2) ** exponent), least)


@cache
def log_of_two() -> Interval:
    """log 2 = 2 atanh(1/3) = the sum of 2 / ((2 k + 1) 3^(2 k + 1))."""
    terms = sum(Fraction(2, (2 * k + 1) * 3 ** (2 * k + 1)) for k in range(90))
    return Interval.of(terms, terms + Fraction(1, 3**180))


def exp_of(x: Fraction) -> Interval:
    """Return e^x for |x| <= 1/2, by Taylor's series: the terms from x^30 on are less than 2 |x|^30 / 30!."""
    terms = sum(x**k / math.factorial(k) for k in range(30))
    rest = 2 * abs(x) ** 30 / math.factorial(30)
    return Interval.of(terms - rest, terms + rest)


@cache
def log_of(m: Fraction) -> Interval:
    """Return log m for m in [2/3, 3/2], as 2 atanh(s), s = (m - 1) / (m + 1), |s| <= 1/5."""
    s = (m - 1) / (m + 1)
    terms = sum(2 * s ** (2 * k + 1) / (2 * k + 1) for k in range(30))
    rest = 2 * abs(s) ** 61
    return Interval.of(terms - rest, terms + rest)


def polynomial_largest(coefficients: list[Fraction], centre: Fraction, radius: Fraction) -> Fraction:
    """Return a bound of |sum of c_k x^k| for |x - centre| <= radius, from the expansion about the centre."""
    shifted = list(coefficients)  # Horner's scheme, again and again, shifts a polynomial
    for start in range(len(shifted) - 1):
        for k in range(len(shifted) - 2, start - 1, -1):
            shifted[k] += centre * shifted[k + 1]
    return sum((abs(c) * radius**k for k, c in enumerate(shifted)), Fraction(0))


def horner_with_error(x: Interval, coefficients: tuple[float, ...], kind: str) -> tuple[Interval, Fraction]:
    """Return the range of Horner's scheme in fused multiply-adds, at a number given exactly, and its rounding error."""
    value, error = Interval.around(coefficients[0]), Fraction(0)
    for c in coefficients[1:]:
        value = x * value + c
        error = x.largest * error  # of x times the computed value, exactly
        error += half_unit(value.widened(error).largest, kind)
    return value, error


# --- exp ---


@dataclass(frozen=True)
class Reduction:
    """What the reduction of exp's argument leaves: |r| <= largest, and |r - (x - n log 2)| <= error."""

    largest: Fraction
    error: Fraction


def exp_reduction(kind: str) -> Reduction:
    """Bound the reduced argument over the domain of exp, and how far it is from x - n log 2."""
    log2_e, rounder = Fraction(oracle.LOG2_E[kind]), Fraction(oracle.ROUNDER[kind])
    high, low = (Fraction(part) for part in oracle.LOG_2[kind])
    x_largest = max(abs(end) for end in EXP_DOMAIN[kind])
    n_largest = math.ceil(x_largest * log2_e + Fraction(1, 2))
    # the sum with the rounder lies where numbers are the integers, so n is the integer nearest to x * log2_e
    assert 2 ** (oracle.PRECISION[kind] - 1) + n_largest < rounder < 2 ** oracle.PRECISION[kind] - n_largest
    distance = 1 / (2 * log2_e) + n_largest * (Interval.around(1 / log2_e) - log_of_two()).largest  # of x and n log 2
    # x - n high is exact. For n = 0 it is x. Else |x| > 1/4, and x and n high are multiples of unit, as are all of 1/2
    unit = Fraction(1, 4) / 2 ** (oracle.PRECISION[kind] - 1)
    assert 1 / (2 * log2_e) > Fraction(1, 4)
    assert high % unit == 0
    assert distance + n_largest * (log_of_two() - high).largest <= Fraction(1, 2)
    assert Fraction(1, 2) / unit <= 2 ** oracle.PRECISION[kind]
    left_out = n_largest * (log_of_two() - high - low).largest
    error = left_out + half_unit(distance + left_out, kind)
    return Reduction(distance + error, error)


def exp_bound(kind: str) -> Fraction:
    """Return a bound of the relative error of exp for all x of its domain."""
    reduction = exp_reduction(kind)
    coefficients = oracle.EXP[kind]
    degree = 24  # of the Taylor polynomial that stands for e^r
    distance = [Fraction(c) for c in reversed(coefficients)] + [Fraction(0)] * (degree + 1 - len(coefficients))
    distance = [c - Fraction(1, math.factorial(k)) for k, c in enumerate(distance)]
    taylor_rest = 2 * reduction.largest ** (degree + 1) / math.factorial(degree + 1)
    # e^r differs from e^(x - n log 2) by the factor e^d, |d| <= reduction.error
    factor = reduction.error + reduction.error**2
    worst = Fraction(0)
    radius = Fraction(math.ceil(reduction.largest * 2**80 / EXP_INTERVALS), 2**80)
    for i in range(EXP_INTERVALS):
        centre = (2 * i + 1 - EXP_INTERVALS) * radius
        r = Interval.of(centre - radius, centre + radius)
        _, rounding = horner_with_error(r, coefficients, kind)
        approximation = polynomial_largest(distance, centre, radius) + taylor_rest
        # relative to e^r, then to e^(x - n log 2)
        error = (rounding + approximation) / exp_of(r.low).low
        worst = max(worst, error * (1 + factor) + factor)
    # the product with 2^n is exact: it is neither denormal nor too large
    least, largest = EXP_DOMAIN[kind]
    smallest_normal = oracle.LEAST_EXPONENT[kind] + oracle.PRECISION[kind] - 1
    assert least > smallest_normal * log_of_two().low + 2 * worst
    assert largest < oracle.OVERFLOW_EXPONENT[kind] * log_of_two().low - 2 * worst
    return worst


# --- log ---


@dataclass(frozen=True)
class LogTerms:
    """Of log m = f - s (f - z L(z)) for the m of an interval, f = m - 1: error of the product as computed, over |f|."""

    f: Interval
    log: Interval
    product: Fraction  # the largest
    error: Fraction


def log_terms(m: Interval) -> LogTerms:
    """Bound the error of s * tail, relative to |f|, for m in an interval."""
    kind, unit = "float64", Fraction(1, 2**53)
    f = m - 1
    s = f / (f + 2)  # and the same over f
    s_over_f = Interval.around(1) / (f + 2)
    s_error = (1 + unit) / (1 - unit) - 1  # relative: a sum and a quotient are rounded
    z = Interval.of(s.least**2, s.largest**2)
    z_error = (1 + s_error) ** 2 * (1 + unit) - 1
    # L(z) = the sum of 2 / (2 k + 3) z^k, and how far the polynomial is from it
    degree = 30
    series = [Fraction(2, 2 * k + 3) for k in range(degree + 1)]
    series_rest = z.largest ** (degree + 1)
    distance = [Fraction(c) for c in reversed(oracle.LOG)] + [Fraction(0)] * (degree + 1 - len(oracle.LOG))
    distance = [c - term for c, term in zip(distance, series, strict=True)]
    centre, radius = (z.low + z.high) / 2, (z.high - z.low) / 2
    approximation = polynomial_largest(distance, centre, radius) + series_rest
    computed_z = Interval.of(z.low * (1 - z_error), z.high * (1 + z_error))
    value, rounding = horner_with_error(computed_z, oracle.LOG, kind)
    slope = sum(k * abs(Fraction(c)) * computed_z.largest ** (k - 1) for k, c in enumerate(reversed(oracle.LOG)) if k)
    p_error = rounding + approximation + slope * z.largest * z_error
    p = value.widened(p_error)
    # everything over |f|: tail = f - z L(z), and z over |f| is |f| / (2 + f)^2
    z_over_f = f * s_over_f * s_over_f
    tail = Interval.around(1) - z_over_f * p
    product_error = z_over_f.largest * (p.largest * z_error + p_error * (1 + z_error))
    tail_error = product_error * (1 + unit) + unit * tail.largest
    error = s.largest * ((tail.largest + tail_error) * (1 + s_error) - tail.largest)
    return LogTerms(f, Interval(log_of(m.low).low, log_of(m.high).high), s.largest * tail.largest * f.largest, error)


def log_error(terms: LogTerms, nearest: int, farthest: int) -> Fraction:
    """Bound the relative error of log(2^k m) for nearest <= |k| <= farthest, k of the sign of farthest."""
    kind = "float64"
    high, low = (Fraction(part) for part in oracle.LOG_2[kind])
    grid = Fraction(oracle.SPLITTER) / 3 / 2**52 * 2  # the sum with the splitter is a multiple of it
    sign = 1 if farthest > 0 else -1
    k = Interval.of(*sorted((sign * nearest, farthest)))
    # k high + f_high is exact: both are multiples of high's last bit, and below 2^53 of these
    assert grid % Fraction(1, 2**42) == 0
    assert high % Fraction(1, 2**42) == 0
    assert (k.largest * high + 1) * 2**42 <= 2**53
    small = (k * low).largest + grid / 2  # k low + (f - f_high)
    error = k.largest * (log_of_two() - high - low).largest + half_unit(small, kind)
    error += terms.error * terms.f.largest
    error += half_unit(small + terms.product + error, kind)
    least = (log_of_two() * (sign * nearest) + terms.log).least
    largest = (log_of_two() * farthest + terms.log).largest
    if nearest == abs(farthest):
        return (error + half_unit(largest + error, kind)) / least
    return error / least + (1 + error / least) / 2**53


def log_error_near_one(terms: LogTerms) -> Fraction:
    """Bound the relative error of log m: k = 0 adds nothing, and the last rounding is relative to the result."""
    unit = Fraction(1, 2**53)
    grid = Fraction(oracle.SPLITTER) / 3 / 2**52 * 2
    relative = terms.error / log_over_f(terms.f.high)
    if terms.f.largest <= grid / 2:  # f_high is 0: the second term is rounded, and nothing after it
        return relative + unit * (1 + relative)
    assert terms.f.least >= grid / 2
    approximate = relative * terms.log.largest
    small = half_unit(grid / 2 + terms.product + approximate, "float64")
    if terms.f.largest <= grid:  # f_high is 1 or -1 times grid, and small has the other sign
        # where small is at least grid / 2, the sum is exact (P. H. Sterbenz, Floating-point computation, 1974, 4.3)
        return max(
            (approximate + small) / terms.log.least,
            with_last_rounding(terms, approximate + half_unit(grid / 2, "float64")),
        )
    return with_last_rounding(terms, approximate + small)


def with_last_rounding(terms: LogTerms, absolute: Fraction) -> Fraction:
    """Bound the relative error of log m, the last sum's rounding included, from the absolute error before it."""
    relative = absolute / terms.log.least
    rounding = half_unit(terms.log.largest + absolute, "float64") / terms.log.least
    return relative + min(rounding, (1 + relative) / 2**53)


def log_over_f(f: Fraction) -> Fraction:
    """Return a lower bound of log(1 + f) / f, which falls as f grows."""
    return Fraction(1) if f == 0 else (log_of(1 + f) / f).low


def log_intervals() -> Iterator[Interval]:
    """Yield intervals of m that cover [sqrt(1/2), sqrt(2)], the shorter the nearer to 1, where errors are relative."""
    for sign, limit in ((-1, 1 - Fraction(oracle.ROOT_HALF)), (1, 2 * Fraction(oracle.ROOT_HALF) - 1)):
        ends = [Fraction(0), *(Fraction(1, 2**j) for j in range(27, 4, -1))]
        ends = [ends[0], *(a + (b - a) * i / 4 for a, b in pairwise(ends[1:]) for i in range(4))]
        ends += [ends[-1] + (limit - ends[-1]) * i / LOG_INTERVALS for i in range(LOG_INTERVALS + 1)]
        for a, b in pairwise(ends):
            if a != b:
                yield Interval.of(1 + min(sign * a, sign * b), 1 + max(sign * a, sign * b))


def log_bound() -> Fraction:
    """Return a bound of the relative error of log for all positive numbers, denormal ones included."""
    exponents = (1, 1), (1, -1), (2, 2), (2, -2), (3, 1075), (3, -1075)  # k, from the nearest to the farthest
    return max(
        max(log_error_near_one(terms), *(log_error(terms, *k) for k in exponents))
        for terms in map(log_terms, log_intervals())
    )
