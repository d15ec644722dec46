import dataclasses
import math
import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from distsoftmax.errors import Diverged
from distsoftmax.objective.certificate import lower_bounds
from distsoftmax.objective.softmax import SoftmaxKernel
from distsoftmax.solvers import make_solver
from distsoftmax.solvers.accelerated_gradient import AcceleratedGradient
from distsoftmax.solvers.gradient_descent import GradientDescent
from distsoftmax.solvers.protocol import Evaluation, stop_reason

SOLVERS = {"plain": lambda: GradientDescent(0.05), "auto": AcceleratedGradient}


class Logistic:
    """L2-penalised softmax regression on one process: the protocol without MPI."""

    penalty = None

    def __init__(self, features, classes, l2, intercept=True):
        self.features, self.classes, self.l2, self.intercept = features, classes, l2, intercept
        self.n_classes = int(classes.max()) + 1
        onehot = np.eye(self.n_classes)[classes]
        with_one = np.column_stack([features, np.ones(len(features))])
        self.class_means = onehot.T @ with_one / len(features)
        self.evaluations = 0

    @property
    def start(self):
        return np.zeros((self.n_classes, self.features.shape[1] + 1))

    def __call__(self, parameters):
        self.evaluations += 1
        loss, found = SoftmaxKernel(parameters, self.features.dtype).loss_and_gradient(self.features, self.classes)
        gradient = np.column_stack([found.coef.values, found.intercept]) / len(self.features)
        loss = loss / len(self.features)
        bound = -math.inf
        if self.l2 > 0:
            bound, _ = lower_bounds(loss, gradient, parameters, self.class_means, self.l2, None, self.intercept)
        coef = parameters[:, :-1]
        gradient[:, :-1] += self.l2 * coef
        if not self.intercept:
            gradient[:, -1] = 0
        norm = float(np.linalg.norm(gradient))
        return Evaluation(loss + self.l2 / 2 * np.sum(coef**2), gradient, norm, bound, rounding=1e-15)


class Quadratic:
    penalty = None

    def __init__(self, curvatures):
        self.curvatures = np.asarray(curvatures, dtype=float)

    def __call__(self, parameters):
        return Evaluation.smooth(float(np.sum(self.curvatures * parameters**2) / 2), self.curvatures * parameters)

    def preconditioner(self, parameters):
        return None


class Function:
    """A plain function as an objective."""

    penalty = None

    def __init__(self, call):
        self.call = call

    def __call__(self, parameters):
        return self.call(parameters)


def data(seed, rows=60, n_features=4, n_classes=3, scale=1.0):
    generator = np.random.default_rng(seed)
    features = generator.standard_normal((rows, n_features)) * scale
    classes = np.concatenate([np.arange(n_classes), generator.integers(0, n_classes, rows - n_classes)])
    return features, classes


def run(solver, objective, start, tolerance, max_steps):
    state = solver.init(objective, start)
    while stop_reason(state, tolerance, max_steps) is None:
        state = solver.step(objective, state)
    return state


