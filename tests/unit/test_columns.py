"""Sums over columns and norms of rows, to the last bit, by exact rationals that are rounded once an operation."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import oracle
import pytest
from scipy.sparse import csr_array

from distsoftmax.arithmetic import columns as door
from distsoftmax.arithmetic import library
from distsoftmax.arithmetic.columns import DenseColumns, SparseColumns

SMALL_TYPES = ["float16", "int8", "uint8", "int16", "uint16", "bool"]
TYPES = ["float32", "float64", *SMALL_TYPES]
SHAPES = [(0, 3), (3, 0), (1, 1), (4, 7), (9, 33), (5, 1030)]


def fma(a, b, c):
    return oracle.fma(float(a), float(b), float(c), "float64")


def times(a, b, kind="float64"):
    return oracle.multiply(float(a), float(b), kind)


def minus(a, b, kind="float64"):
    return oracle.subtract(float(a), float(b), kind)


def numbers_of(dense):
    """The numbers whose sums are meant, as a list of rows."""
    rows = dense.values.astype(np.float64).tolist()
    if dense.mean is None and dense.inverse is None:
        return rows
    given = dense.inverse if dense.mean is None else dense.mean
    mean = np.zeros_like(given) if dense.mean is None else dense.mean
    inverse = np.ones_like(given) if dense.inverse is None else dense.inverse
    kind = given.dtype.name
    return [[times(minus(x, m, kind), f, kind) for x, m, f in zip(row, mean, inverse, strict=True)] for row in rows]


def entries_of(sparse):
    """The entries as (row, column, value), in order."""
    starts = sparse.starts.tolist()
    for row in range(sparse.n_rows):
        for entry in range(starts[row], starts[row + 1]):
            yield row, int(sparse.indices[entry]), float(sparse.values[entry])


def terms_of(columns):
    if isinstance(columns, SparseColumns):
        yield from entries_of(columns)
        return
    for row, numbers in enumerate(numbers_of(columns)):
        for column, value in enumerate(numbers):
            yield row, column, value


def sums_of(columns, term, weights):
    """What the specification says, term by term; `term` takes (weight, value, column, sum)."""
    sums = np.zeros(columns.n_columns)
    for row, column, value in terms_of(columns):
        sums[column] = term(1.0 if weights is None else weights[row], value, column, sums[column])
    return sums


def squares_about(mean):
    def term(weight, value, column, total):
        d = minus(value, mean[column])
        return fma(times(weight, d), d, total)

    return term


def sums_by_class(columns, classes, n_classes, weights):
    sums = np.zeros((n_classes, columns.n_columns))
    for row, column, value in terms_of(columns):
        position = classes[row], column
        sums[position] = fma(1.0 if weights is None else weights[row], value, sums[position])
    return sums


def dense_norms(dense, factors):
    norms = np.zeros(dense.n_rows)
    for row, numbers in enumerate(numbers_of(dense)):
        chains = [0.0] * 32
        for column, value in enumerate(numbers):
            chains[column % 32] = fma(times(factors[column], value), value, chains[column % 32])
        norms[row] = oracle.tree(chains, "float64")
    return norms


def problem(stored, shape, seed=0):
    """Numbers of a type, of many magnitudes; weights, a mean, factors, and classes."""
    generator = np.random.default_rng([seed, *shape])
    if stored in ("float32", "float64", "float16"):
        exponents = generator.integers(-6 if stored == "float16" else -30, 6, shape)
        values = np.ldexp(generator.standard_normal(shape), exponents).astype(stored)
    elif stored == "bool":
        values = generator.random(shape) < 0.5
    else:
        info = np.iinfo(stored)
        values = generator.integers(info.min, info.max, shape, dtype=stored, endpoint=True)
    weights = generator.random(shape[0]) * 10.0 ** generator.integers(-9, 9, shape[0])
    mean, factors = generator.standard_normal((2, shape[1]))
    return values, weights, mean, factors, generator.integers(0, 3, shape[0])


def check_bits(columns, weights, mean, classes):
    bits = np.ndarray.tobytes
    assert bits(door.sum_values(columns, weights)) == bits(sums_of(columns, lambda w, x, _, s: fma(w, x, s), weights))
    assert bits(door.sum_magnitudes(columns, weights)) == bits(
        sums_of(columns, lambda w, x, _, s: fma(w, abs(x), s), weights)
    )
    assert bits(door.sum_squares(columns, weights, mean)) == bits(sums_of(columns, squares_about(mean), weights))
    assert bits(door.sum_by_class(columns, classes, 3, weights)) == bits(sums_by_class(columns, classes, 3, weights))


@pytest.mark.sweep(12)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("stored", TYPES)
def test_sums_of_dense_columns_are_the_specified_bits(stored, shape, weighted):
    values, weights, mean, factors, classes = problem(stored, shape)
    columns = DenseColumns(values)
    check_bits(columns, weights if weighted else None, mean, classes)
    assert door.row_norms(columns, factors).tobytes() == dense_norms(columns, factors).tobytes()
    assert door.row_norms(columns).tobytes() == dense_norms(columns, np.ones(shape[1])).tobytes()


@pytest.mark.sweep(18)
@pytest.mark.parametrize("given", ["mean", "inverse", "mean and inverse"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("stored", SMALL_TYPES)
def test_small_types_are_changed_to_trainings_units_in_the_type_computed_in(stored, dtype, given):
    values, weights, mean, factors, classes = problem(stored, (7, 37))
    of_type = mean.astype(dtype), (1 / (1 + factors**2)).astype(dtype)
    columns = DenseColumns(values, of_type[0] if "mean" in given else None, of_type[1] if "inverse" in given else None)
    for own_weights in (None, weights):  # without weights a compiler might fuse the product with the sum
        check_bits(columns, own_weights, mean, classes)
    assert door.row_norms(columns, factors).tobytes() == dense_norms(columns, factors).tobytes()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("indices", [np.int32, np.int64])
@pytest.mark.parametrize("stored", ["float32", "float64", "uint8"])
def test_sums_of_sparse_columns_are_the_specified_bits(stored, indices, weighted):
    values, weights, mean, factors, classes = problem(stored, (30, 12))
    values = values * (np.random.default_rng(1).random(values.shape) < 0.3).astype(values.dtype)
    values[[0, 7, 8, 29]] = 0
    matrix = csr_array(values)
    columns = SparseColumns(matrix.data, matrix.indices.astype(indices), matrix.indptr.astype(indices), 12)
    own_weights = weights if weighted else None
    check_bits(columns, own_weights, mean, classes)
    computed = door.sum_entry_weights(columns, own_weights)
    assert computed.tobytes() == sums_of(columns, lambda w, _, __, s: np.float64(s + w), own_weights).tobytes()
    norms = np.full(30, 2.5)
    for row, column, value in entries_of(columns):
        norms[row] = fma(times(factors[column], value), minus(value, mean[column]), norms[row])
    assert door.row_norms(columns, factors, mean, 2.5).tobytes() == norms.tobytes()


@pytest.mark.parametrize("columns", [0, 5])
def test_sparse_rows_without_entries_sum_to_0(columns):
    empty = SparseColumns(np.zeros(0), np.zeros(0, np.int32), np.zeros(4, np.int32), columns)
    assert door.sum_values(empty).tolist() == [0.0] * columns
    assert door.sum_by_class(empty, np.array([0, 1, 1]), 2).tolist() == [[0.0] * columns] * 2
    assert door.row_norms(empty).tolist() == [0.0] * 3


def test_every_float16_has_its_value():
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    with np.errstate(invalid="ignore"):  # some are signalling NaNs, of which numpy warns on arm64
        expected = every.astype(np.float64)
    np.testing.assert_array_equal(door.sum_values(DenseColumns(every[None])), expected)


@pytest.mark.parametrize("stored", [*TYPES, "int32", ">f4", ">f8"])
def test_bits_do_not_depend_on_how_the_rows_lie_in_memory(stored):
    values, weights, mean, factors, classes = problem("float32" if stored[0] == ">" else stored, (40, 25))
    values = values.astype(stored)
    wide = np.zeros((80, 60), dtype=values.dtype)
    views = [wide[::2, 3:28], wide[39::-1, :25], wide[:40, 1:51:2], np.asfortranarray(wide)[:40, :25]]
    raw = np.zeros(values.nbytes + 1, dtype=np.uint8)
    views.append(np.frombuffer(raw.data, values.dtype, values.size, 1).reshape(values.shape))  # not aligned
    results = set()
    for view in [values, *views]:
        view[:] = values
        columns = DenseColumns(view)
        result = [
            door.sum_values(columns, weights),
            door.sum_magnitudes(columns),
            door.sum_squares(columns, weights, mean),
            door.sum_by_class(columns, classes, 3, weights),
            door.row_norms(columns, factors),
        ]
        results.add(b"".join(map(np.ndarray.tobytes, result)))
    assert len(results) == 1


def test_a_weight_of_1_counts_like_none():
    values, _, mean, _, classes = problem("float64", (50, 20))
    columns, ones = DenseColumns(values), np.ones(50)
    assert door.sum_values(columns, ones).tobytes() == door.sum_values(columns).tobytes()
    assert door.sum_squares(columns, ones, mean).tobytes() == door.sum_squares(columns, None, mean).tobytes()
    assert door.sum_by_class(columns, classes, 3, ones).tobytes() == door.sum_by_class(columns, classes, 3).tobytes()


def test_weights_by_class_are_added_in_order():
    _, weights, _, _, classes = problem("float64", (500, 1))
    expected = np.zeros(4)
    for number, weight in zip(classes, weights, strict=True):
        expected[number] += weight
    assert door.sum_weights(classes, 4, weights).tobytes() == expected.tobytes()


def test_norms_of_centred_sparse_rows_are_those_of_dense_ones():
    generator = np.random.default_rng(0)
    values = generator.standard_normal((20, 9)) * (generator.random((20, 9)) < 0.4)
    mean, matrix = generator.standard_normal(9), csr_array(values)
    columns = SparseColumns(matrix.data, matrix.indices, matrix.indptr, 9)
    computed = door.row_norms(columns, shift=2 * mean, start=float(mean @ mean))
    np.testing.assert_allclose(computed, door.row_norms(DenseColumns(values - mean)), rtol=1e-12)


GOOD = SparseColumns(np.ones(2), np.array([0, 1], np.int32), np.array([0, 1, 2], np.int32), 2)
REFUSED = {
    "a class beyond the last": lambda: door.sum_by_class(GOOD, np.array([0, 2]), 2),
    "a class below the first": lambda: door.sum_by_class(GOOD, np.array([0, -1]), 2),
    "classes of other rows": lambda: door.sum_by_class(GOOD, np.array([0]), 2),
    "weights of other rows": lambda: door.sum_values(GOOD, np.ones(3)),
    "factors of other columns": lambda: door.row_norms(GOOD, np.ones(3)),
    "a column beyond the last": lambda: door.sum_values(SparseColumns(GOOD.values, GOOD.indices, GOOD.starts, 1)),
    "a column below the first": lambda: door.sum_values(SparseColumns(GOOD.values, -GOOD.indices, GOOD.starts, 2)),
    "starts that go back": lambda: door.sum_values(
        SparseColumns(GOOD.values, GOOD.indices, np.array([0, 2, 1], np.int32), 2)
    ),
    "starts beyond the entries": lambda: door.sum_values(
        SparseColumns(GOOD.values, GOOD.indices, np.array([0, 1, 3], np.int32), 2)
    ),
    "one dimension": lambda: door.sum_values(DenseColumns(np.ones(3))),
    "a mean of other columns": lambda: door.sum_values(DenseColumns(np.ones((2, 3), np.uint8), np.ones(2), np.ones(3))),
    "a mean of another type": lambda: door.sum_values(
        DenseColumns(np.ones((2, 3), np.uint8), np.ones(3), np.ones(3, np.float32))
    ),
    "a shift of dense rows": lambda: door.row_norms(DenseColumns(np.ones((2, 3))), shift=np.ones(3)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_before_the_core_reads_it(name):
    with pytest.raises((ValueError, IndexError)):
        REFUSED[name]()


def digest():
    """A digest of all sums of larger problems."""
    result = hashlib.sha256()
    for stored in TYPES:
        for shape in [(203, 1), (100, 54), (37, 784), (5, 2100)]:
            values, weights, mean, factors, classes = problem(stored, shape)
            plain = DenseColumns(values)
            kinds = [plain]
            if stored in SMALL_TYPES:
                kinds += [
                    DenseColumns(values, mean.astype(dtype), mean.astype(dtype)) for dtype in ("float32", "float64")
                ]
            for columns in kinds:
                for own_weights in (None, weights):
                    result.update(door.sum_values(columns, own_weights))
                    result.update(door.sum_magnitudes(columns, own_weights))
                    result.update(door.sum_squares(columns, own_weights, mean))
                    result.update(door.sum_by_class(columns, classes, 3, own_weights))
                result.update(door.row_norms(columns, factors))
            if stored in ("float32", "float64"):
                matrix = csr_array(values * (values > 0))
                sparse = SparseColumns(matrix.data, matrix.indices, matrix.indptr, shape[1])
                result.update(door.sum_values(sparse, weights))
                result.update(door.sum_squares(sparse, weights, mean))
                result.update(door.sum_by_class(sparse, classes, 3, weights))
                result.update(door.row_norms(sparse, factors, mean, 1.5))
    return result.hexdigest()


@pytest.mark.parametrize("name", ["baseline", "v3", "v4"])
def test_bits_do_not_depend_on_the_instruction_set(name):
    if library.LEVELS[name] > library.core().ds_processor_level():
        pytest.skip(f"this processor cannot run {name}")
    command = [sys.executable, "-c", "import test_columns; print(test_columns.digest())"]
    environment = {**os.environ, "DISTSOFTMAX_ISA": name}
    done = subprocess.run(
        command, cwd=Path(__file__).parent, env=environment, capture_output=True, text=True, check=True, timeout=100
    )
    assert done.stdout.strip() == digest()
