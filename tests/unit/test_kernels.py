"""The kernels over the samples of a shard: against textbook formulas, and among each other to the last bit."""

import numpy as np
import pytest
import scipy.optimize
import scipy.special
from scipy.sparse import block_diag, coo_array, csr_array

from distsoftmax.arithmetic.fixed_point import FixedPoint
from distsoftmax.arithmetic.kernels import Direction, Scorer
from distsoftmax.arithmetic.samples import dense_rows
from distsoftmax.arithmetic.sums import Sums
from distsoftmax.data.features import Compact, SparseFeatures, core_rows

SHAPES = [(1, 1, 2), (7, 3, 2), (300, 5, 4), (1000, 60, 11), (257, 130, 200), (40, 0, 3), (523, 1100, 53)]


def problem(rows, n_features, n_classes, dtype=np.float64, seed=0):
    generator = np.random.default_rng(seed)
    features = generator.standard_normal((rows, n_features)).astype(dtype)
    classes = generator.integers(0, n_classes, rows)
    parameters = generator.standard_normal((n_classes, n_features + 1)) / np.sqrt(n_features + 1)
    return features, classes, parameters


def sparse_problem(rows, n_features, n_classes, dtype=np.float64, seed=0):
    features, classes, parameters = problem(rows, n_features, n_classes, np.float64, seed)
    features *= np.random.default_rng(seed + 1).random(features.shape) < 0.2
    features = features.astype(dtype)
    return features, SparseFeatures.from_csr(csr_array(features)), classes, parameters


def dtype_of(features):
    if isinstance(features, SparseFeatures):
        return features.matrix.dtype
    return features.dtype


def sums_of(features, parameters, bound=2.0**14):
    scale = FixedPoint(np.full(parameters.shape[1], bound))
    return Sums(scale, FixedPoint(bound), len(parameters), isinstance(features, SparseFeatures))


def scorer_of(features, parameters, dtype=None):
    return Scorer(parameters, dtype or dtype_of(features), sparse=isinstance(features, SparseFeatures))


def integers(features, classes, parameters, weights=None, dtype=None, taking=None, bound=2.0**14):
    """Loss and gradient as the core leaves them: int64, no rounding to hide a difference but the specified one."""
    sums = sums_of(features, parameters, bound)
    totals = sums.empty()
    rows = core_rows(features, np.dtype(dtype or dtype_of(features)), classes, weights)
    rows = rows if taking is None else rows.taking(taking)
    scorer_of(features, parameters, dtype).add_loss_and_gradient(rows, totals)
    return totals.array


def loss_and_gradient(features, classes, parameters, weights=None, **options):
    sums = sums_of(features, parameters, options.get("bound", 2.0**14))
    return sums.value(integers(features, classes, parameters, weights, **options))


def hessian_product(features, parameters, direction, weights=None, *, keep=False):
    rows, sums = core_rows(features, dtype_of(features), None, weights), sums_of(features, parameters)
    at, totals = scorer_of(features, parameters), sums.empty()
    kept = at.padded_probabilities(rows) if keep else None
    Direction(direction, at.dtype, sparse=at.is_sparse).add_hessian_product(at, kept, rows, totals)
    return sums.value(totals.array)[1]


def reference(features, classes, parameters):
    """The textbook formulas, by scipy, in float64."""
    scores = features.astype(np.float64) @ parameters[:, :-1].T + parameters[:, -1]
    log_probabilities = scipy.special.log_softmax(scores, axis=1)
    rows = np.arange(len(classes))
    errors = np.exp(log_probabilities)
    errors[rows, classes] -= 1
    gradient = np.column_stack([errors.T @ features.astype(np.float64), errors.sum(axis=0)])
    return -log_probabilities[rows, classes].sum(), gradient


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 3e-5)])
def test_loss_and_gradient_agree_with_the_textbook_formulas(shape, dtype, tolerance):
    features, classes, parameters = problem(*shape, dtype)
    loss, gradient = loss_and_gradient(features, classes, parameters)
    expected_loss, expected_gradient = reference(features, classes, parameters)
    assert loss == pytest.approx(expected_loss, rel=tolerance)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=tolerance, atol=tolerance * np.sqrt(shape[0]))


