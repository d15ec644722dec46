"""Models of the hessian against the hessian's own formula, and its products against differences of the gradient."""

import numpy as np
import pytest
import scipy.optimize
import scipy.special
from objectives import Formula, distributed, real, run
from scipy.sparse import csr_array
from sklearn.datasets import load_breast_cancer, load_digits

from distsoftmax.config import ObjectiveConfig, SolverConfig
from distsoftmax.objective import preconditioners
from distsoftmax.objective.row_sample import draw_rows, mean_squares
from distsoftmax.objective.sampled_hessians import KroneckerHessian, SampleHessian
from distsoftmax.solvers import make_solver
from distsoftmax.solvers.protocol import Refits

RANKS = (1, 2, 3, 5)


def samples(seed=0, rows=150, n_features=5, n_classes=3, weighted=False):
    generator = np.random.default_rng(seed)
    features = generator.standard_normal((rows, n_features)) * (generator.random((rows, n_features)) < 0.6)
    features *= generator.uniform(0.5, 3, n_features)
    labels = np.concatenate([np.arange(n_classes), generator.integers(0, n_classes, rows - n_classes)])
    weights = generator.integers(1, 5, rows) / 2.0 if weighted else None
    return features, labels, weights


def formula(features, labels, weights, config):
    weights = np.ones(len(labels)) if weights is None else weights
    return Formula(np.asarray(features, dtype=np.float64), labels, weights, config)


def point(shape, seed=3):
    return np.random.default_rng(seed).standard_normal(shape)


def matrix_of(apply, shape):
    """The matrix of a linear map of parameters, over the flattened ones."""
    size = shape[0] * shape[1]
    return np.column_stack([apply(unit.reshape(shape)).ravel() for unit in np.eye(size)])


def penalty(l2, shape, intercept=True):
    """The hessian of the penalty; without an intercept its place is penalised, too."""
    return l2 * np.diag(np.tile([1.0] * (shape[1] - 1) + [0.0 if intercept else 1.0], shape[0]))


def balanced(gradient):
    """A gradient as the loss has them: of the intercepts, which all rise together for nothing, the sum is 0."""
    gradient = gradient.copy()
    gradient[:, -1] -= gradient[:, -1].mean()
    return gradient


def assert_inverse(apply, hessian, shape, tolerance=1e-6):
    for seed in range(5):
        gradient = balanced(point(shape, seed))
        np.testing.assert_allclose((hessian @ apply(gradient).ravel()).reshape(shape), gradient, atol=tolerance)


def assert_symmetric_positive_definite(matrix):
    np.testing.assert_allclose(matrix, matrix.T, rtol=0, atol=1e-6 * np.abs(matrix).max())
    assert np.linalg.eigvalsh((matrix + matrix.T) / 2).min() > 0


def test_the_formulas_hessian_agrees_with_differences_of_its_gradient():
    """The judge is judged."""
    config = ObjectiveConfig(l2=0.3)
    exact = formula(*samples(weighted=True), config)
    parameters = point(exact.shape)
    columns = []
    for unit in np.eye(parameters.size):
        step = 1e-6 * unit.reshape(parameters.shape)
        columns.append((exact.gradient(parameters + step) - exact.gradient(parameters - step)).ravel() / 2e-6)
    expected = exact.hessian(parameters)
    expected[np.diag_indices(len(expected))] += np.tile([0.3] * 5 + [0], 3)
    np.testing.assert_allclose(np.column_stack(columns), expected, atol=1e-8)
    flat = parameters.ravel()
    error = scipy.optimize.check_grad(
        lambda x: float(exact.value(x.reshape(parameters.shape), np.float64)),
        lambda x: exact.gradient(x.reshape(parameters.shape)).ravel(),
        flat,
    )
    assert error < 1e-6


