"""Arithmetic on parameters: bit for bit what SPECIFICATION.md says, by exact rationals rounded once an operation."""

import hashlib
import itertools
import math
import os
import subprocess
import sys
from fractions import Fraction

import numpy as np
import oracle
import pytest

from distsoftmax.arithmetic import build, parameters

CHAINS = 32
KINDS = ["float64", "float32"]
SHAPES = [(1,), (31,), (32,), (33,), (100,), (1, 7), (3, 1), (2, 32), (4, 45), (5, 70)]


# --- the oracle ---


def oracle_dot(a, b):
    chains = [0.0] * CHAINS
    for of_a, of_b in zip(np.atleast_2d(a), np.atleast_2d(b), strict=True):
        for c, (x, y) in enumerate(zip(of_a, of_b, strict=True)):
            chains[c % CHAINS] = oracle.fma(float(x), float(y), chains[c % CHAINS], "float64")
    return oracle.tree(chains, "float64")


def chain(start, lefts, rights, dtype="float64"):
    pairs = ((float(left), float(right)) for left, right in zip(lefts, rights, strict=True))
    return oracle.chain(pairs, dtype, float(start))


def oracle_cholesky(a):
    n = len(a)
    r = np.zeros((n, n))
    for i in range(n):
        for j in range(i, n):
            number = chain(a[i, j], -r[:i, i], r[:i, j])
            r[i, j] = oracle.square_root(number, "float64") if i == j else oracle.divide(number, r[i, i], "float64")
    return r


def numbers(shape, seed=0, dtype="float64"):
    """Of several magnitudes and either sign, so that every rounding shows."""
    generator = np.random.default_rng(seed)
    return (generator.standard_normal(shape) * 2.0 ** generator.integers(-2, 3, shape)).astype(dtype)


def positive(n, seed=0):
    root = np.random.default_rng(seed).standard_normal((n, n + 3))
    return root @ root.T


# --- sums and updates ---


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sums_are_the_chains_and_the_tree_of_the_specification(shape):
    a, b = numbers(shape, 1), numbers(shape, 2)
    assert parameters.dot(a, b) == oracle_dot(a, b)
    assert parameters.squared_norm(a) == oracle_dot(a, a)
    assert parameters.norm(a) == math.sqrt(oracle_dot(a, a))
    assert parameters.total(a) == oracle_dot(a, np.ones(shape))


def test_the_oracle_tells_another_order():
    """The judge is judged: neighbouring numbers in one chain, or one chain in all, give other bits."""
    a, b = numbers((4, 45), 1), numbers((4, 45), 2)
    assert oracle_dot(a, b) != oracle_dot(a[::-1], b[::-1])
    assert oracle_dot(a, b) != chain(0.0, a.ravel(), b.ravel())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_axpy_is_one_fused_operation_for_each_number(shape):
    x, y = numbers(shape, 1), numbers(shape, 2)
    expected = [chain(of_y, [0.3], [of_x]) for of_x, of_y in zip(x.ravel(), y.ravel(), strict=True)]
    kept = x.copy()
    parameters.axpy(0.3, x, y)
    np.testing.assert_array_equal(y.ravel(), expected)
    np.testing.assert_array_equal(x, kept)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if len(shape) == 2], ids=str)
def test_products_with_a_vector_and_norms_of_columns_are_chains(shape):
    a, x = numbers(shape, 1), numbers(shape[1], 2)
    np.testing.assert_array_equal(parameters.matrix_vector(a, x), [oracle_dot(row, x) for row in a])
    np.testing.assert_array_equal(parameters.column_norms(a), [math.sqrt(chain(0.0, column, column)) for column in a.T])