def test_gradient_agrees_with_finite_differences():
    features, classes, parameters = problem(50, 4, 3)

    def loss(flat):
        return loss_and_gradient(features, classes, flat.reshape(parameters.shape))[0]

    def gradient(flat):
        return loss_and_gradient(features, classes, flat.reshape(parameters.shape))[1].ravel()

    assert scipy.optimize.check_grad(loss, gradient, parameters.ravel()) < 1e-4


@pytest.mark.parametrize(
    ("dtype", "scale"), [(np.float64, 1e4), (np.float64, 1e300), (np.float32, 1e4), (np.float32, 1e37)]
)
def test_huge_scores_give_the_true_loss(dtype, scale):
    features = np.array([[1.0], [-1.0], [0.0]], dtype=dtype)
    parameters = np.array([[scale, 0.0], [-scale, 0.0], [0.0, 0.0]])
    wrong, right, even = (
        loss_and_gradient(features[[row]], np.array([1]), parameters, bound=8 * scale) for row in range(3)
    )
    assert wrong[0] == pytest.approx(2 * scale, rel=1e-6)  # score scale against -scale
    assert right[0] == 0.0
    assert even[0] == pytest.approx(np.log(3), rel=1e-6, abs=scale * 1e-28)
    loss, _ = scorer_of(features, parameters).loss_and_prediction(
        core_rows(features, features.dtype, np.array([0, 1, 0]))
    )
    assert loss == pytest.approx(np.log(3), rel=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_numbers_that_are_not_finite_are_noticed(bad, kind):
    dense, sparse, classes, parameters = sparse_problem(300, 7, 3)
    parameters[1, 2] = bad
    features = dense if kind == "dense" else sparse
    assert integers(features, classes, parameters)[-1] == 1
    assert loss_and_gradient(features, classes, parameters) is None


def test_a_sum_beyond_its_bound_is_noticed():
    features, classes, parameters = problem(300, 7, 3)
    assert integers(features, classes, parameters, bound=2.0**-60)[-1] == 1


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_probabilities_predictions_and_loss_agree_with_scipy(shape):
    features, classes, parameters = problem(*shape)
    scores = features @ parameters[:, :-1].T + parameters[:, -1]
    rows, scorer = core_rows(features, features.dtype, classes), scorer_of(features, parameters)
    np.testing.assert_allclose(scorer.probabilities(rows), scipy.special.softmax(scores, axis=1), rtol=1e-9)
    loss, predicted = scorer.loss_and_prediction(rows)
    np.testing.assert_array_equal(predicted, scores.argmax(axis=1))
    assert loss == pytest.approx(reference(features, classes, parameters)[0], rel=1e-12)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_of_equal_scores_the_first_is_predicted(dtype):
    rows = core_rows(np.ones((4, 1), dtype=dtype), np.dtype(dtype))
    parameters = np.zeros((20, 2))
    parameters[[7, 12], 1] = 1.0
    scorer = Scorer(parameters, dtype, sparse=False)
    assert (
        scorer.loss_and_prediction(core_rows(np.ones((4, 1), dtype=dtype), np.dtype(dtype), np.zeros(4, int)))[1] == 7
    ).all()
    assert rows.n_rows == 4


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_bits_do_not_depend_on_the_alignment_of_the_features(dtype):
    features, classes, parameters = problem(777, 33, 10, dtype)
    expected = integers(features, classes, parameters)
    buffer = np.full(features.size + 64, np.nan, dtype=dtype)
    for shift in (1, 3, 8, 17):
        moved = buffer[shift : shift + features.size].reshape(features.shape)
        moved[:] = features
        np.testing.assert_array_equal(integers(moved, classes, parameters), expected)


@pytest.mark.parametrize("kind", ["dense", "sparse", "compact"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_rows_taken_are_the_rows_copied(kind, dtype):
    dense, sparse, classes, parameters = sparse_problem(400, 33, 10, dtype)
    weights = np.random.default_rng(4).random(400)
    rows = np.random.default_rng(3).permutation(400)[:301].astype(np.int64)
    if kind == "compact":
        stored = np.rint(dense * 10).astype(np.int8)
        features = Compact(stored, None, None, np.dtype(dtype))
        copied = Compact(stored[rows], None, None, np.dtype(dtype))
    else:
        features = dense if kind == "dense" else sparse
        copied = dense[rows] if kind == "dense" else SparseFeatures.from_csr(csr_array(dense[rows]))
    options = {"dtype": dtype} if kind == "compact" else {}
    np.testing.assert_array_equal(
        integers(features, classes, parameters, weights, taking=rows, **options),
        integers(copied, classes[rows], parameters, weights[rows], **options),
    )


@pytest.mark.parametrize("n_features", [300, 1100, 9000])
@pytest.mark.parametrize(("dtype", "stored"), [("float64", None), ("float32", None), ("float32", "int8")])
def test_wide_rows_give_their_first_features_the_bits_of_narrow_ones(n_features, dtype, stored):
    # few wide rows are worked on at once, but 104 of them are one block, as narrow ones are
    few, rows = 5, 100
    generator = np.random.default_rng(3)
    features = (3 * generator.standard_normal((rows, n_features))).astype(stored or dtype)
    classes, parameters = generator.integers(0, 4, rows), np.zeros((4, n_features + 1))
    parameters[:, :few], parameters[:, -1] = generator.standard_normal((4, few)), [0.3, -0.2, 0.1, 0.0]
    wanted = [*range(few), n_features]
    narrow, of_narrow = np.ascontiguousarray(features[:, :few]), parameters[:, wanted]
    loss, gradient = loss_and_gradient(features, classes, parameters, dtype=dtype)
    expected_loss, expected = loss_and_gradient(narrow, classes, of_narrow, dtype=dtype)
    assert loss == expected_loss
    np.testing.assert_array_equal(gradient[:, wanted], expected)
    if stored is None:
        product = hessian_product(features, parameters, parameters)
        np.testing.assert_array_equal(product[:, wanted], hessian_product(narrow, of_narrow, of_narrow))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("rows", "n_classes"), [(9000, 3), (20_000, 9), (3000, 700)])
def test_a_sparse_column_is_one_chain_over_its_rows_however_many_there_are(rows, n_classes, dtype):
    # values are powers of two, so their products are exact, and a chain is what cumsum gives: one addition a row
    generator = np.random.default_rng(8)
    features = generator.choice([0.0, 0.0, 1.0, -2.0, 0.5], (rows, 6)).astype(dtype)
    sparse, classes = SparseFeatures.from_csr(csr_array(features)), generator.integers(0, n_classes, rows)
    parameters = generator.standard_normal((n_classes, 7))
    sums = sums_of(sparse, parameters)
    errors = scorer_of(sparse, parameters).probabilities(core_rows(sparse, np.dtype(dtype), classes))
    errors[np.arange(rows), classes] -= 1
    chains = [np.cumsum((x[:, None] * errors.astype(np.float64))[x != 0], axis=0)[-1] for x in features.T.astype(float)]
    expected = np.rint(np.stack(chains) * sums.gradient.scale[:-1, None]).astype(np.int64)
    array = integers(sparse, classes, parameters)
    np.testing.assert_array_equal(array[: expected.size].reshape(expected.shape), expected)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("rows", "n_classes"), [(700, 3), (700, 20), (9000, 3)])
def test_a_sparse_column_has_the_same_bits_beside_few_columns_and_beside_many(rows, n_classes, dtype):
    few, many = 60, 70_000  # the chains of so many columns do not stay in cache
    dense, sparse, classes, parameters = sparse_problem(rows, few, n_classes, dtype)
    further = coo_array((np.ones(many), (np.zeros(many, dtype=int), np.arange(many))), shape=(1, many))
    matrix = csr_array(block_diag([dense, further]), dtype=dtype)  # a last row, which has none of the few
    wide = np.insert(parameters, few, np.zeros((many, n_classes)), axis=1)
    array = integers(SparseFeatures.from_csr(matrix), np.append(classes, 0), wide)
    of_few = few * n_classes
    np.testing.assert_array_equal(array[:of_few], integers(sparse, classes, parameters)[:of_few])
    beyond = array[of_few : of_few + many * n_classes].reshape(many, n_classes)
    assert beyond[0].any()
    np.testing.assert_array_equal(beyond, np.broadcast_to(beyond[0], beyond.shape))


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_no_rows_have_no_loss(kind):
    dense = np.empty((0, 3))
    features = dense if kind == "dense" else SparseFeatures.from_csr(csr_array(dense))
    assert not integers(features, np.empty(0, dtype=np.int64), np.ones((2, 4))).any()


def test_arguments_are_left_as_they_were():
    features, classes, parameters = problem(200, 5, 3)
    before = features.copy(), classes.copy(), parameters.copy()
    loss_and_gradient(features, classes, parameters)
    for array, copy in zip((features, classes, parameters), before, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("shape", [(1, 1, 2), (300, 50, 4), (257, 130, 200), (1000, 400, 3)], ids=str)
@pytest.mark.parametrize("weighted", [False, True])
def test_sparse_and_dense_agree(shape, weighted):
    dense, sparse, classes, parameters = sparse_problem(*shape)
    weights = np.random.default_rng(5).random(shape[0]) * 3 if weighted else None
    loss, gradient = loss_and_gradient(sparse, classes, parameters, weights)
    expected_loss, expected_gradient = loss_and_gradient(dense, classes, parameters, weights)
    assert loss == pytest.approx(expected_loss, rel=1e-12)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-12, atol=1e-12 * np.abs(expected_gradient).max())
    np.testing.assert_allclose(
        scorer_of(sparse, parameters).probabilities(core_rows(sparse, np.dtype(np.float64))),
        scorer_of(dense, parameters).probabilities(core_rows(dense, np.dtype(np.float64))),
        rtol=1e-12,
        atol=1e-300,
    )


@pytest.mark.parametrize("wide", [False, True])
def test_indices_of_64_bits_give_the_bits_of_those_of_32(wide):
    _, sparse, classes, parameters = sparse_problem(200, 50, 5)
    matrix = sparse.matrix
    other = SparseFeatures(
        sparse.columns,
        csr_array((matrix.data, matrix.indices.astype(np.int64), matrix.indptr.astype(np.int64)), shape=matrix.shape),
    )
    other.matrix.indices, other.matrix.indptr = other.matrix.indices.astype(np.int64), matrix.indptr.astype(np.int64)
    np.testing.assert_array_equal(integers(other, classes, parameters), integers(sparse, classes, parameters))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_a_weight_counts_like_repeated_rows(dtype, kind):
    dense, sparse, classes, parameters = sparse_problem(400, 7, 3, dtype)
    times = np.random.default_rng(3).integers(0, 4, 400)
    expected = loss_and_gradient(dense.repeat(times, axis=0), classes.repeat(times), parameters)
    features = dense if kind == "dense" else sparse
    loss, gradient = loss_and_gradient(features, classes, parameters, times.astype(np.float64))
    tolerance = 1e-12 if dtype == np.float64 else 1e-5
    assert loss == pytest.approx(expected[0], rel=tolerance)
    np.testing.assert_allclose(gradient, expected[1], rtol=tolerance, atol=tolerance * 400)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("weighted", [False, True])
def test_hessian_product_agrees_with_differences_of_the_gradient(kind, weighted):
    dense, sparse, classes, parameters = sparse_problem(300, 9, 4)
    features = dense if kind == "dense" else sparse
    weights = np.random.default_rng(5).random(300) if weighted else None
    direction = np.random.default_rng(6).standard_normal(parameters.shape)
    product = hessian_product(features, parameters, direction, weights)
    step = 1e-5
    ahead, behind = (
        loss_and_gradient(features, classes, parameters + sign * step * direction, weights)[1] for sign in (1, -1)
    )
    np.testing.assert_allclose(product, (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n_classes", [2, 7, 8, 9, 16, 17, 53])
@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_kept_probabilities_change_no_bit_of_a_hessian_product(dtype, n_classes, kind):
    dense, sparse, _, parameters = sparse_problem(300, 9, n_classes, dtype)
    features = dense if kind == "dense" else sparse
    direction = np.random.default_rng(6).standard_normal(parameters.shape)
    products = [hessian_product(features, parameters, direction, keep=keep) for keep in (False, True)]
    assert products[0].tobytes() == products[1].tobytes()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_classes", [2, 9, 30])
def test_the_hessian_of_the_intercepts_is_a_part_of_the_whole(weighted, n_classes):
    features, _, parameters = problem(700, 6, n_classes)
    weights = np.random.default_rng(5).random(700) if weighted else None
    hessian = scorer_of(features, parameters).intercept_hessian(core_rows(features, features.dtype, None, weights))
    for k in (0, n_classes - 1):
        direction = np.zeros_like(parameters)
        direction[k, -1] = 1.0
        expected = hessian_product(features, parameters, direction, weights)[:, -1]
        np.testing.assert_allclose(hessian[:, k], expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("stored", ["uint8", "int8", "uint16", "int16", "float16", "bool"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("centred", [False, True])
def test_small_types_give_the_bits_of_the_floats_they_stand_for(stored, dtype, centred):
    generator = np.random.default_rng(0)
    values = generator.integers(0, 2 if stored == "bool" else 100, (500, 30)).astype(stored)
    mean, inverse = (generator.random(30).astype(dtype) + 1 for _ in range(2))
    floats = (values.astype(dtype) - (mean if centred else 0)) * inverse
    classes, parameters = generator.integers(0, 3, 500), generator.standard_normal((3, 31))
    compact = Compact(values, mean if centred else None, inverse, np.dtype(dtype))
    np.testing.assert_array_equal(
        integers(compact, classes, parameters, dtype=dtype), integers(floats.astype(dtype), classes, parameters)
    )


def test_float32_features_are_computed_in_float64_as_their_copies_are():
    features, classes, parameters = problem(300, 20, 4, np.float32)
    np.testing.assert_array_equal(
        integers(features, classes, parameters, dtype=np.float64),
        integers(features.astype(np.float64), classes, parameters),
    )
    sparse = SparseFeatures.from_csr(csr_array(features))
    copied = SparseFeatures.from_csr(csr_array(features.astype(np.float64)))
    np.testing.assert_array_equal(
        integers(sparse, classes, parameters, dtype=np.float64), integers(copied, classes, parameters)
    )


def test_column_indices_beyond_two_to_the_31_are_right():
    wide = 5_000_000_000
    indices = np.array([3, wide - 1, 3, 2**31 + 7], dtype=np.int64)
    rows = csr_array((np.array([1.0, 2.0, 3.0, 4.0]), indices, np.array([0, 2, 4])), shape=(2, wide))
    sparse = SparseFeatures.from_csr(rows)
    np.testing.assert_array_equal(sparse.columns, [3, 2**31 + 7, wide - 1])
    np.testing.assert_array_equal(sparse.matrix.toarray(), [[1, 0, 2], [3, 4, 0]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dense_rows(np.ones((4, 6))[:, ::2], np.dtype(np.float64)), "contiguous"),
        (lambda: dense_rows(np.ones((4, 3), dtype=np.int64), np.dtype(np.float64)), "int64"),
        (lambda: dense_rows(np.ones((4, 3)), np.dtype(np.float32)), "float64"),
        (lambda: dense_rows(np.ones((4, 3)), np.dtype(np.float64), np.zeros(3, int)), "classes"),
        (lambda: dense_rows(np.ones((4, 3)), np.dtype(np.float64), weights=np.ones(4, np.float32)), "weights"),
        (lambda: integers(np.ones((4, 3)), np.array([0, 1, 2, 1]), np.ones((2, 4))), "classes"),
        (lambda: integers(np.ones((4, 3)), np.array([0, 1, -1, 1]), np.ones((2, 4))), "classes"),
        (lambda: integers(np.ones((4, 3)), np.zeros(4, int), np.ones((2, 6))), "features"),
    ],
)
def test_the_door_refuses_what_does_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call()