# --- the hessian's products ---


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("kind", ["dense", "sparse", "float32", "streamed"])
def test_products_are_those_of_the_formulas_hessian(kind, weighted, intercept):
    features, labels, weights = samples(weighted=weighted)
    config = ObjectiveConfig(l2=0.01, intercept=intercept)
    given = {"sparse": csr_array(features), "float32": features.astype(np.float32)}.get(kind, features)
    options = {"memory": "2KiB", "shards": 20} if kind == "streamed" else {}
    function = real(given, labels, config, weights, **options)
    exact = formula(features.astype(given.dtype), labels, weights, config)
    parameters, direction = point(exact.shape), point(exact.shape, 4)
    expected = (exact.hessian(parameters) @ direction.ravel()).reshape(exact.shape)
    expected[:, :-1] += 0.01 * direction[:, :-1]
    before = parameters.copy(), direction.copy()
    curvature = function.curvature(parameters)
    tolerance = 1e-5 if kind == "float32" else 1e-11
    for _ in range(2):  # the second with what the first has kept
        np.testing.assert_allclose(curvature.product(direction), expected, atol=tolerance)
    np.testing.assert_array_equal(parameters, before[0])
    np.testing.assert_array_equal(direction, before[1])
    if not intercept:
        assert not curvature.product(direction)[:, -1].any()


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("options", [{"center": "yes"}, {"center": "no"}, {"valid_fraction": 0.3}], ids=str)
def test_products_agree_with_differences_of_the_objectives_own_gradient(kind, options):
    """Standardised features, centred ones among them."""
    features, labels, weights = samples(weighted=True)
    features = features + 2.0
    given = csr_array(features) if kind == "sparse" else features
    function = real(given, labels, ObjectiveConfig(l2=0.01), weights, standardize=True, **options)
    parameters, direction = point(function.shape), point(function.shape, 4)
    ahead, behind = (function(parameters + sign * 1e-5 * direction).gradient for sign in (1, -1))
    computed = function.curvature(parameters).product(direction)
    np.testing.assert_allclose(computed, (ahead - behind) / 2e-5, atol=1e-8)


def test_the_product_with_zero_is_zero_and_with_what_is_not_finite_is_not():
    features, labels, _ = samples()
    function = real(features, labels, ObjectiveConfig())
    curvature = function.curvature(point(function.shape))
    assert not curvature.product(np.zeros(function.shape)).any()
    assert not np.isfinite(curvature.product(np.full(function.shape, 1e308))).all()


@pytest.mark.parametrize("seed", range(5))
def test_the_hessian_is_symmetric_and_positive_semidefinite(seed):
    features, labels, weights = samples(seed, weighted=True)
    function = real(features, labels, ObjectiveConfig(), weights)
    matrix = matrix_of(function.curvature(point(function.shape, seed)).product, function.shape)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-14)
    assert np.linalg.eigvalsh(matrix).min() > -1e-14


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", ["dense", "sparse", "centred", "streamed", "uint8"])
def test_products_have_the_same_bits_on_any_number_of_ranks(kind, dtype):
    features, labels, weights = samples(weighted=True)
    options = {"shards": 20, "dtype": dtype, "standardize": kind in ("centred", "uint8")}
    if kind in ("sparse", "centred"):
        features = csr_array(features)
    if kind == "centred":
        options["center"] = "yes"
    if kind == "uint8":
        features = np.random.default_rng(0).integers(0, 9, features.shape).astype(np.uint8)

    def work(function):
        curvature = function.curvature(point(function.shape))
        return tuple(curvature.product(point(function.shape, seed)).tobytes() for seed in (4, 5))

    config = ObjectiveConfig(l2=0.01)
    computed = {
        outcome
        for ranks in RANKS
        for memory in ([None, "2KiB"] if kind == "streamed" else [None])
        for outcome in distributed(
            work, features, labels, config, weights, ranks=ranks, **options, **({"memory": memory} if memory else {})
        )
    }
    assert len(computed) == 1


# --- models of it ---


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("intercept", [True, False])
def test_with_all_rows_sampled_the_preconditioner_is_the_inverse_of_the_hessian(kind, weighted, intercept):
    features, labels, weights = samples(rows=20, weighted=weighted)  # far fewer rows than are sampled
    config = ObjectiveConfig(l2=0.05, intercept=intercept)
    function = real(csr_array(features) if kind == "sparse" else features, labels, config, weights)
    parameters = point(function.shape)
    if not intercept:
        parameters[:, -1] = 0.0
    exact = formula(features, labels, weights, config)
    expected = exact.hessian(parameters) + penalty(0.05, exact.shape, intercept)
    assert_inverse(function.preconditioner(parameters), expected, exact.shape)