@pytest.mark.parametrize("columns", [1, 7, 31, 32, 33, 64, 100])
def test_rows_that_lie_apart_have_the_bits_of_contiguous_ones(columns):
    whole, other = numbers((5, columns + 3), 1), numbers((5, columns + 1), 2)
    a, b, x = whole[:, :columns], other[:, 1:], numbers(columns, 3)
    assert parameters.dot(a, b) == parameters.dot(a.copy(), b.copy())
    assert parameters.total(a) == parameters.total(a.copy())
    assert parameters.norm(a) == parameters.norm(a.copy())
    assert parameters.dot(a[:, 0], b[:, 0]) == parameters.dot(a[:, 0].copy(), b[:, 0].copy())
    assert parameters.dot(a[::-1], b[::-1]) == parameters.dot(a[::-1].copy(), b[::-1].copy())
    np.testing.assert_array_equal(parameters.column_norms(a), parameters.column_norms(a.copy()))
    np.testing.assert_array_equal(parameters.matrix_vector(a, x), parameters.matrix_vector(a.copy(), x))
    expected, beyond = a.copy(), whole[:, columns:].copy()
    parameters.axpy(-2.5, b.copy(), expected)
    parameters.axpy(-2.5, b, a)
    np.testing.assert_array_equal(a, expected)
    np.testing.assert_array_equal(whole[:, columns:], beyond)


def test_arrays_that_are_read_only_are_read():
    a = numbers((3, 40))
    fixed = a.copy()
    fixed.flags.writeable = False
    assert parameters.dot(fixed, fixed) == parameters.dot(a, a)
    with pytest.raises(ValueError, match="read-only"):
        parameters.axpy(1.0, a, fixed)


@pytest.mark.parametrize("shape", [(0,), (0, 4), (3, 0)], ids=str)
def test_nothing_adds_up_to_nothing(shape):
    a = np.zeros(shape)
    assert parameters.dot(a, a) == parameters.norm(a) == parameters.total(a) == 0.0
    parameters.axpy(1.0, a, a)
    if len(shape) == 2:
        assert parameters.column_norms(a).tolist() == [0.0] * shape[1]
        assert parameters.matrix_vector(a, np.zeros(shape[1])).tolist() == [0.0] * shape[0]
        assert parameters.product(a, a.T).shape == (shape[0], shape[0])
        assert not parameters.gram(a).any()


@pytest.mark.parametrize("scale", [1e-320, 1e-200, 1e-140, 1.0, 1e140, 1e200, 1e307])
def test_norms_neither_underflow_nor_overflow(scale):
    a = np.array([[3.0, 0.0], [0.0, -4.0]]) * scale
    assert parameters.norm(a) == pytest.approx(5 * scale, rel=1e-15 if scale > 1e-300 else 1e-3)


def test_a_norm_beyond_the_largest_number_is_infinite():
    assert parameters.norm(np.full(100, 1.7e308)) == math.inf


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("at", [0, 40])
def test_what_is_not_finite_is_not_finite_after(value, at):
    a = np.ones(41)
    a[at] = value
    assert not math.isfinite(parameters.dot(a, np.ones(41)))
    assert not math.isfinite(parameters.total(a))
    assert math.isnan(parameters.norm(a)) if math.isnan(value) else parameters.norm(a) == math.inf
    assert not np.isfinite(parameters.column_norms(a[None, :])[at])
    assert np.isfinite(np.delete(parameters.column_norms(a[None, :]), at)).all()


@pytest.mark.parametrize("seed", range(20))
def test_sums_are_as_accurate_as_their_chains_are_short(seed):
    a, b = numbers((7, 300), seed), numbers((7, 300), seed + 100)
    products = [Fraction(x) * Fraction(y) for x, y in zip(a.ravel(), b.ravel(), strict=True)]
    bound = (7 * math.ceil(300 / CHAINS) + 5) * 2.0**-53 * float(sum(abs(item) for item in products))
    assert abs(Fraction(parameters.dot(a, b)) - sum(products)) <= bound


def test_arrays_that_do_not_fit_are_refused():
    a = np.ones((3, 4))
    for call in (
        lambda: parameters.dot(a, np.ones((4, 3))),
        lambda: parameters.axpy(1.0, a, np.ones(12)),
        lambda: parameters.axpy(1.0, a, np.ones((4, 3)).T),
        lambda: parameters.matrix_vector(a, np.ones(3)),
        lambda: parameters.product(a, a),
        lambda: parameters.gram(a, np.ones(4)),
        lambda: parameters.cholesky(a),
        lambda: parameters.cholesky_solve(np.eye(3), np.ones(4)),
        lambda: parameters.dot(np.ones((2, 2, 2)), np.ones((2, 2, 2))),
    ):
        with pytest.raises(ValueError, match=r"\d"):
            call()
    for call in (
        lambda: parameters.dot(a.astype(np.float32), a.astype(np.float32)),
        lambda: parameters.total(np.arange(5)),
        lambda: parameters.dot(a, a.astype(">f8")),
        lambda: parameters.product(a, a.T.astype(np.float32)),
        lambda: parameters.product(np.ones((2, 2), dtype=int), np.ones((2, 2), dtype=int)),
        lambda: parameters.gram(a, np.ones(3, dtype=np.float32)),
        lambda: parameters.cholesky(np.eye(2, dtype=np.float32)),
    ):
        with pytest.raises(TypeError, match=r"float|int"):
            call()


