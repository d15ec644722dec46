"""A slow oracle: every operation of the arithmetic by exact rationals, rounded once to the nearest, ties to even.

It follows the prose of SPECIFICATION.md and imports nothing of the package. Numbers are Python floats, also those of
type float32, and kind is "float32" or "float64":

>>> fma(1 + 2.0**-30, 1 - 2.0**-30, -1.0, "float64") == -(2.0**-60)
True
>>> add(1.0, 2.0**-24, "float32"), add(1.0, 2.0**-24, "float64") == 1.0
(1.0, False)

NaN, infinities, the signs of zeros, denormal results and overflow are as IEEE 754 has them.
"""

import math
from collections.abc import Iterable
from fractions import Fraction

PRECISION = {"float32": 24, "float64": 53}  # bits of the significand
LEAST_EXPONENT = {"float32": -149, "float64": -1074}  # of the least denormal number
OVERFLOW_EXPONENT = {"float32": 128, "float64": 1024}  # 2 to this power is too large


# --- rounding, and single operations ---


def rounded(exact: Fraction, kind: str) -> float:
    """Return the number of a kind nearest to a rational. 0 gives +0; what is too large gives infinity."""
    numerator, denominator = abs(exact.numerator), exact.denominator
    if numerator == 0:
        return 0.0
    # exponent of the last bit kept: of a quotient of one bit more than needed, or of the one needed
    last = max(numerator.bit_length() - denominator.bit_length() - PRECISION[kind], LEAST_EXPONENT[kind])
    units = _units(numerator, denominator, last)
    if units > 1 << PRECISION[kind]:
        units, last = _units(numerator, denominator, last + 1), last + 1
    sign = -1.0 if exact < 0 else 1.0
    if units.bit_length() + last > OVERFLOW_EXPONENT[kind]:
        return sign * math.inf
    return sign * math.ldexp(units, last)


def _units(numerator: int, denominator: int, last: int) -> int:
    """Return numerator / denominator in units of 2^last, rounded to an integer, ties to even."""
    if last < 0:
        numerator <<= -last
    else:
        denominator <<= last
    quotient, rest = divmod(numerator, denominator)
    return quotient + (2 * rest > denominator or (2 * rest == denominator and quotient % 2))


def convert(a: float, kind: str) -> float:
    """Return a number rounded to a kind."""
    return rounded(Fraction(a), kind) if math.isfinite(a) and a != 0 else a


def fma(a: float, b: float, c: float, kind: str) -> float:
    """Return a * b + c, rounded once."""
    if not (math.isfinite(a) and math.isfinite(b)):
        return a * b + c
    if not math.isfinite(c):
        return c
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if exact == 0:  # a sum of zeros of one sign keeps it, every other zero is +0
        negative = math.copysign(1, a) * math.copysign(1, b) < 0 and math.copysign(1, c) < 0
        return -0.0 if negative and (a == 0 or b == 0) else 0.0
    return _signed(exact, kind)


def _signed(exact: Fraction, kind: str) -> float:
    """Return a rational other than 0 rounded; underflow to zero keeps its sign."""
    return math.copysign(rounded(exact, kind), 1 if exact > 0 else -1)


def add(a: float, b: float, kind: str) -> float:
    """Return a + b, rounded once."""
    if (a == 0 and b == 0) or not (math.isfinite(a) and math.isfinite(b)):
        return a + b
    return rounded(Fraction(a) + Fraction(b), kind)


def subtract(a: float, b: float, kind: str) -> float:
    """Return a - b, rounded once."""
    return add(a, -b, kind)


def multiply(a: float, b: float, kind: str) -> float:
    """Return a * b, rounded once."""
    if a == 0 or b == 0 or not (math.isfinite(a) and math.isfinite(b)):
        return a * b
    return _signed(Fraction(a) * Fraction(b), kind)


def divide(a: float, b: float, kind: str) -> float:
    """Return a / b, rounded once."""
    if math.isnan(a) or math.isnan(b) or (math.isinf(a) and math.isinf(b)) or (a == 0 and b == 0):
        return math.nan
    sign = math.copysign(1, a) * math.copysign(1, b)
    if a == 0 or math.isinf(b):
        return sign * 0.0
    if b == 0 or math.isinf(a):
        return sign * math.inf
    return _signed(Fraction(a) / Fraction(b), kind)