@pytest.mark.parametrize("seed", range(4))
def test_the_sampled_hessian_is_inverted_with_the_curvature_that_is_missing(seed):
    generator = np.random.default_rng(seed)
    rows = np.column_stack([generator.standard_normal((60, 4)), np.ones(60)])
    weights = generator.random(60)
    weights /= weights.sum()
    missing = np.array([0.0, 0.5, 2.0, 0.0, 0.0])
    parameters = point((3, 5), seed)
    apply = SampleHessian(rows, weights, missing, intercept=True)(parameters, 0.02)
    p = np.exp(rows @ parameters.T)
    p /= p.sum(axis=1, keepdims=True)
    expected = penalty(0.02, (3, 5))
    for row, of_row, weight in zip(rows, p, weights, strict=True):
        expected += weight * np.kron(np.diag(of_row) - np.outer(of_row, of_row), np.outer(row, row))
    spread = weights @ (p * (1 - p))
    expected += np.kron(np.diag(spread), np.diag(missing))
    assert_inverse(apply, expected, (3, 5))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("seed", range(3))
def test_the_kronecker_product_of_the_damped_factors_is_inverted(seed, scale):
    """In units of means and deviations, each factor damped, with pi balanced to a power of 2; up to float32."""
    generator = np.random.default_rng(seed)
    rows = np.column_stack([scale * (3 + generator.standard_normal((200, 4)) * [1, 2, 4, 1]), np.ones(200)])
    weights = generator.random(200)
    weights /= weights.sum()
    missing = scale**2 * np.array([0.0, 0.5, 2.0, 0.0, 0.0])
    parameters = point((3, 5), seed) / np.array([*4 * [scale], 1.0])
    l2 = 0.02 * scale**2
    apply = KroneckerHessian(rows, weights, missing, intercept=True)(parameters, l2)
    matrix = matrix_of(apply, (3, 5))
    assert_symmetric_positive_definite(matrix)
    p = scipy.special.softmax(rows @ parameters.T, axis=1)
    between = sum(
        weight * (np.diag(of_row) - np.outer(of_row, of_row)) for of_row, weight in zip(p, weights, strict=True)
    )
    mean = np.append(weights @ rows[:, :-1], 0.0)
    squares = weights @ (rows - mean) ** 2 + missing
    own = (rows - mean) / np.sqrt(squares)
    gram = (own * weights[:, None]).T @ own + np.diag(missing / squares)
    ratio = np.trace(gram) / 5 * squares[:-1].mean() / (np.trace(between) / 3)
    balance = np.sqrt([power for power in 4.0 ** np.arange(-20, 20) if ratio / 2 < power <= 2 * ratio])
    assert balance.size == 1
    damped = between + np.sqrt(l2) / balance * np.eye(3), gram + np.sqrt(l2) * balance * np.diag([*1 / squares[:-1], 0])
    to_own = np.diag(np.sqrt(squares))  # of the parameters of a class
    to_own[-1] += mean
    to_own = np.kron(np.eye(3), to_own)
    expected = to_own.T @ np.kron(*damped) @ to_own
    np.testing.assert_allclose(matrix @ expected, np.eye(15), atol=2e-2)
    np.testing.assert_allclose(np.linalg.inv(matrix), expected, atol=2e-3 * np.abs(expected).max())


