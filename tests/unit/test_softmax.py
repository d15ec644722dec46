import tracemalloc

import numpy as np
import pytest
import scipy.optimize
import scipy.special
from scipy.sparse import csr_array

from distsoftmax.data.features import Compact, SparseFeatures
from distsoftmax.objective.linear import SCORES_BYTES, block_rows
from distsoftmax.objective.softmax import HessianKernel, SoftmaxKernel

SHAPES = [(1, 1, 2), (7, 3, 2), (300, 5, 4), (1000, 60, 11), (257, 130, 200)]


def problem(rows, n_features, n_classes, dtype=np.float64, seed=0):
    generator = np.random.default_rng(seed)
    features = generator.standard_normal((rows, n_features)).astype(dtype)
    classes = generator.integers(0, n_classes, rows)
    parameters = generator.standard_normal((n_classes, n_features + 1))
    return features, classes, parameters


def whole(gradient, shape):
    """A kernel's gradient in one array, (n_classes, n_features + 1)."""
    result = np.zeros(shape)
    values, columns = gradient.coef.values, gradient.coef.columns
    if columns is None:
        result[:, :-1] = values
    else:
        result[:, columns] = values.T
    result[:, -1] = gradient.intercept
    return result


def loss_and_gradient(features, classes, parameters, weights=None):
    sparse = isinstance(features, SparseFeatures)
    dtype = features.matrix.dtype if sparse else features.dtype
    kernel = SoftmaxKernel(parameters, dtype, sparse=sparse)
    loss, gradient = kernel.loss_and_gradient(features, classes, weights)
    return loss, whole(gradient, parameters.shape)


def reference(features, classes, parameters):
    """The textbook formulas, by scipy, without blocks, in float64."""
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
    np.testing.assert_allclose(gradient, expected_gradient, rtol=tolerance, atol=tolerance * shape[0])


def test_gradient_agrees_with_finite_differences():
    features, classes, parameters = problem(50, 4, 3)

    def loss(flat):
        return loss_and_gradient(features, classes, flat.reshape(parameters.shape))[0]

    def gradient(flat):
        return loss_and_gradient(features, classes, flat.reshape(parameters.shape))[1].ravel()

    assert scipy.optimize.check_grad(loss, gradient, parameters.ravel()) < 1e-4
    numeric = scipy.optimize.approx_fprime(parameters.ravel(), loss, 1e-7)
    np.testing.assert_allclose(gradient(parameters.ravel()), numeric, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("dtype", "scale"), [(np.float64, 1e4), (np.float64, 1e300), (np.float32, 1e4), (np.float32, 1e37)]
)
def test_huge_scores_give_the_true_loss(dtype, scale):
    features = np.array([[1.0], [-1.0], [0.0]], dtype=dtype)
    parameters = np.array([[scale, 0.0], [-scale, 0.0], [0.0, 0.0]])
    wrong, right, even = (loss_and_gradient(features[[row]], np.array([1]), parameters) for row in range(3))
    assert wrong[0] == pytest.approx(2 * scale, rel=1e-6)  # score scale against -scale
    assert right[0] == 0.0
    assert even[0] == pytest.approx(np.log(3), rel=1e-6)
    np.testing.assert_allclose(wrong[1][:, -1], [1, -1, 0], atol=1e-30)
    kernel = SoftmaxKernel(parameters, features.dtype)
    assert kernel.loss_and_accuracy(features, np.array([0, 1, 0])).total == pytest.approx(np.log(3), rel=1e-6)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_probabilities_and_accuracy_agree_with_scipy(shape):
    features, classes, parameters = problem(*shape)
    scores = features @ parameters[:, :-1].T + parameters[:, -1]
    kernel = SoftmaxKernel(parameters, features.dtype)
    np.testing.assert_allclose(kernel.probabilities(features), scipy.special.softmax(scores, axis=1), rtol=1e-9)
    found = kernel.loss_and_accuracy(features, classes)
    assert found.n_correct == np.count_nonzero(scores.argmax(axis=1) == classes)
    assert found.total == pytest.approx(reference(features, classes, parameters)[0], rel=1e-12)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_bits_do_not_depend_on_the_alignment_of_the_features(dtype):
    features, classes, parameters = problem(777, 33, 10, dtype)
    expected = loss_and_gradient(features, classes, parameters)
    buffer = np.empty(features.size + 64, dtype=dtype)
    for shift in (1, 3, 8, 17):
        moved = buffer[shift : shift + features.size].reshape(features.shape)
        moved[:] = features
        loss, gradient = loss_and_gradient(moved, classes, parameters)
        assert loss == expected[0]
        assert gradient.tobytes() == expected[1].tobytes()


def test_no_rows_have_no_loss():
    loss, gradient = loss_and_gradient(np.empty((0, 3)), np.empty(0, dtype=np.intp), np.ones((2, 4)))
    assert loss == 0
    assert not gradient.any()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_kernel_used_again_gives_the_same_bits(dtype):
    first, second = problem(500, 20, 10, dtype, seed=1), problem(90, 20, 10, dtype, seed=2)
    kernel = SoftmaxKernel(first[2], np.dtype(dtype))

    def call(features, classes, parameters):
        loss, gradient = kernel.loss_and_gradient(features, classes)
        return loss, whole(gradient, parameters.shape).tobytes()

    once = call(*first)
    call(*second)
    assert call(*first) == once


def test_no_probability_is_denormal():
    """Denormal factors slow a product down several times."""
    features = np.array([[1.0]], dtype=np.float32)
    parameters = np.array([[0.0, 0.0], [-95.0, 0.0]])  # exp(-95) is denormal in float32
    _, gradient = loss_and_gradient(features, np.array([0]), parameters)
    assert np.finfo(np.float32).tiny < gradient[1, 0] < 1e-30


