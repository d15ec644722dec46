"""exp, log and fused multiply-add: proven bounds, the same bits from every library, and those that the oracle gives."""

import ctypes
import hashlib
import math
import os
import re
from fractions import Fraction
from pathlib import Path

import elementary_bounds
import numpy as np
import oracle
import pytest

from distsoftmax.arithmetic import build, elementary, library

FLOAT = {"float32": np.float32, "float64": np.float64}
WORD = {"float32": np.uint32, "float64": np.uint64}
SUFFIX = {"float32": "f32", "float64": "f64"}
HERE = Path(build.__file__).parent
EVERY_FLOAT = "DISTSOFTMAX_EVERY_FLOAT"  # set it to 1 to try every float32, which takes 10 to 60 seconds
UNIT = 2.0**-53
DIGESTS = {  # of arithmetic version 1
    "exp_f32": "46c525e2f71a34fc",
    "exp_f64": "7179c2bf05250a70",
    "log_f64": "2a56cb98779352b8",
    "log_f64 beside 1": "4ea0a101b425dcfc",
}


def libraries():
    """Every library of the core that this processor can run, by the name of its instruction set."""
    folder, level = Path(library.core()._name).parent, library.core().ds_processor_level()
    names = [name for name in build.instruction_sets() if library.LEVELS[name] <= level]
    return {name: ctypes.CDLL(str(folder / build.library_name(name))) for name in names}


def call(core, name, *arrays):
    """Call an exported function of equally long arrays; return its result, of the type of the first."""
    out = np.empty_like(arrays[0])
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in (*arrays, out)]
    assert all(array.flags.c_contiguous and array.dtype == out.dtype for array in arrays)
    getattr(core, name)(ctypes.c_int64(out.size), *pointers)
    return out


def same_bits(a, b):
    """Whether numbers are equal to the last bit; a NaN is equal to every NaN."""
    words = {4: np.uint32, 8: np.uint64}[a.itemsize]
    return bool(np.all((a.view(words) == b.view(words)) | (np.isnan(a) & np.isnan(b))))


# --- inputs ---


def any_floats(rng, n, kind):
    """Floats of every exponent, with significands of few bits, of nearly all ones, and random ones; also NaN."""
    bits = np.finfo(FLOAT[kind]).nmant
    word = WORD[kind]
    words = rng.integers(0, 2**64, n, dtype=np.uint64)
    words = (words >> np.uint64(32)).astype(word) if kind == "float32" else words
    significand, above = words & word((1 << bits) - 1), words & ~word((1 << bits) - 1)
    tail = (word(1) << rng.integers(0, bits, n).astype(word)) - word(1)
    shape = rng.integers(0, 5, n)
    significand = np.choose(shape, [significand, significand & ~tail, significand | tail, significand & tail, tail])
    ends = np.isin(np.arange(n) % 8, (0, 1)) & (shape > 0)  # exponents at the ends: denormals, the largest, infinity
    exponents = np.finfo(FLOAT[kind]).maxexp * 2
    edge = rng.choice([0, 1, 2, exponents - 2, exponents - 1], n).astype(word) << word(bits)
    sign = words >> word(bits + exponents.bit_length() - 1) << word(bits + exponents.bit_length() - 1)
    above = np.where(ends, sign | edge, above)
    return (above | significand).astype(word).view(FLOAT[kind])