# --- products ---


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 5), (7, 9, 4), (13, 33, 3), (5, 70, 6), (1, 2, 600)], ids=str)
def test_each_number_of_a_product_is_one_chain(shape, dtype):
    m, n, n_inner = shape
    a, b = numbers((m, n_inner), 1, dtype), numbers((n_inner, n), 2, dtype)
    expected = np.array([[chain(0.0, row, column, dtype) for column in b.T] for row in a])
    outcome = parameters.product(a, b)
    assert outcome.dtype == dtype
    np.testing.assert_array_equal(outcome, expected)


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize(("rows", "n"), [(1, 1), (4, 7), (30, 9), (3, 40), (600, 2)])
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_each_number_of_a_gram_matrix_is_one_chain_over_the_rows(rows, n, weighted, dtype):
    a = numbers((rows, n), 1, dtype)
    weights = np.random.default_rng(2).random(rows).astype(dtype) if weighted else np.ones(rows, dtype)
    scaled = a * weights[:, None]
    outcome = parameters.gram(a, weights if weighted else None)
    for i in range(n):
        for j in range(i, n):
            assert outcome[i, j] == outcome[j, i] == chain(0.0, scaled[:, i], a[:, j], dtype)


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize(
    ("m", "n", "n_inner"),
    [(1, 1, 1), (6, 32, 256), (7, 33, 257), (200, 65, 300), (400, 300, 10), (3, 2100, 520), (193, 1057, 5)],
)
def test_products_of_any_shape_and_strides_are_right(m, n, n_inner, dtype):
    """Of small integers, so that nothing is rounded: tiles, strips and panels begin and end where they should."""
    generator = np.random.default_rng(m)
    a, b = (generator.integers(-9, 10, shape) for shape in ((m, n_inner), (n_inner, n)))
    expected = a.astype(np.float64) @ b
    first, second = a.astype(dtype), b.astype(dtype)
    np.testing.assert_array_equal(parameters.product(first, second), expected)
    np.testing.assert_array_equal(parameters.product(np.asfortranarray(first), np.asfortranarray(second)), expected)
    apart = np.full((2 * n_inner, n + 5), math.nan, dtype)[::2, 2 : n + 2]
    apart[...] = second
    np.testing.assert_array_equal(parameters.product(first[:, ::-1], apart[::-1]), expected)
    weights = generator.integers(0, 5, n_inner)
    expected = (b.T * weights).astype(np.float64) @ b
    np.testing.assert_array_equal(parameters.gram(second, weights.astype(dtype)), expected)
    np.testing.assert_array_equal(parameters.gram(apart, weights.astype(dtype)), expected)


def curvature(p, weight, k, m):
    """What a row weighs for a pair of classes, each operation rounded once; the sign of a mixed pair left out."""
    others = 0.0
    for c, of_class in enumerate(p.tolist()):
        others += 0.0 if c == k else of_class
    return weight * (p[k] * (others if k == m else p[m]))


@pytest.mark.parametrize(
    ("n_rows", "n", "n_classes"), [(1, 1, 4), (5, 3, 4), (3, 6, 7), (4, 9, 2), (4, 5, 3), (2, 48, 4)]
)
def test_each_number_of_a_hessian_is_one_chain_over_the_rows(n_rows, n, n_classes):
    rows, generator = numbers((n_rows, n), 3), np.random.default_rng(5)
    p = generator.random((n_rows, n_classes))
    p /= p.sum(axis=1, keepdims=True)
    weights = generator.random(n_rows)
    outcome = parameters.softmax_hessian(rows, p, weights).reshape(n_classes, n, n_classes, n)
    for k, m in itertools.combinations_with_replacement(range(n_classes), 2):
        q, sign = np.array([curvature(*row, k, m) for row in zip(p, weights, strict=True)]), 1 if k == m else -1
        for i, j in itertools.combinations_with_replacement(range(n), 2):
            if n_classes <= 3:
                expected = sign * chain(0.0, q * rows[:, i], rows[:, j], "float64")
            else:
                expected = chain(0.0, sign * q, rows[:, i] * rows[:, j], "float64")
            assert {outcome[a] for a in ((k, i, m, j), (k, j, m, i), (m, i, k, j), (m, j, k, i))} == {expected}


