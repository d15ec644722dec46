"""The penalty, against scipy and its definition."""

import numpy as np
import pytest
import scipy.optimize

from distsoftmax.config import ObjectiveConfig
from distsoftmax.objective.penalty import Penalty

PENALTIES = {"l1": {"l1": 0.3}, "group": {"group": 0.7}, "l1 and group": {"l1": 0.2, "group": 0.5}}
SEEDS = range(25)


@pytest.fixture(params=PENALTIES.values(), ids=PENALTIES)
def penalty(request):
    return Penalty(ObjectiveConfig(**request.param))


def matrix(seed, shape=(3, 5), scale=1.0):
    generator = np.random.default_rng(seed)
    return generator.standard_normal(shape) * scale


def definition(penalty, parameters):
    coef = parameters[:, :-1]
    return penalty.config.l1 * np.abs(coef).sum() + penalty.config.group * np.linalg.norm(coef, axis=0).sum()


def ball_and_box(penalty, seed, shape):
    """An element of the penalty's subdifferential at 0: ||soft(column, l1)|| <= group."""
    generator = np.random.default_rng(seed)
    directions = generator.standard_normal(shape)
    directions /= np.linalg.norm(directions, axis=0)
    config, box = penalty.config, generator.uniform(-1, 1, shape)
    return config.l1 * box + config.group * directions * generator.random(shape[1])


@pytest.mark.parametrize("seed", SEEDS)
def test_value_is_the_definition_and_leaves_the_intercept_out(penalty, seed):
    parameters = matrix(seed)
    assert penalty.value(parameters) == pytest.approx(definition(penalty, parameters), rel=1e-14)
    moved = parameters.copy()
    moved[:, -1] += 100
    assert penalty.value(moved) == penalty.value(parameters)


def scipy_prox(penalty, target, size):
    """The least |x - target|^2 / 2 + size * r(x), and x, over coefficients alone, by scipy.

    x = target - size * v with v the element of r's subdifferential at 0, l1 [-1, 1]^k + group (the unit ball), that
    leaves the least (Moreau), and at it the objective is (|target|^2 - |x|^2) / 2.
    """
    columns = []
    for column in target.T / size:  # both sides divided by size
        n = column.size

        def left(parts, column=column, n=n):
            return column - (penalty.config.l1 * parts[:n] + penalty.config.group * parts[n:])

        def slope(parts, left=left):
            return np.concatenate([-penalty.config.l1 * left(parts), -penalty.config.group * left(parts)])

        ball = {
            "type": "ineq",
            "fun": lambda parts, n=n: 1 - np.sum(parts[n:] ** 2),
            "jac": lambda parts, n=n: np.concatenate([np.zeros(n), -2 * parts[n:]]),
        }
        least = scipy.optimize.minimize(
            lambda parts, left=left: np.sum(left(parts) ** 2) / 2,
            np.full(2 * n, 0.01),
            jac=slope,
            method="SLSQP",
            bounds=[(-1, 1)] * n + [(None, None)] * n,
            constraints=[ball],
            options={"ftol": 1e-15, "maxiter": 1000},
        )
        columns.append(left(least.x))
    coef = size * np.column_stack(columns)
    return (np.sum(target**2) - np.sum(coef**2)) / 2, coef


@pytest.mark.parametrize("seed", SEEDS)
def test_prox_is_the_minimiser_that_scipy_finds(penalty, seed):
    target, size = matrix(seed), 0.6
    computed = penalty.prox(target, size)
    least, coef = scipy_prox(penalty, target[:, :-1], size)
    ours = np.sum((computed - target) ** 2) / 2 + size * definition(penalty, computed)
    assert ours == pytest.approx(least, abs=1e-8)
    np.testing.assert_allclose(computed[:, :-1], coef, atol=1e-4)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("size", [1e-3, 0.5, 3.0])
def test_no_point_is_better_than_prox_by_less_than_half_the_squared_distance(penalty, seed, size):
    """Strong convexity: for all z, h(z) >= h(prox) + |z - prox|^2 / 2."""
    target = matrix(seed)
    computed = penalty.prox(target, size)

    def objective(point):
        return np.sum((point - target) ** 2) / 2 + size * definition(penalty, point)

    generator = np.random.default_rng(seed)
    for exponent in (-6, -3, -1, 0, 1):
        other = computed + 10.0**exponent * generator.standard_normal(computed.shape)
        other[:, generator.integers(0, 4)] = 0.0
        slack = 1e-13 * max(1, objective(other))
        assert objective(other) >= objective(computed) + np.sum((other - computed) ** 2) / 2 - slack


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("size", [1e-3, 0.5, 3.0])
def test_prox_is_firmly_non_expansive(penalty, seed, size):
    one, other = matrix(seed), matrix(seed + 1000)
    change = penalty.prox(one, size) - penalty.prox(other, size)
    assert np.sum(change**2) <= np.vdot(change, one - other) * (1 + 1e-14)