def triples(rng, n, kind):
    """Factors and addends of every kind of difficulty: ties, cancellation, denormal results, zeros, overflow."""
    dtype, word = FLOAT[kind], WORD[kind]
    bits = np.finfo(dtype).nmant
    a, b, c = (any_floats(rng, n, kind) for _ in range(3))
    with np.errstate(all="ignore"):
        near = rng.integers(0, 2, n) == 0  # exponents beside 0, so that sums are of all bits
        a, b = (np.where(near, (np.frexp(v)[0] * 2.0 ** rng.integers(-2, 3, n)).astype(dtype), v) for v in (a, b))
        product = -(a * b)
        neighbour = (product.view(word) + rng.integers(-2, 3, n).astype(word)).view(dtype)
        shifted = np.ldexp(product, rng.integers(-2 * bits - 6, 2 * bits + 6, n)).astype(dtype)
        least = np.ldexp(dtype(1), int(np.log2(float(np.finfo(dtype).tiny))))
        denormal = (least * rng.uniform(-2, 2, n)).astype(dtype)
        c = np.choose(rng.integers(0, 7, n), [c, c, product, neighbour, shifted, denormal, np.copysign(dtype(0), c)])
        # products a hair beside half a unit of c: a sum rounded to more bits first lies in the middle
        half_unit = np.maximum(np.frexp(c)[1] - bits - 2, np.finfo(dtype).minexp - bits - 1)
        epsilon = np.finfo(dtype).eps * rng.choice([-1, 1], n)
        beside = (rng.integers(0, 4, n) == 0) & np.isfinite(c)
        a = np.where(beside, np.ldexp((1 + epsilon) * rng.choice([-1, 1], n), half_unit // 2), a)
        b = np.where(beside, np.ldexp(1 - epsilon, half_unit - half_unit // 2), b)
    return a.astype(dtype), b.astype(dtype), c.astype(dtype)


def exp_arguments(rng, n, kind):
    limit = {"float32": 110.0, "float64": 760.0}[kind]
    wide, near = rng.uniform(-limit, limit, n), rng.uniform(-1, 1, n) * 2.0 ** rng.integers(-30, 2, n)
    inside = rng.uniform(*elementary_bounds.EXP_DOMAIN[kind], n)
    return np.choose(rng.integers(0, 3, n), [wide, near, inside]).astype(FLOAT[kind])


def log_arguments(rng, n):
    """Positive numbers: of every exponent, of a sum over classes, beside 1 and beside the limits of m."""
    spread = np.ldexp(rng.uniform(0.5, 1, n), rng.integers(-1060, 1024, n))
    near_one = 1 + rng.uniform(-1, 1, n) * 2.0 ** -rng.integers(1, 53, n)
    limits = oracle.ROOT_HALF * 2.0 ** rng.integers(-2, 3, n) * (1 + rng.integers(-3, 4, n) * 2 * UNIT)
    return np.choose(rng.integers(0, 4, n), [spread, rng.uniform(1, 1000, n), near_one, limits])


# --- bounds ---


@pytest.mark.sweep(1)
@pytest.mark.parametrize(
    ("constant", "bound"),
    [
        (elementary.EXP_ERROR, lambda: elementary_bounds.exp_bound("float64")),
        (elementary.EXP_ERROR_F32, lambda: elementary_bounds.exp_bound("float32")),
        (elementary.LOG_ERROR, elementary_bounds.log_bound),
    ],
    ids=["exp", "exp_f32", "log"],
)
def test_the_stated_error_bounds_are_proven(constant, bound):
    proven = bound()
    assert proven <= Fraction(constant) <= proven * Fraction(1002, 1000)


def test_float32_exp_keeps_its_bound(drawn):
    """Against the proven float64 exp, over each 28th float32 in [-87, 0]; with --full each 7th.

    With DISTSOFTMAX_EVERY_FLOAT=1 over all of them.
    """
    core, chunk = library.core(), 1 << 16
    step, firsts = (1, [0]) if os.environ.get(EVERY_FLOAT) == "1" else (28, drawn(range(0, 28, 7), 1))
    first, last = (int(word) for word in np.array([-0.0, -87.0], np.float32).view(np.uint32))
    worst, worst_units = 0.0, 0.0
    for start in (start for skipped in firsts for start in range(first + skipped, last + 1, chunk * step)):
        x = np.arange(start, min(start + chunk * step, last + 1), step, dtype=np.uint32).view(np.float32)
        truth = call(core, "ds_exp_f64", x.astype(np.float64))
        distance = np.abs(call(core, "ds_exp_inside_f32", x) - truth)
        power_of_two = (truth.view(np.uint64) & np.uint64(0x7FF << 52)).view(np.float64)
        worst = max(worst, float((distance / truth).max()))
        worst_units = max(worst_units, float((distance / power_of_two).max()) * 2**23)
    assert worst <= elementary.EXP_ERROR_F32
    assert worst_units <= 0.8822


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="long double is no longer than float64 here")
@pytest.mark.parametrize(("name", "most_units"), [("exp", 0.91), ("log", 0.92)])
def test_ten_million_float64_keep_the_bound(name, most_units, drawn):
    bound = {"exp": elementary.EXP_ERROR, "log": elementary.LOG_ERROR}[name]
    for seed in drawn(range(20), 5):
        rng, n = np.random.default_rng([9, seed]), 500_000
        x = rng.uniform(-708, 709, n) if name == "exp" else log_arguments(rng, n)
        x[::4] = rng.uniform(-0.4, 0.4, n // 4) if name == "exp" else rng.uniform(0.5, 2, n // 4)
        computed = getattr(elementary, name)(x)
        truth = getattr(np, name)(x.astype(np.longdouble))
        distance = np.abs(computed - truth)
        units = np.abs(np.spacing(truth.astype(np.float64)))
        assert np.all(distance <= bound * np.abs(truth))
        assert np.all(distance <= most_units * units)


# --- the same bits ---


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_exp_is_what_the_oracle_says(kind):
    rng = np.random.default_rng(1)
    ends = [0.0, 5e-324, -87.0, 88.0, -708.0, 709.0, 709.79, -745.14, 1e300, math.inf, math.nan]
    with np.errstate(over="ignore", under="ignore"):
        x = np.concatenate([exp_arguments(rng, 3000, kind), *(np.array(ends).astype(FLOAT[kind]) * [[1], [-1]])])
    x = x.astype(FLOAT[kind])
    expected = np.array([oracle.exp(float(number), kind) for number in x]).astype(FLOAT[kind])
    assert same_bits(call(library.core(), f"ds_exp_{SUFFIX[kind]}", x), expected)


def test_log_is_what_the_oracle_says():
    x = np.concatenate(
        [
            log_arguments(np.random.default_rng(2), 3000),
            [0.0, -0.0, math.inf, -math.inf, math.nan, 5e-324, 2.0**-1022, 2.0**-1022 * (1 - UNIT), -1.0, 0.5, 2.0],
            [oracle.ROOT_HALF, math.nextafter(oracle.ROOT_HALF, 0.0), 1 - UNIT, 1 + 2 * UNIT, np.finfo(float).max],
        ]
    )
    assert same_bits(call(library.core(), "ds_log_f64", x), np.array([oracle.log(float(number)) for number in x]))


@pytest.mark.parametrize("name", list(libraries()))
@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_fma_is_rounded_once(name, kind):
    arrays = triples(np.random.default_rng(3), 6000, kind)
    expected = [oracle.fma(*(float(v) for v in numbers), kind) for numbers in zip(*arrays, strict=True)]
    with np.errstate(invalid="ignore"):
        expected = np.array(expected).astype(FLOAT[kind])
    core = libraries()[name]
    assert same_bits(call(core, f"ds_fma_{SUFFIX[kind]}", *arrays), expected)
    assert same_bits(call(core, f"ds_scalar_fma_{SUFFIX[kind]}", *arrays), expected)


@pytest.mark.skipif(len(libraries()) == 1, reason="there is one instruction set here")
@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_fma_in_software_is_that_of_the_processor(kind, drawn):
    cores = libraries()
    for seed in drawn(range(10), 1):
        arrays = triples(np.random.default_rng([4, seed]), 1_000_003, kind)
        results = [call(core, f"ds_fma_{SUFFIX[kind]}", *arrays) for core in cores.values()]
        assert all(same_bits(results[0], result) for result in results[1:])


@pytest.mark.skipif(len(libraries()) == 1, reason="there is one instruction set here")
@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_bits_do_not_depend_on_the_instruction_set(kind):
    rng, suffix = np.random.default_rng(5), SUFFIX[kind]
    x = np.concatenate([exp_arguments(rng, 200_000, kind), any_floats(rng, 50_001, kind)])
    inside = np.clip(x[np.isfinite(x)], *elementary_bounds.EXP_DOMAIN[kind])
    calls = [(f"ds_exp_{suffix}", x), (f"ds_exp_inside_{suffix}", inside)]
    if kind == "float64":
        y = np.concatenate([log_arguments(rng, 200_000), any_floats(rng, 50_001, kind)])
        calls += [("ds_log_f64", y), ("ds_log_inside_f64", y)]
    for function, arguments in calls:
        first, *others = (call(core, function, arguments) for core in libraries().values())
        assert all(same_bits(first, other) for other in others)


@pytest.mark.parametrize("name", list(libraries()))
def test_results_have_these_digests(name):
    """A million numbers of each domain, made of integers, so that they are the same with every numpy."""
    core, digests = libraries()[name], {}
    spread = (np.arange(1_000_003, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(11)).astype(np.float64)
    inside = (spread / 2**53 - 1) * 87  # in [-87, 0)
    positive = np.ldexp(spread + 1, np.arange(spread.size) % 2000 - 1050)
    calls = {"exp_f32": inside.astype(np.float32), "exp_f64": inside * 8, "log_f64": positive}
    for function, x in calls.items():
        digests[function] = hashlib.sha256(call(core, f"ds_{function}", x).tobytes()).hexdigest()[:16]
    beside_one = 1 + inside * 2.0 ** -(np.arange(spread.size) % 40 + 8)
    digests["log_f64 beside 1"] = hashlib.sha256(call(core, "ds_log_f64", beside_one).tobytes()).hexdigest()[:16]
    assert digests == DIGESTS


@pytest.mark.parametrize("name", list(libraries()))
def test_bits_do_not_depend_on_the_position(name):
    core, rng = libraries()[name], np.random.default_rng(6)
    x = exp_arguments(rng, 70, "float64")
    arguments = {"exp": x, "log": np.abs(x)}
    for function, numbers in arguments.items():
        getattr(core, f"ds_{function}").restype = ctypes.c_double
        alone = np.array([getattr(core, f"ds_{function}")(ctypes.c_double(number)) for number in numbers])
        for first in (0, 1, 3):
            for last in range(first, 70):
                part = numbers[first:last]
                assert same_bits(call(core, f"ds_{function}_f64", part), alone[first:last])
    singles = x.astype(np.float32)
    whole = call(core, "ds_exp_f32", singles)
    for last in range(70):
        assert same_bits(call(core, "ds_exp_f32", singles[:last]), whole[:last])


@pytest.mark.parametrize("name", list(libraries()))
def test_the_kernels_functions_are_those_of_the_door_inside_their_domain(name):
    core, rng = libraries()[name], np.random.default_rng(7)
    for kind, suffix in SUFFIX.items():
        x = np.append(np.clip(exp_arguments(rng, 5000, kind), *elementary_bounds.EXP_DOMAIN[kind]), np.nan)
        x = x.astype(FLOAT[kind])
        assert same_bits(call(core, f"ds_exp_inside_{suffix}", x), call(core, f"ds_exp_{suffix}", x))
    y = log_arguments(rng, 5000)
    normal = y[y >= np.finfo(float).tiny]
    assert same_bits(call(core, "ds_log_inside_f64", normal), call(core, "ds_log_f64", normal))
    outside = np.array([0.0, -0.0, 5e-324, -1.0, math.inf, -math.inf, math.nan])
    assert np.isnan(call(core, "ds_log_inside_f64", outside)).all()


@pytest.mark.parametrize("payload", [1, 0x155, 0x3FFFFF])
@pytest.mark.parametrize("sign", [0, 1])
@pytest.mark.parametrize("quiet", [0, 1])
def test_a_nan_stays_one_whatever_its_bits(payload, sign, quiet):
    single = np.array([sign << 31 | 0xFF << 23 | quiet << 22 | payload] * 17, np.uint32).view(np.float32)
    double = np.array([sign << 63 | 0x7FF << 52 | quiet << 51 | payload] * 17, np.uint64).view(np.float64)
    for core in libraries().values():
        for function in ("exp_f32", "exp_inside_f32"):
            assert np.isnan(call(core, f"ds_{function}", single)).all()
        for function in ("exp_f64", "exp_inside_f64", "log_f64", "log_inside_f64"):
            assert np.isnan(call(core, f"ds_{function}", double)).all()


def test_specification_oracle_and_core_have_the_same_constants():
    section = (HERE / "SPECIFICATION.md").read_text(encoding="utf-8").split("## exp and log")[1].split("\n## ")[0]
    number = re.compile(r"(?<![\w.])-?0x1(?:\.[0-9a-f]+)?p-?\d+")
    written = {float.fromhex(word) for word in number.findall(section)}
    compiled = {float.fromhex(word) for word in number.findall((HERE / "core/elementary.h").read_text("ascii"))}
    judged = {oracle.ROOT_HALF, oracle.SPLITTER, *oracle.LOG}
    for kind in FLOAT:
        judged |= {oracle.ROUNDER[kind], oracle.LOG2_E[kind], *oracle.LOG_2[kind], *oracle.EXP[kind]} - {1.0}
    assert written == judged
    of_the_domain = {2.0**-1022, 2.0**54, np.finfo(float).max}
    assert compiled | {oracle.ROOT_HALF} == judged | of_the_domain
    word = np.array([1.0, oracle.ROOT_HALF]).view(np.uint64)
    assert f"0x{int(word[0] - word[1]):016X}u" in (HERE / "core/elementary.h").read_text("ascii")


# --- the door ---


@pytest.mark.parametrize("function", [elementary.exp, elementary.log])
def test_arrays_of_every_layout_give_what_numbers_give(function):
    x = np.random.default_rng(8).uniform(0.1, 3, (7, 9))
    expected = np.array([[function(float(number)) for number in row] for row in x])
    read_only = x.copy()
    read_only.flags.writeable = False
    for array, result in (
        (x, expected),
        (x.T, expected.T),
        (x[::2, 1::3], expected[::2, 1::3]),
        (x[:, ::-1], expected[:, ::-1]),
        (read_only, expected),
        (x[:0], expected[:0]),
        (x[2, 3, None].reshape(()), expected[2, 3].reshape(())),
    ):
        computed = function(array)
        assert computed.shape == result.shape
        assert computed.dtype == np.float64
        assert np.array_equal(computed, result)
    assert isinstance(function(2), float)
    assert isinstance(function(np.float64(2)), float)
    assert function(2) == function(2.0)


@pytest.mark.parametrize("function", [elementary.exp, elementary.log])
def test_arrays_of_another_type_are_refused(function):
    with pytest.raises(ValueError, match="takes an array of float64, not of float32"):
        function(np.ones(3, np.float32))
    with pytest.raises(ValueError, match="not of int64"):
        function(np.ones(3, np.int64))


def test_special_values_are_those_of_ieee():
    exp, log = elementary.exp, elementary.log
    assert (exp(0.0), exp(-0.0), log(1.0)) == (1.0, 1.0, 0.0)
    assert math.copysign(1, log(1.0)) == 1
    assert (exp(-math.inf), exp(math.inf), exp(710.0), exp(-746.0)) == (0.0, math.inf, math.inf, 0.0)
    assert (log(0.0), log(-0.0), log(math.inf)) == (-math.inf, -math.inf, math.inf)
    assert all(map(math.isnan, (exp(math.nan), log(math.nan), log(-1.0), log(-math.inf), log(-5e-324))))
    assert exp(-745.0) == 5e-324
    assert log(5e-324) == pytest.approx(-1074 * math.log(2), rel=elementary.LOG_ERROR)


# --- the oracle itself ---


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_the_oracle_rounds_as_the_processor_does(kind):
    rng = np.random.default_rng(10)
    dtype = FLOAT[kind]
    a, b = any_floats(rng, 4000, kind), any_floats(rng, 4000, kind)
    b = np.where(rng.integers(0, 3, 4000) == 0, np.roll(a, 1), b)
    with np.errstate(all="ignore"):
        for judge, processor in (
            (oracle.add, np.add),
            (oracle.subtract, np.subtract),
            (oracle.multiply, np.multiply),
            (oracle.divide, np.divide),
        ):
            judged = np.array([judge(float(x), float(y), kind) for x, y in zip(a, b, strict=True)])
            assert same_bits(judged, processor(a, b).astype(np.float64)), judge.__name__
        roots = np.array([oracle.square_root(float(x), kind) for x in a])
        assert same_bits(roots, np.sqrt(a).astype(np.float64))
        wide = any_floats(rng, 4000, "float64")
        converted = np.array([oracle.convert(float(x), kind) for x in wide])
        assert same_bits(converted, wide.astype(dtype).astype(np.float64))