def optimum(objective):
    """The objective where scikit-learn's Newton solver ends: the judge. It warns where it can go no further."""
    judge = LogisticRegression(
        C=1 / (objective.l2 * len(objective.features)),
        tol=1e-13,
        solver="newton-cg",
        max_iter=10_000,
        fit_intercept=objective.intercept,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        judge.fit(objective.features, objective.classes)
    parameters = objective.start
    assert objective.n_classes > 2, "scikit-learn fits two classes with one row of coefficients: another penalty"
    parameters[:, :-1] = judge.coef_
    parameters[:, -1] = judge.intercept_ if objective.intercept else 0
    return objective(parameters).value


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("l2", [1.0, 1e-2, 1e-4])
def test_auto_reaches_the_optimum_that_scikit_learn_finds(l2, intercept):
    objective = Logistic(*data(3), l2, intercept)
    state = run(AcceleratedGradient(), objective, objective.start, 1e-9, 20_000)
    assert state.value - optimum(objective) < 1e-9


@pytest.mark.parametrize("seed", range(60))
def test_certified_gap_is_never_below_the_true_one(seed):
    generator = np.random.default_rng(seed)
    features, classes = data(seed, n_classes=int(generator.integers(3, 6)), scale=10.0 ** generator.uniform(-2, 2))
    if seed % 3 == 0:
        features[:, -1] = features[:, 0]  # collinear
    if seed % 4 == 0:
        features[:, 0] += 20 * classes  # separable
    l2 = 10.0 ** generator.uniform(-4, 2)
    objective = Logistic(features, classes, l2, intercept=seed % 2 == 0)
    best = optimum(objective)
    solver = AcceleratedGradient()
    state = solver.init(objective, objective.start)
    for _ in range(150):
        assert state.certified_gap >= state.value - best - 1e-11 * max(1, best)
        if state.exhausted:
            break
        state = solver.step(objective, state)


def test_gap_without_intercept_is_the_squared_gradient_norm_over_twice_l2():
    objective = Logistic(*data(1), 0.1, intercept=False)
    parameters = objective.start
    parameters[:, :-1] = np.random.default_rng(0).standard_normal(parameters[:, :-1].shape)
    found = objective(parameters)
    assert found.value - found.lower_bound == pytest.approx(np.sum(found.gradient**2) / (2 * 0.1), rel=1e-9)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_auto_is_monotone_and_needs_no_tuning_for_any_scale(scale):
    objective = Logistic(*data(5, scale=scale), 0.0)
    solver = AcceleratedGradient()
    state = solver.init(objective, objective.start)
    first = state
    for _ in range(100):
        later = solver.step(objective, state)
        assert later.value <= state.value + 2e-15
        state = later
        if state.exhausted:
            break
    assert state.gradient_norm < 0.05 * first.gradient_norm


@pytest.mark.parametrize("condition", [1e2, 1e4, 1e6])
def test_auto_is_as_fast_as_acceleration_promises(condition):
    objective = Quadratic(np.geomspace(1, condition, 30).reshape(3, 10))
    start = np.ones((3, 10))
    solver = AcceleratedGradient()
    state = solver.init(objective, start)
    first = state.value
    promised = int(2 * math.sqrt(condition) * math.log(1e8)) + 50
    for _ in range(promised):
        state = solver.step(objective, state)
        if state.value <= 1e-8 * first:
            return
    pytest.fail(f"{state.value / first:g} after {promised} steps")


def test_plain_rule_takes_the_reference_steps():
    features = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12]], dtype=float)
    objective = Logistic(features, np.array([0, 1, 2, 1]), 0.0, intercept=False)
    state = run(GradientDescent(0.01), objective, objective.start, 0.0, 1000)
    theta = np.zeros((3, 3))  # the source's rule, made stable
    for _ in range(1000):
        scores = features @ theta
        exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
        errors = exponentials / exponentials.sum(axis=1, keepdims=True) - np.eye(3)[[0, 1, 2, 1]]
        theta -= 0.01 * features.T @ errors / 4
    np.testing.assert_allclose(state.parameters[:, :-1].T, theta, rtol=0, atol=1e-12)
    assert not state.parameters[:, -1].any()
    assert state.step == 1000


@pytest.mark.parametrize("make", SOLVERS.values(), ids=SOLVERS)
def test_a_step_leaves_the_earlier_state_as_it_was_and_can_be_repeated(make):
    objective = Logistic(*data(2), 1e-3)
    solver = make()
    state = solver.init(objective, objective.start)
    for _ in range(7):
        before = {
            item.name: np.copy(getattr(state, item.name)) if isinstance(getattr(state, item.name), np.ndarray) else None
            for item in dataclasses.fields(state)
        }
        once, twice = solver.step(objective, state), solver.step(objective, state)
        for item in dataclasses.fields(state):
            if before[item.name] is not None:
                np.testing.assert_array_equal(before[item.name], getattr(state, item.name))
                assert getattr(once, item.name).tobytes() == getattr(twice, item.name).tobytes()
        state = once


@pytest.mark.parametrize("make", SOLVERS.values(), ids=SOLVERS)
def test_a_start_that_is_not_finite_is_refused_with_a_remedy(make):
    with pytest.raises(Diverged, match="--standardize"):
        make().init(Function(Evaluation.not_finite), np.zeros((2, 2)))


def test_a_learning_rate_that_diverges_is_named_with_its_step():
    solver = GradientDescent(10.0)
    objective = Quadratic([[3.0]])

    def cliff(parameters):
        return objective(parameters) if abs(parameters[0, 0]) < 1e6 else Evaluation.not_finite(parameters)

    state = solver.init(Function(cliff), np.ones((1, 1)))
    with pytest.raises(Diverged, match=r"after step \d+.*--learning-rate 10 is too large"):
        for _ in range(100):
            state = solver.step(Function(cliff), state)


def test_auto_passes_around_points_that_are_not_finite():
    def objective(parameters):
        x = parameters[0, 0]
        return (
            Evaluation.smooth(x - math.log(x), np.array([[1 - 1 / x]])) if x > 0 else Evaluation.not_finite(parameters)
        )

    state = run(AcceleratedGradient(), Function(objective), np.full((1, 1), 50.0), 1e-9, 1000)
    assert state.parameters[0, 0] == pytest.approx(1.0, abs=1e-6)


def test_auto_stops_where_rounding_hides_every_decrease():
    objective = Logistic(*data(4), 1e-2)
    state = run(AcceleratedGradient(), objective, objective.start, 0.0, 100_000)
    assert state.exhausted
    assert state.step < 5_000
    assert state.value - optimum(objective) < 1e-12


def test_a_start_at_the_optimum_ends_at_once():
    state = run(make_solver_auto(), Quadratic([[1.0, 2.0]]), np.zeros((1, 2)), 1e-6, 10)
    assert state.step == 0


def make_solver_auto():
    from distsoftmax.config import ObjectiveConfig, SolverConfig

    return make_solver(SolverConfig(), ObjectiveConfig())