@pytest.mark.parametrize(
    ("n_rows", "n", "n_classes"),
    [(600, 5, 4), (300, 70, 5), (257, 3, 40), (20, 1100, 4), (300, 12, 2), (300, 20, 3), (0, 4, 5)],
)
def test_a_hessian_of_any_shape_is_right(n_rows, n, n_classes):
    """Runs of rows and panels of columns begin and end where they should."""
    generator = np.random.default_rng(n)
    rows, weights = generator.standard_normal((n_rows, n)), generator.random(n_rows)
    p = generator.random((n_rows, n_classes))
    p /= p.sum(axis=1, keepdims=True)
    outcome = parameters.softmax_hessian(rows, p, weights)
    blocks = np.einsum("rk,km->rkm", p, np.eye(n_classes)) - np.einsum("rk,rm->rkm", p, p)
    stacked = np.einsum("r,rkm,ri->kmir", weights, blocks, rows, optimize=True) @ rows
    expected = stacked.transpose(0, 2, 1, 3).reshape(outcome.shape)
    np.testing.assert_allclose(outcome, expected, atol=1e-12 * max(n_rows, 1))
    np.testing.assert_array_equal(outcome, outcome.T)


def test_a_hessian_where_one_class_is_all_but_certain_loses_no_curvature():
    """1 - p is 0 there in float64."""
    rest = np.array([1e-20, 3e-20, 0.0, 0.0])
    p = np.append(1.0, rest)[None, :]
    outcome = parameters.softmax_hessian(np.ones((1, 1)), p, np.ones(1))
    np.testing.assert_allclose(np.diag(outcome), [4e-20, 1e-20, 3e-20, 0.0, 0.0], rtol=1e-15)
    assert np.linalg.eigvalsh(outcome * 1e20).min() > -1e-12


def test_a_transposed_factor_has_the_bits_of_its_copy():
    a, b = numbers((50, 70), 1), numbers((50, 60), 2)
    np.testing.assert_array_equal(parameters.product(a.T, b), parameters.product(a.T.copy(), b))
    np.testing.assert_array_equal(parameters.product(b.T, a), parameters.product(a.T, b).T)


# --- Cholesky's method ---


@pytest.mark.parametrize("n", [1, 2, 5, 20, 70])
def test_the_factor_is_made_of_the_chains_of_the_specification(n):
    a = positive(n)
    np.testing.assert_array_equal(parameters.cholesky(a), oracle_cholesky(a))


@pytest.mark.parametrize("n", [1, 3, 64, 65, 128, 200, 500])
def test_the_factor_times_itself_is_the_matrix(n):
    a = positive(n)
    kept = a.copy()
    r = parameters.cholesky(a)
    np.testing.assert_array_equal(a, kept)
    np.testing.assert_array_equal(r, np.triu(r))
    # backward stable: Higham, "Accuracy and stability of numerical algorithms", 2nd edition, 2002, theorem 10.3
    bound = (n + 2) * 2.0**-53 * np.abs(r).T @ np.abs(r)
    assert (np.abs(r.T @ r - a) <= 2 * bound + 1e-300).all()


def test_only_the_upper_triangle_is_read():
    a = positive(130)
    expected = parameters.cholesky(a)
    a[np.tril_indices(130, -1)] = math.nan
    np.testing.assert_array_equal(parameters.cholesky(a), expected)
    np.testing.assert_array_equal(parameters.cholesky(np.asfortranarray(a)), expected)