def square_root(a: float, kind: str) -> float:
    """Return the square root, rounded once. NaN for what is negative."""
    if not a > 0 or math.isinf(a):
        return a if a == 0 or a > 0 else math.nan
    exact = Fraction(a)
    shift = 2 * PRECISION[kind] + 8 + max(0, exact.denominator.bit_length() - exact.numerator.bit_length())
    shift += (exact.denominator.bit_length() - 1 + shift) % 2  # the denominator is a power of 2: make it a square
    numerator = exact.numerator << shift
    root = math.isqrt(numerator)
    # a last bit that says whether the root goes on; far below the bits that are kept
    twice = 2 * root + (root * root != numerator)
    return rounded(Fraction(twice, 2) / Fraction(2) ** ((exact.denominator.bit_length() - 1 + shift) // 2), kind)


# --- sequences of operations ---


def chain(products: Iterable[tuple[float, float]], kind: str, start: float = 0.0) -> float:
    """Return acc after acc = fma(a, b, acc) for each pair (a, b) in order, from start."""
    for a, b in products:
        start = fma(a, b, start, kind)
    return start


def total(terms: Iterable[float], kind: str, start: float = 0.0) -> float:
    """Return acc after acc = acc + term for each term in order, from start."""
    for term in terms:
        start = add(start, term, kind)
    return start


def tree(chains: Iterable[float], kind: str) -> float:
    """Return the sum of a power of 2 of numbers: the upper half is added to the lower one until one is left."""
    numbers = list(chains)
    while len(numbers) > 1:
        half = len(numbers) // 2
        numbers = [add(numbers[i], numbers[i + half], kind) for i in range(half)]
    return numbers[0]


def horner(r: float, coefficients: Iterable[float], kind: str) -> float:
    """Return p after p = fma(r, p, c) for each coefficient c in order, from the first, the highest power's."""
    first, *others = coefficients
    for c in others:
        first = fma(r, first, c, kind)
    return first


# --- exp and log ---


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float.fromhex(word) for word in text.split())


LIMIT = {"float32": 150.0, "float64": 800.0}  # where exp's argument is cut off
ROUNDER = {"float32": 1.5 * 2**23, "float64": 1.5 * 2**52}
LOG2_E = {"float32": float.fromhex("0x1.715476p0"), "float64": float.fromhex("0x1.71547652b82fep0")}
LOG_2 = {  # high and low part
    "float32": _numbers("0x1.62e4p-1 0x1.7f7d1cp-20"),
    "float64": _numbers("0x1.62e42fefa38p-1 0x1.ef35793c7673p-45"),
}
EXP = {  # coefficients from the highest power's to r^0's
    "float32": _numbers("0x1.6a244cp-10 0x1.1239d4p-7 0x1.5558f2p-5 0x1.555492p-3 0x1.fffffcp-2 1 1"),
    "float64": _numbers(
        "0x1.af631de754d99p-26 0x1.28b40653e0bc5p-22 0x1.71ddf6bacdde1p-19 0x1.a01993bea2625p-16 0x1.a01a01b009bf4p-13 "
        "0x1.6c16c185fdf71p-10 0x1.111111110f808p-7 0x1.55555555503f4p-5 0x1.5555555555558p-3 0x1.0000000000009p-1 1 1"
    ),
}
LOG = _numbers(  # coefficients from z^6's to z^0's
    "0x1.2e94089eec148p-3 0x1.39adf055d7bcbp-3 0x1.7465b9779f0fep-3 0x1.c71c54e4d0dadp-3 0x1.2492493dddb57p-2 "
    "0x1.9999999985761p-2 0x1.555555555557cp-1"
)
SPLITTER = 1.5 * 2**26
ROOT_HALF = float.fromhex("0x1.6a09e667f3bcdp-1")  # sqrt(1/2), nearest


def exp(x: float, kind: str) -> float:
    """Return exp(x) as the specification has it, for every x."""
    if math.isnan(x):
        return x
    x = min(max(x, -LIMIT[kind]), LIMIT[kind])
    n = subtract(fma(x, LOG2_E[kind], ROUNDER[kind], kind), ROUNDER[kind], kind)
    high, low = LOG_2[kind]
    r = fma(n, -low, fma(n, -high, x, kind), kind)
    return rounded(Fraction(horner(r, EXP[kind], kind)) * Fraction(2) ** int(n), kind)


def log(x: float) -> float:
    """Return log(x) in float64 as the specification has it, for every x."""
    if x == 0:
        return -math.inf
    if not 0 < x < math.inf:
        return x if x > 0 else math.nan
    kind = "float64"
    fraction, k = math.frexp(x)  # in [1/2, 1); exact
    if fraction < ROOT_HALF:
        fraction, k = 2 * fraction, k - 1
    f = subtract(fraction, 1.0, kind)
    s = divide(f, add(2.0, f, kind), kind)
    z = multiply(s, s, kind)
    tail = fma(-z, horner(z, LOG, kind), f, kind)
    high, low = LOG_2[kind]
    f_high = subtract(add(f, SPLITTER, kind), SPLITTER, kind)
    small = fma(-s, tail, fma(float(k), low, subtract(f, f_high, kind), kind), kind)
    return add(fma(float(k), high, f_high, kind), small, kind)