@pytest.fixture(params=["sample", "kronecker"])
def model(request, monkeypatch):
    """Which of the two models small problems get."""
    if request.param == "kronecker":
        monkeypatch.setattr(preconditioners, "LARGEST_HESSIAN", 0)
    return request.param


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("l2", [0.0, 1e-3, 10.0])
@pytest.mark.parametrize("far", [0.1, 1.0, 30.0])
def test_preconditioners_are_symmetric_and_positive_definite(model, scale, l2, far):
    """Far from 0 almost all probabilities are 0 or 1."""
    features, labels, weights = samples(1, weighted=True)
    function = real(features * scale, labels, ObjectiveConfig(l2=l2), weights)
    parameters = far * point(function.shape)
    parameters[:, :-1] /= scale
    matrix = matrix_of(function.preconditioner(parameters), function.shape)
    assert np.isfinite(matrix).all()
    # compared in the units of its own diagonal: the curvatures of features and intercept are many decades apart
    roots = np.sqrt(np.diag(matrix))
    assert_symmetric_positive_definite(matrix / np.outer(roots, roots) + 1e-7 * np.eye(len(matrix)))


def test_a_feature_that_no_sampled_row_has_gets_its_curvature_from_its_mean_square(model, monkeypatch):
    """Without it a step would be 1 / l2 long, thousands of times too far."""
    generator = np.random.default_rng(0)
    rows = 20_000
    features = np.zeros((rows, 3))
    features[:, 0] = generator.standard_normal(rows)
    features[:, 1] = generator.standard_normal(rows)
    features[generator.choice(rows, 40, replace=False), 2] = 3.0
    labels = generator.integers(0, 3, rows)
    for name in ("draw_rows",):
        draw = getattr(preconditioners, name)

        def without(*arguments, draw=draw):
            sampled, weights = draw(*arguments)
            kept = sampled[:, 2] == 0
            return sampled[kept], weights[kept] / weights[kept].sum()

        monkeypatch.setattr(preconditioners, name, without)
    function = real(features, labels, ObjectiveConfig(l2=1e-9))
    parameters = np.zeros(function.shape)
    apply = function.preconditioner(parameters)
    unit = np.zeros(function.shape)
    unit[:, 2] = [1, -1, 0]
    true = np.vdot(unit, function.curvature(parameters).product(unit)) / 2
    computed = 1 / (np.vdot(unit, apply(unit)) / 2)
    assert true / 4 <= computed <= 4 * true


@pytest.mark.sweep(6)
@pytest.mark.parametrize("kind", ["dense", "sparse", "centred"])
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_preconditioners_have_the_same_bits_on_any_number_of_ranks(model, kind, weighted):
    features, labels, weights = samples(rows=900, weighted=weighted)
    features = features if kind == "dense" else csr_array(features)
    options = {"standardize": True, "center": "yes"} if kind == "centred" else {"standardize": False}

    def work(function):
        apply = function.preconditioner(point(function.shape))
        return apply(point(function.shape, 4)).tobytes()

    def bits_of(seed):
        return {
            outcome
            for ranks in RANKS
            for outcome in distributed(
                work, features, labels, ObjectiveConfig(l2=0.01), weights, ranks=ranks, seed=seed, shards=11, **options
            )
        }

    assert len(bits_of(0)) == 1
    assert bits_of(0) == bits_of(0)


def test_sparse_and_dense_features_have_the_same_preconditioner(model):
    features, labels, weights = samples(weighted=True)

    def product(given):
        function = real(given, labels, ObjectiveConfig(l2=0.01), weights)
        return function.preconditioner(point(function.shape))(point(function.shape, 4))

    np.testing.assert_allclose(product(features), product(csr_array(features)), rtol=1e-4)


def test_asking_again_elsewhere_and_back_gives_the_same_bits(model):
    features, labels, weights = samples(weighted=True)
    function = real(features, labels, ObjectiveConfig(l2=0.01), weights)
    direction = point(function.shape, 4)
    once = function.preconditioner(point(function.shape, 5))(direction)
    elsewhere = function.preconditioner(point(function.shape, 6))(direction)
    assert function.preconditioner(point(function.shape, 5))(direction).tobytes() == once.tobytes()
    assert elsewhere.tobytes() != once.tobytes()