def test_zeros_of_prox_are_exact_positive_and_come_by_columns_with_group(penalty):
    target = matrix(0, (3, 400), scale=0.5)
    computed = penalty.prox(target, 1.0)
    zeros = computed[:, :-1] == 0
    assert zeros.any()
    assert not zeros.all()
    assert not np.signbit(computed[computed == 0]).any()
    if penalty.config.group:
        assert zeros.all(axis=0).any()
    if not penalty.config.l1:
        np.testing.assert_array_equal(zeros.any(axis=0), zeros.all(axis=0))
    else:
        np.testing.assert_array_equal(zeros | (np.abs(target[:, :-1]) > penalty.config.l1), np.ones_like(zeros))


def test_prox_takes_minus_zero_for_zero(penalty):
    assert not np.signbit(penalty.prox(np.full((3, 4), -0.0), 1.0)[:, :-1]).any()


def test_prox_leaves_the_intercept_and_its_argument_as_they_are(penalty):
    target = matrix(1)
    before = target.copy()
    assert penalty.prox(target, 2.0)[:, -1].tobytes() == before[:, -1].tobytes()
    assert target.tobytes() == before.tobytes()
    gradient = matrix(2)
    kept = gradient.copy()
    assert penalty.least_subgradient(target, gradient)[:, -1].tobytes() == kept[:, -1].tobytes()
    assert gradient.tobytes() == kept.tobytes()


@pytest.mark.parametrize("scale", [1e-150, 1e150])
def test_prox_of_any_magnitude_is_right(penalty, scale):
    target = matrix(3) * scale
    computed = penalty.prox(target, scale)
    np.testing.assert_allclose(computed / scale, penalty.prox(matrix(3), 1.0), rtol=1e-13)


@pytest.mark.parametrize("seed", SEEDS)
def test_subgradient_vanishes_where_prox_of_a_gradient_step_stays(penalty, seed):
    """x = prox(x + t g, t) exactly where g is in the subdifferential at x; there the least element of -g + it is 0."""
    size = 0.6
    target = matrix(seed)
    target[:, 0] *= 0.05
    fixed = penalty.prox(target, size)
    assert (fixed[:, :-1] == 0).any()
    least = penalty.least_subgradient(fixed, (fixed - target) / size)
    np.testing.assert_allclose(least, 0, atol=4e-15)
    zeros = (fixed[:, :-1] == 0) & (penalty.config.group == 0)  # inside the subdifferential, where nothing is rounded
    assert not least[:, :-1][zeros].any()
    assert not least[:, :-1][:, (fixed[:, :-1] == 0).all(axis=0)].any()


def at_some_zeros(seed):
    parameters = matrix(seed)
    parameters[:, 0] = 0.0
    parameters[0, 1] = parameters[2, 2] = 0.0
    return parameters


def some_subgradient(penalty, parameters, seed):
    """An element of the subdifferential at parameters whose columns are 0 wholly, in part, or not at all."""
    coef = parameters[:, :-1]
    generator = np.random.default_rng(seed)
    result = np.zeros_like(parameters)
    for j, column in enumerate(coef.T):
        if not column.any():
            result[:, j] = ball_and_box(penalty, seed, (3, 1))[:, 0]
            continue
        sign = np.where(column == 0, generator.uniform(-1, 1, 3), np.sign(column))
        result[:, j] = penalty.config.l1 * sign + penalty.config.group * column / np.linalg.norm(column)
    return result


@pytest.mark.parametrize("seed", SEEDS)
def test_subgradient_is_one_and_the_least_of_all(penalty, seed):
    parameters, gradient = at_some_zeros(seed), matrix(seed + 50)
    least = penalty.least_subgradient(parameters, gradient)
    subgradient = least - gradient  # r(z) >= r(x) + <subgradient, z - x>
    for other_seed in range(30):
        point = parameters + matrix(other_seed, scale=10.0 ** (other_seed % 5 - 3))
        slack = 1e-13 * (1 + abs(definition(penalty, point)))
        below = definition(penalty, parameters) + np.vdot(subgradient, point - parameters)
        assert definition(penalty, point) >= below - slack
        other = gradient + some_subgradient(penalty, parameters, other_seed)
        assert np.linalg.norm(least) <= np.linalg.norm(other) + 1e-14
        # the least element of a convex set: <other - least, least> >= 0
        assert np.vdot(other - least, least) >= -1e-13