@pytest.mark.parametrize("n", [1, 10, 100, 200])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, -math.inf])
def test_a_pivot_that_is_not_positive_and_finite_gives_no_factor(n, value):
    for at in {0, n // 2, n - 1}:
        a = positive(n)
        a[at, at] = value
        assert parameters.cholesky(a) is None
    if n > 1 and not math.isfinite(value):
        a = positive(n)
        a[0, n - 1] = value
        assert parameters.cholesky(a) is None


@pytest.mark.parametrize("n", [1, 2, 9, 40])
def test_a_solve_is_the_chains_of_the_specification(n):
    r, b = parameters.cholesky(positive(n)), numbers(n, 3)
    kept = b.copy()
    x = np.zeros(n)
    for i in range(n):
        x[i] = chain(b[i], -x[:i], r[:i, i]) / r[i, i]
    for i in reversed(range(n)):
        x[i] = (x[i] - oracle_dot(r[i, i + 1 :], x[i + 1 :])) / r[i, i]
    np.testing.assert_array_equal(parameters.cholesky_solve(r, b), x)
    np.testing.assert_array_equal(b, kept)


@pytest.mark.parametrize("n", [1, 2, 9, 25])
def test_an_inverse_is_the_chains_of_the_specification(n):
    r = parameters.cholesky(positive(n))
    y = np.zeros((n, n))
    for i in range(n):
        for j in range(i + 1):
            y[i, j] = chain(float(i == j), -r[:i, i], y[:i, j]) / r[i, i]
    np.testing.assert_array_equal(parameters.inverse(r), parameters.gram(y))


@pytest.mark.parametrize("n", [1, 63, 65, 200, 300])
def test_solves_and_inverses_undo_the_matrix(n):
    a = positive(n) + n * np.eye(n)
    r, b = parameters.cholesky(a), numbers(n, 1)
    x = parameters.cholesky_solve(r, b)
    assert np.abs(a @ x - b).max() <= 1e-12 * np.abs(b).max()
    inverse = parameters.inverse(r)
    np.testing.assert_array_equal(inverse, inverse.T)
    np.testing.assert_allclose(inverse @ a, np.eye(n), atol=1e-12)
    np.testing.assert_allclose(parameters.matrix_vector(inverse, b), x, rtol=1e-9, atol=1e-12 * np.abs(x).max())


# --- the same bits everywhere ---


def digest():
    """Of results that pass through every tile, strip and tail."""
    summary = hashlib.sha256()
    for n in (1, 2, 3, 5, 8, 13, 31, 32, 33, 47, 64, 100, 131, 300):
        a, b, x = numbers((n, 37), n), numbers((37, n + 3), n + 1), numbers(37, n + 2)
        y = numbers((n, 40), 4)
        parameters.axpy(1.7, a, y[:, 1:38])
        r = parameters.cholesky(positive_by_ourselves(n))
        results = [
            [
                parameters.dot(a, a),
                parameters.total(a),
                parameters.dot(a[:, 3:], a[:, 1:-2]),
                parameters.norm(a * 1e200),
            ],
            y,
            parameters.matrix_vector(a, x),
            parameters.column_norms(a),
            parameters.product(a, b),
            parameters.product(a.astype(np.float32), b.astype(np.float32)),
            parameters.gram(b, x),
            parameters.gram(b.astype(np.float32), x.astype(np.float32)),
            parameters.softmax_hessian(b[:, :5], np.abs(b[:, :4]), x),
            parameters.softmax_hessian(b[:, :5], np.abs(b[:, :3]), x),
            parameters.product(numbers((n, 700), 1), numbers((700, 9), 2)),
            r,
            parameters.cholesky_solve(r, numbers(n, 5)),
            parameters.inverse(r),
        ]
        for result in results:
            summary.update(np.asarray(result).tobytes())
    return summary.hexdigest()


def positive_by_ourselves(n):
    """Without numpy's product, which has other bits on another processor."""
    matrix = parameters.gram(numbers((n + 5, n), 6) / 64)
    matrix[np.diag_indices(n)] += 1.0
    return matrix


@pytest.mark.parametrize("instruction_set", build.instruction_sets())
def test_every_instruction_set_gives_the_same_bits(instruction_set):
    code = "import test_parameters_arithmetic as tests; print(tests.digest())"
    environment = {
        **os.environ,
        "DISTSOFTMAX_ISA": instruction_set,
        "PYTHONPATH": os.path.dirname(__file__),
    }
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=100)
    if "cannot be run by this processor" in ended.stderr:
        pytest.skip(f"this processor has no {instruction_set}")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == digest()