@pytest.mark.parametrize("offset", [10.0, 100.0])
def test_features_with_an_offset_take_as_many_steps_as_without_it(model, offset):
    """The intercept has to go far, and no penalty holds it back; in the model of the hessian none may, either."""
    features, labels, _ = samples(2, rows=400)
    labels = np.argmax(features[:, :3] + np.random.default_rng(0).gumbel(size=(400, 3)), axis=1)
    steps = []
    for given in (features, features + offset):
        function = real(given, labels, ObjectiveConfig(l2=1e-4))
        states, reason = run(
            make_solver(SolverConfig(), function.config), function, np.zeros(function.shape), 1e-6, 100
        )
        assert reason == "the certified gap is below 1e-06 of the objective"
        steps.append(states[-1].step)
    assert steps[1] <= steps[0] + 2


@pytest.mark.parametrize("l2", [1e-6, 1e-2, 1e10])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_units_and_offsets_of_the_features_change_little_of_the_steps(n_classes, l2):
    """An income and a timestamp beside a fraction: to large numbers a floor that is small, to the others is large."""
    generator = np.random.default_rng(8)
    features = generator.standard_normal((500, 4)) * [1e-6, 1.0, 1e4, 1e6] + [0.0, 1e3, 3e4, 2e6]
    units = (features - features.mean(axis=0)) / features.std(axis=0)
    labels = np.argmax(
        units @ generator.standard_normal((4, n_classes)) + generator.gumbel(size=(500, n_classes)), axis=1
    )
    function = real(features, labels, ObjectiveConfig(l2=l2))
    states, reason = run(make_solver(SolverConfig(), function.config), function, np.zeros(function.shape), 1e-5, 100)
    assert reason == "the certified gap is below 1e-05 of the objective"
    assert states[-1].step <= 12


@pytest.mark.parametrize("l2", [1e-2, 1e-4, 1e-6])
def test_few_samples_are_trained_by_newtons_method(l2):
    """Every step with the hessian there; the last ones square the gradient's norm, up to rounding."""
    features, classes = load_breast_cancer(return_X_y=True)
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    function = real(features, classes, ObjectiveConfig(l2=l2))
    assert function.refits == Refits(1, exact=True)
    states, _ = run(make_solver(SolverConfig(), function.config), function, np.zeros(function.shape), 1e-10, 100)
    assert states[-1].step <= 16
    before, last = states[-2].evaluation.gradient_norm, states[-1].evaluation.gradient_norm
    assert last <= max(1e-1 * before, 1e-12)
    gradient, parameters = states[0].evaluation.gradient, states[-1].parameters
    product = function.curvature(parameters).product(function.preconditioner(parameters)(gradient))
    np.testing.assert_allclose(product, gradient, rtol=1e-4, atol=1e-8)


def test_a_run_begins_with_the_cheap_model_where_the_other_takes_the_time_of_many_steps():
    features, classes = load_digits(return_X_y=True)
    function = real(features / 16, classes, ObjectiveConfig(l2=1e-3))
    refits, parameters, direction = function.refits, point(function.shape) / 8, balanced(point(function.shape, 4))
    assert refits.exact
    assert 4 < refits.interval < 40
    first, refined = (function.preconditioner(parameters, refined=refined)(direction) for refined in (False, True))
    assert first.tobytes() != refined.tobytes()
    np.testing.assert_allclose(function.curvature(parameters).product(refined), direction, atol=1e-5)
    states, _ = run(make_solver(SolverConfig(), function.config), function, np.zeros(function.shape), 1e-6, 100)
    anchors = [state.anchor.tobytes() for state in states]
    assert len(set(anchors[: refits.interval + 1])) == 1
    assert anchors[refits.interval + 1] == states[refits.interval].parameters.tobytes()


@pytest.mark.parametrize("exact", [True, False])
def test_fits_are_due_at_multiples_of_their_interval(exact):
    due = [step for step in range(100) if Refits(3, exact).is_due(step)]
    assert due == (list(range(3, 100, 3)) if exact else [3, 9, 27, 81])


def test_where_models_would_be_too_large_there_is_none(monkeypatch):
    monkeypatch.setattr(preconditioners, "LARGEST_HESSIAN", 0)
    monkeypatch.setattr(preconditioners, "MOST_FEATURES", 2)
    features, labels, _ = samples()
    function = real(features, labels, ObjectiveConfig())
    assert function.preconditioner(point(function.shape)) is None