def test_arguments_are_left_as_they_were():
    features, classes, parameters = problem(200, 5, 3)
    before = features.copy(), classes.copy(), parameters.copy()
    loss_and_gradient(features, classes, parameters)
    for array, copy in zip((features, classes, parameters), before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_no_temporary_is_larger_than_a_block_by_classes():
    features, classes, parameters = problem(200_000, 4, 20)
    tracemalloc.start()
    SoftmaxKernel(parameters, features.dtype).loss_and_gradient(features, classes)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * SCORES_BYTES  # all scores at once would take 32 MB


@pytest.mark.parametrize("rows", [1, 31, 938, 16_384])
@pytest.mark.parametrize("n_classes", [2, 10, 1000, 100_000])
def test_blocks_are_even_and_stay_in_cache(rows, n_classes):
    size = block_rows(rows, 50, n_classes, 8)
    assert 1 <= size <= rows
    assert size * n_classes * 8 <= SCORES_BYTES or size <= 32


def sparse_problem(rows, n_features, n_classes, dtype=np.float64, seed=0):
    features, classes, parameters = problem(rows, n_features, n_classes, np.float64, seed)
    features *= np.random.default_rng(seed + 1).random(features.shape) < 0.2
    features = features.astype(dtype)
    return features, SparseFeatures.from_csr(csr_array(features)), classes, parameters


@pytest.mark.parametrize("shape", [(1, 1, 2), (300, 50, 4), (257, 130, 200), (1000, 400, 3)], ids=str)
@pytest.mark.parametrize("weighted", [False, True])
def test_sparse_and_dense_agree(shape, weighted):
    dense, sparse, classes, parameters = sparse_problem(*shape)
    weights = np.random.default_rng(5).random(shape[0]) * 3 if weighted else None
    expected = loss_and_gradient(dense, classes, parameters, weights)
    found = loss_and_gradient(sparse, classes, parameters, weights)
    assert found[0] == pytest.approx(expected[0], rel=1e-12)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-12, atol=1e-12 * np.abs(expected[1]).max())
    dense_kernel = SoftmaxKernel(parameters, dense.dtype)
    sparse_kernel = SoftmaxKernel(parameters, dense.dtype, sparse=True)
    assert sparse_kernel.loss_and_accuracy(sparse, classes).n_correct == (
        dense_kernel.loss_and_accuracy(dense, classes).n_correct
    )
    np.testing.assert_allclose(
        sparse_kernel.probabilities(sparse), dense_kernel.probabilities(dense), rtol=1e-12, atol=1e-300
    )


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_weight_counts_like_repeated_rows(dtype):
    features, classes, parameters = problem(400, 7, 3, dtype)
    times = np.random.default_rng(3).integers(0, 4, 400)
    expected = loss_and_gradient(features.repeat(times, axis=0), classes.repeat(times), parameters)
    found = loss_and_gradient(features, classes, parameters, times.astype(np.float64))
    tolerance = 1e-12 if dtype == np.float64 else 1e-5
    assert found[0] == pytest.approx(expected[0], rel=tolerance)
    np.testing.assert_allclose(found[1], expected[1], rtol=tolerance, atol=tolerance * 400)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("weighted", [False, True])
def test_hessian_product_agrees_with_differences_of_the_gradient(kind, weighted):
    dense, sparse, classes, parameters = sparse_problem(300, 9, 4)
    features = dense if kind == "dense" else sparse
    weights = np.random.default_rng(5).random(300) if weighted else None
    direction = np.random.default_rng(6).standard_normal(parameters.shape)
    kernel = SoftmaxKernel(parameters, np.dtype(np.float64), sparse=kind == "sparse")
    along = HessianKernel(direction, np.dtype(np.float64), sparse=kind == "sparse")
    found = whole(along.product(features, kernel.probability_blocks(features), weights), parameters.shape)
    step = 1e-5
    ahead, behind = (
        loss_and_gradient(features, classes, parameters + sign * step * direction, weights)[1] for sign in (1, -1)
    )
    np.testing.assert_allclose(found, (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("stored", ["uint8", "int8", "int16", "float16", "bool"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_small_types_give_the_bits_of_the_floats_they_stand_for(stored, dtype):
    generator = np.random.default_rng(0)
    values = generator.integers(0, 2 if stored == "bool" else 100, (500, 30)).astype(stored)
    mean, scale = (generator.random(30).astype(dtype) + 1 for _ in range(2))
    floats = (values.astype(dtype) - mean) / scale
    classes, parameters = generator.integers(0, 3, 500), generator.standard_normal((3, 31))
    kernel = SoftmaxKernel(parameters, np.dtype(dtype))
    found = kernel.loss_and_gradient(Compact(values, mean, scale, np.dtype(dtype)), classes)
    loss, gradient = found[0], whole(found[1], parameters.shape)
    expected = loss_and_gradient(floats, classes, parameters)
    assert loss == expected[0]
    assert gradient.tobytes() == expected[1].tobytes()


def test_column_indices_beyond_two_to_the_31_are_right():
    wide = 5_000_000_000
    indices = np.array([3, wide - 1, 3, 2**31 + 7], dtype=np.int64)
    rows = csr_array((np.array([1.0, 2.0, 3.0, 4.0]), indices, np.array([0, 2, 4])), shape=(2, wide))
    sparse = SparseFeatures.from_csr(rows)
    np.testing.assert_array_equal(sparse.columns, [3, 2**31 + 7, wide - 1])
    np.testing.assert_array_equal(sparse.matrix.toarray(), [[1, 0, 2], [3, 4, 0]])