@pytest.mark.parametrize("seed", SEEDS)
def test_least_subgradient_is_the_limit_of_proximal_steps(penalty, seed):
    parameters, gradient = at_some_zeros(seed), matrix(seed + 50)
    size = 1e-8
    moved = (parameters - penalty.prox(parameters - size * gradient, size)) / size
    np.testing.assert_allclose(penalty.least_subgradient(parameters, gradient), moved, atol=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_in_units_it_is_the_penalty_of_what_is_given_divided_by_them(penalty, seed):
    parameters, gradient = matrix(seed), matrix(seed + 1)
    unit = np.exp(matrix(seed + 2, (5,)))
    own = penalty.in_units(unit)
    assert own.value(parameters) == pytest.approx(penalty.value(parameters / unit), rel=1e-14)
    least = penalty.least_subgradient(parameters / unit, gradient * unit)[:, :-1] / unit[:-1]
    np.testing.assert_allclose(own.least_subgradient(parameters, gradient)[:, :-1], least, atol=1e-14)
    point = own.prox(parameters, 0.4)  # which leaves a subgradient of the penalty
    still = own.least_subgradient(point, (point - parameters) / 0.4)
    np.testing.assert_allclose(still, 0, atol=1e-13)


@pytest.mark.parametrize("seed", SEEDS)
def test_prox_of_a_column_is_the_column_of_prox(penalty, seed):
    target = matrix(seed)
    for own in (penalty, penalty.in_units(np.exp(matrix(seed, (5,))))):
        whole = own.prox(target, 0.7)
        for feature in range(4):
            column = own.prox_column(target[:, feature], feature, 0.7)
            np.testing.assert_allclose(column, whole[:, feature], atol=1e-15)
            assert not np.signbit(column[column == 0]).any()


@pytest.mark.parametrize("seed", SEEDS)
def test_curvature_is_the_change_of_the_gradient_at_what_is_not_0(penalty, seed):
    point = penalty.prox(matrix(seed, (3, 5)), 0.5)
    moved = point != 0
    curvature = penalty.curvature(point)
    if not penalty.config.group:
        assert curvature is None
        return
    way = 1e-6 * matrix(seed + 1) * moved
    nothing = np.zeros_like(point)
    change = penalty.least_subgradient(point + way, nothing) - penalty.least_subgradient(point - way, nothing)
    expected = np.where(moved, change, 0.0).ravel() / 2
    assert np.abs(curvature @ way.ravel() - expected).max() <= 1e-4 * np.abs(way).max()
    assert not curvature[~moved.ravel()].any()


@pytest.mark.parametrize("n_classes", [2, 3, 4, 7])
@pytest.mark.parametrize("l2", [0.0, 0.5])
@pytest.mark.parametrize("kind", PENALTIES)
def test_reduced_parameters_have_the_same_probabilities_and_the_least_penalty(kind, l2, n_classes):
    config = ObjectiveConfig(l2=l2, **PENALTIES[kind])
    unit = np.exp(matrix(9, (6,)))
    for own, scale in ((Penalty(config), np.ones(6)), (Penalty(config).in_units(unit), unit)):
        parameters = matrix(n_classes, (n_classes, 6), 2.0)
        reduced = own.reduced(parameters)
        shift = reduced - parameters
        assert not np.signbit(reduced[reduced == 0]).any()
        np.testing.assert_allclose(shift, np.broadcast_to(shift[0], shift.shape), atol=1e-14)
        assert not shift[:, -1].any()

        def whole(parameters, own=own, scale=scale):
            return own.value(parameters) + l2 / 2 * np.sum((parameters / scale)[:, :-1] ** 2)

        if config.l1 and config.group:  # there is no formula, and they stay
            assert np.array_equal(reduced, parameters)
            continue
        for feature in range(5):
            for way in (1e-3, -1e-3, 0.3, -0.3):
                other = reduced.copy()
                other[:, feature] += way
                assert whole(reduced) <= whole(other) + 1e-12


@pytest.mark.parametrize("l2", [0.0, 0.3])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_l2_term_leaves_the_intercept_alone(l2, seed):
    parameters, gradient = matrix(seed), matrix(seed + 50)
    before, penalty = gradient.copy(), Penalty(ObjectiveConfig(l2=l2, l1=0.1, group=0.2))
    assert penalty.smooth_value(parameters) == pytest.approx(l2 / 2 * np.sum(parameters[:, :-1] ** 2), rel=1e-14)
    penalty.add_smooth_gradient(parameters, gradient)
    np.testing.assert_allclose(gradient[:, :-1], before[:, :-1] + l2 * parameters[:, :-1], rtol=1e-14)
    np.testing.assert_array_equal(gradient[:, -1], before[:, -1])
