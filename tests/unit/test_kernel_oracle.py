"""The kernels against the prose: each operation by exact rationals, in SPECIFICATION.md's order, to the last bit."""

import math
from fractions import Fraction

import numpy as np
import oracle
import pytest
from scipy.sparse import csr_array

from distsoftmax.arithmetic.fixed_point import FixedPoint
from distsoftmax.arithmetic.kernels import Direction, Scorer
from distsoftmax.arithmetic.sums import Sums
from distsoftmax.data.features import Compact, SparseFeatures, core_rows

CHAINS = 16
LEAST = {"float32": -75.0, "float64": -690.0}
KINDS = ["float32", "float64"]
BOUND = 2.0**12  # of every sum


# --- SPECIFICATION.md, "The samples of a shard" ---


def block_size(n_rows, n_features, n_classes):
    largest = min(max(2**20 // (n_features + n_classes) // 8 * 8, 32), 256)
    of_block = math.ceil(n_rows / math.ceil(n_rows / largest))
    return math.ceil(of_block / 8) * 8


def scores(parameters, row, kind):
    """Scores of a row, given as (column, value) in the order in which its features are taken."""
    return [
        oracle.chain([(x, coef[j]) for j, x in row], kind, start=coef[-1])
        for coef in ([oracle.convert(number, kind) for number in of_class] for of_class in parameters.tolist())
    ]


def over_classes(terms, kind, combine):
    chains = [combine([term for k, term in enumerate(terms) if k % CHAINS == i]) for i in range(CHAINS)]
    return oracle.tree(chains, kind)


def softmax(z, kind):
    """Return the largest score, the sum and the probabilities."""
    largest = max(z)
    below = [oracle.subtract(number, largest, kind) for number in z]
    e = [oracle.exp(t, kind) if t >= LEAST[kind] else 0.0 for t in below]
    s = over_classes(e, kind, lambda terms: oracle.total(terms, kind))
    inverse = oracle.divide(1.0, s, kind)
    return largest, s, [oracle.multiply(number, inverse, kind) for number in e]


def integers(value):
    """The two integers that a sum is rounded to."""
    scale = 2 ** int(FixedPoint(BOUND).shift)
    first = round(Fraction(value) * scale)
    return first, round((Fraction(value) * scale - first) * 2**40)


def gradient_sums(rows, errors, n_features, kind, sparse):
    """Sum errors times features: (n_classes, n_features + 1), as float64."""
    n_classes = len(errors[0])
    size = block_size(len(rows), 0 if sparse else n_features, n_classes)
    blocks = [range(start, min(start + size, len(rows))) for start in range(0, len(rows), size)]
    result = np.zeros((n_classes, n_features + 1))
    for k in range(n_classes):
        for j in range(n_features):
            terms = [[(errors[r][k], x) for r in block for column, x in rows[r] if column == j] for block in blocks]
            if sparse:
                result[k, j] = oracle.chain([term for of_block in terms for term in of_block], "float64")
            else:
                result[k, j] = oracle.total([oracle.chain(of_block, kind) for of_block in terms], "float64")
        of_blocks = [oracle.total([errors[r][k] for r in block], kind) for block in blocks]
        result[k, -1] = oracle.total(of_blocks, "float64")
    return result


def weighted(errors, weight, kind):
    return errors if weight is None else [oracle.multiply(e, oracle.convert(weight, kind), kind) for e in errors]


def loss_and_gradient(parameters, rows, classes, weights, kind, sparse):
    loss, errors = 0.0, []
    for i, row in enumerate(rows):
        z, y = scores(parameters, row, kind), classes[i]
        largest, s, p = softmax(z, kind)
        of_row = oracle.subtract(oracle.log(s), oracle.subtract(z[y], largest, kind), "float64")
        weight = None if weights is None else weights[i]
        loss = oracle.add(loss, of_row, "float64") if weight is None else oracle.fma(weight, of_row, loss, "float64")
        p[y] = oracle.subtract(p[y], 1.0, kind)
        errors.append(weighted(p, weight, kind))
    return loss, gradient_sums(rows, errors, parameters.shape[1] - 1, kind, sparse)


def hessian_product(parameters, direction, rows, weights, kind, sparse):
    errors = []
    for i, row in enumerate(rows):
        p = softmax(scores(parameters, row, kind), kind)[2]
        u = scores(direction, row, kind)
        mean = over_classes(list(zip(p, u, strict=True)), kind, lambda terms: oracle.chain(terms, kind))
        v = [oracle.multiply(oracle.subtract(b, mean, kind), a, kind) for a, b in zip(p, u, strict=True)]
        errors.append(weighted(v, None if weights is None else weights[i], kind))
    return gradient_sums(rows, errors, parameters.shape[1] - 1, kind, sparse)


def intercept_hessian(parameters, rows, weights, kind):
    probabilities = [softmax(scores(parameters, row, kind), kind)[2] for row in rows]
    q = [weighted(p, None if weights is None else weights[i], kind) for i, p in enumerate(probabilities)]
    n_classes = len(parameters)
    sums = gradient_sums([list(enumerate(p)) for p in probabilities], q, n_classes, kind, sparse=False)
    diagonal = [oracle.total([row[k] for row in q], "float64") for k in range(n_classes)]
    return np.array(
        [
            [oracle.subtract(diagonal[k] if k == m else 0.0, sums[k, m], "float64") for m in range(n_classes)]
            for k in range(n_classes)
        ]
    )


# --- problems, and how the core sees them ---


class Problem:
    def __init__(self, seed, n_rows, n_features, n_classes, kind, storage, *, is_weighted):
        generator = np.random.default_rng(seed)
        self.kind, self.dtype, self.sparse = kind, np.dtype(kind), storage == "sparse"
        self.classes = generator.integers(0, n_classes, n_rows)
        self.weights = generator.random(n_rows) * 3 if is_weighted else None
        # scores from tiny to far below the least exponent
        spread = 10.0 ** generator.uniform(-2, 2, (n_classes, 1))
        self.parameters = generator.standard_normal((n_classes, n_features + 1)) * spread
        self.direction = generator.standard_normal((n_classes, n_features + 1))
        if storage == "int8":
            stored = generator.integers(-9, 9, (n_rows, n_features)).astype(np.int8)
            mean, inverse = (generator.standard_normal(n_features).astype(kind) for _ in range(2))
            self.features = Compact(stored, mean, inverse, self.dtype)
            dense = [
                [
                    oracle.multiply(oracle.subtract(float(x), m, kind), i, kind)
                    for x, m, i in zip(row, mean.tolist(), inverse.tolist(), strict=True)
                ]
                for row in stored.tolist()
            ]
        else:
            values = generator.standard_normal((n_rows, n_features)).astype(kind)
            values[generator.random(values.shape) < 0.2] *= self.dtype.type(1e-30)
            if self.sparse:
                values[generator.random(values.shape) < 0.6] = 0
            self.features = SparseFeatures.from_csr(csr_array(values)) if self.sparse else values
            dense = values.tolist()
        self.rows = [[(j, x) for j, x in enumerate(row) if not self.sparse or x != 0] for row in dense]
        self.core_rows = core_rows(self.features, self.dtype, self.classes, self.weights)
        self.sums = Sums(FixedPoint(np.full(n_features + 1, BOUND)), FixedPoint(BOUND), n_classes, self.sparse)
        self.scorer = Scorer(self.parameters, self.dtype, sparse=self.sparse)

    def expected(self, loss, gradient):
        """The array of `Sums` that a loss and a gradient are rounded to."""
        coef = gradient[:, :-1].T if self.sparse else gradient[:, :-1]
        numbers = [*coef.ravel().tolist(), *gradient[:, -1].tolist()]
        return [*(integers(number)[0] for number in numbers), *integers(loss), 0]


SHAPES = [(5, 3, 2), (300, 2, 3), (20, 4, 9), (9, 5, 40), (11, 0, 4), (3, 70, 2)]  # the second has two blocks
STORAGES = ["float", "sparse", "int8"]


@pytest.fixture(params=[(shape, storage) for shape in SHAPES for storage in STORAGES], ids=str)
def problem(request, kind, is_weighted):
    (n_rows, n_features, n_classes), storage = request.param
    return Problem(n_rows, n_rows, n_features, n_classes, kind, storage, is_weighted=is_weighted)


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(params=[False, True], ids=["", "weighted"])
def is_weighted(request):
    return request.param


@pytest.mark.sweep(12)
def test_loss_and_gradient_are_the_specified_bits(problem):
    totals = problem.sums.empty()
    problem.scorer.add_loss_and_gradient(problem.core_rows, totals)
    loss, gradient = loss_and_gradient(
        problem.parameters, problem.rows, problem.classes, problem.weights, problem.kind, problem.sparse
    )
    assert totals.array.tolist() == problem.expected(loss, gradient)


@pytest.mark.sweep(12)
def test_a_hessian_product_is_the_specified_bits(problem):
    totals = problem.sums.empty()
    direction = Direction(problem.direction, problem.dtype, sparse=problem.sparse)
    direction.add_hessian_product(problem.scorer, None, problem.core_rows, totals)
    product = hessian_product(
        problem.parameters, problem.direction, problem.rows, problem.weights, problem.kind, problem.sparse
    )
    assert totals.array.tolist() == problem.expected(0.0, product)


@pytest.mark.sweep(12)
def test_probabilities_and_predictions_are_the_specified_bits(problem):
    expected = [softmax(scores(problem.parameters, row, problem.kind), problem.kind) for row in problem.rows]
    np.testing.assert_array_equal(problem.scorer.probabilities(problem.core_rows), [p for _, _, p in expected])
    loss, predicted = problem.scorer.loss_and_prediction(problem.core_rows)
    all_scores = [scores(problem.parameters, row, problem.kind) for row in problem.rows]
    assert predicted.tolist() == [z.index(max(z)) for z in all_scores]
    unweighted = [
        oracle.subtract(oracle.log(s), oracle.subtract(z[y], largest, problem.kind), "float64")
        for z, y, (largest, s, _) in zip(all_scores, problem.classes, expected, strict=True)
    ]
    assert loss == oracle.total(unweighted, "float64")


@pytest.mark.sweep(12)
def test_the_hessian_of_the_intercepts_is_the_specified_bits(problem):
    expected = intercept_hessian(problem.parameters, problem.rows, problem.weights, problem.kind)
    np.testing.assert_array_equal(problem.scorer.intercept_hessian(problem.core_rows), expected)


def test_the_oracle_is_near_the_truth():
    """A check of the oracle itself: in float64 it is the textbook's loss but for rounding."""
    problem = Problem(1, 20, 4, 5, "float64", "float", is_weighted=False)
    loss, _ = loss_and_gradient(problem.parameters, problem.rows, problem.classes, None, "float64", sparse=False)
    z = problem.features @ problem.parameters[:, :-1].T + problem.parameters[:, -1]
    z -= z.max(axis=1, keepdims=True)
    exact = math.fsum(np.log(np.exp(z).sum(axis=1)) - z[np.arange(20), problem.classes])
    assert loss == pytest.approx(exact, rel=1e-12)