def test_a_hessian_that_is_not_finite_leaves_the_gradient_as_it_is():
    rows = np.column_stack([np.random.default_rng(0).standard_normal((30, 4)), np.ones(30)])
    model = SampleHessian(rows, np.full(30, 1 / 30), np.zeros(5), intercept=True)
    gradient = np.arange(15.0).reshape(3, 5)
    with np.errstate(all="ignore"):
        computed = model(np.full((3, 5), np.nan), 0.1)(gradient)
    np.testing.assert_array_equal(computed, gradient)


# --- the rows they are fitted to ---


def drawn(features, labels, weights, n_rows, seed=0):
    fit = real(features, labels, ObjectiveConfig(), weights).cross_entropy
    squares = mean_squares(fit.dataset, fit.bounds, fit.cluster)
    return draw_rows(fit.dataset, squares, n_rows, seed, fit.cluster)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_about_as_many_rows_are_drawn_as_are_wanted_and_stand_for_all(kind):
    features, labels, weights = samples(3, rows=4000, weighted=True)
    given = csr_array(features) if kind == "sparse" else features
    estimates = []
    for seed in range(20):
        rows, of_rows = drawn(given, labels, weights, 400, seed)
        assert 300 < len(rows) < 500
        estimates.append((rows * of_rows[:, None]).T @ rows)
    with_ones = np.column_stack([features, np.ones(len(features))])
    exact = (with_ones * weights[:, None]).T @ with_ones
    scale = np.abs(estimates[0]).max() / np.abs(exact).max()  # weights are divided by a power of two
    power = 2.0 ** np.round(np.log2(scale))
    np.testing.assert_allclose(np.mean(estimates, axis=0) / power, exact, atol=0.05 * np.abs(exact).max())


def test_rows_that_weigh_much_are_drawn_and_rows_without_weight_are_not():
    features, labels, _ = samples(3, rows=4000)
    features[:, 0] = np.random.default_rng(0).standard_normal(4000)  # no two rows are equal
    weights = np.ones(4000)
    weights[::7] = 0.0
    heavy = np.array([1, 9, 17, 25, 33])
    weights[heavy] = 500.0
    for seed in range(5):
        rows, of_rows = drawn(features, labels, weights, 200, seed)
        for row in features[heavy]:
            assert (rows[:, :-1] == row).all(axis=1).any()
        for row in features[::7][:50]:
            assert not (rows[:, :-1] == row).all(axis=1).any()
        assert (of_rows > 0).all()


def rare_classes():
    """40,000 rows, 9 features on different scales, 7 classes of which the rarest has 6 rows, and balanced weights."""
    generator = np.random.default_rng(5)
    features = generator.standard_normal((40_000, 9)) * 10.0 ** generator.uniform(-1, 1, 9)
    features = np.exp(features / np.abs(features).std(axis=0))
    scores = (features - features.mean(axis=0)) / features.std(axis=0) @ generator.standard_normal((9, 7)) / 2
    scores += generator.gumbel(size=scores.shape)
    classes = (scores + np.array([9.0, 8.0, 7.0, 6.0, 4.5, 3.0, -9.0])).argmax(axis=1)
    classes[classes == 6] = 0
    classes[np.argsort(scores[:, 6] - scores[:, :6].max(axis=1))[-6:]] = 6
    counts = np.bincount(classes)
    assert counts.min() == counts[6] == 6
    return features.astype(np.float32), classes, (len(classes) / (7 * counts))[classes]


def test_rare_classes_of_great_weight_are_seen():
    """Where rows are drawn without their weights' share, the run stands above the optimum for hundreds of steps."""
    features, classes, weights = rare_classes()
    config = ObjectiveConfig(l2=1e-3)
    steps = []
    for seed in range(4):
        function = real(features, classes, config, weights, seed=seed)
        states, reason = run(make_solver(SolverConfig(), config), function, np.zeros(function.shape), 1e-6, 1000)
        assert reason == "the certified gap is below 1e-06 of the objective"
        steps.append(states[-1].step)
    assert np.median(steps) <= 80
