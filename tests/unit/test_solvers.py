import math
import warnings

import numpy as np
import pytest
import scipy.special
from objectives import run as states_of_run
from objectives import smooth
from sklearn.linear_model import LogisticRegression

from distsoftmax.config import ObjectiveConfig, SolverConfig
from distsoftmax.errors import Diverged
from distsoftmax.objective.certification import estimate
from distsoftmax.objective.cross_entropy import Fit
from distsoftmax.solvers import choose_solver, make_solver
from distsoftmax.solvers.accelerated_gradient import AcceleratedGradient
from distsoftmax.solvers.gradient_descent import GradientDescent
from distsoftmax.solvers.protocol import Certificate, Evaluation
from distsoftmax.training.stopping import StepLimit, Stopping

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
        rows = np.column_stack([self.features, np.ones(len(self.features))])
        log_probabilities = scipy.special.log_softmax(rows @ parameters.T, axis=1)
        loss = -log_probabilities[np.arange(len(rows)), self.classes].mean()
        gradient = (np.exp(log_probabilities) - np.eye(self.n_classes)[self.classes]).T @ rows / len(rows)
        value = loss + self.l2 / 2 * np.sum(parameters[:, :-1] ** 2)
        bound = -math.inf
        if self.l2 > 0:
            config = ObjectiveConfig(l2=self.l2, intercept=self.intercept)
            bound = value - estimate(Fit(loss, gradient, 0.0), parameters, self.class_means, config).gap
        gradient[:, :-1] += self.l2 * parameters[:, :-1]
        if not self.intercept:
            gradient[:, -1] = 0
        return Evaluation(value, gradient, float(np.linalg.norm(gradient)), bound, rounding=1e-15)

    def certify(self, parameters, enough=0.0):
        reached = self(parameters)
        return Certificate(reached.value, 0.0, reached.lower_bound, reached.value - reached.lower_bound, 0.0)


class Quadratic:
    penalty = None

    def __init__(self, curvatures):
        self.curvatures = np.asarray(curvatures, dtype=float)

    def __call__(self, parameters):
        return smooth(float(np.sum(self.curvatures * parameters**2) / 2), self.curvatures * parameters)

    refits = units = None

    def preconditioner(self, parameters, *, refined=True):
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
    return states_of_run(solver, objective, start, tolerance, max_steps)[0][-1]


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


@pytest.mark.sweep(20)
@pytest.mark.parametrize("seed", range(60))
def test_the_estimated_gap_is_not_below_the_true_one_but_for_rounding(seed):
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
        assert state.estimated_gap >= state.value - best - 1e-11 * max(1, best)
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
    assert state.evaluation.gradient_norm < 0.05 * first.evaluation.gradient_norm


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


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.99])
def test_a_rate_beyond_the_largest_that_converges_is_noticed_while_the_objective_is_finite(momentum):
    solver = GradientDescent(1.01 * 2 * (1 + momentum), momentum)
    state = solver.init(Quadratic([[1.0, 0.5]]), np.ones((1, 2)))
    with pytest.raises(Diverged, match=r"has risen to \d.*e\+\d+ after step \d+, before the first step it was 0.75: "):
        for _ in range(10_000):
            state = solver.step(Quadratic([[1.0, 0.5]]), state)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.99, 0.999])
def test_no_rate_that_converges_on_a_quadratic_overshoots_by_more_than_the_rule_allows(momentum, nesterov):
    """The rates go up to the edge of stability, where the overshoot is the largest."""
    edge = 2 * (1 + momentum) / (1 + 2 * momentum if nesterov else 1.0)
    curvatures = np.concatenate([np.geomspace(1e-6, 0.5, 40), edge * (1 - np.geomspace(1e-9, 0.5, 40))])[None, :]
    last = position = np.ones_like(curvatures)
    largest = np.zeros_like(curvatures)
    for _ in range(3000):
        if nesterov:
            plain = position - curvatures * position
            last, position = plain, plain + momentum * (plain - last)
        else:
            last, position = position, position - curvatures * position + momentum * (position - last)
        largest = np.maximum(largest, np.abs(position))
    assert largest.max() > 1 or momentum == 0
    assert (largest <= 1.001 * (1 + momentum) / (1 - momentum)).all()
    for overshoot, curvature in zip(largest.ravel(), curvatures.ravel(), strict=True):
        first = GradientDescent(1.0, momentum).init(Quadratic([[curvature]]), np.ones((1, 1)))
        first.check_rise(curvature * overshoot**2 / 2)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("rate", [1e3, 1e6])
def test_a_rate_that_is_far_too_large_may_end_well_where_the_classes_can_be_separated(rate, momentum):
    features, classes = data(1, rows=40)
    features[:, :3] += 2.5 * np.eye(3)[classes]
    objective = Logistic(features, classes, 0.0)
    solver = GradientDescent(rate, momentum)
    state = solver.init(objective, objective.start)
    values = [state.value]
    for _ in range(2000):
        state = solver.step(objective, state)
        values.append(state.value)
    assert max(values) > 10 * values[0]
    assert Stopping(tolerance=0.0, limit=StepLimit.of_steps(2000)).reason(state) == "the limit of 2000 steps is reached"
    assert state.value < 1e-3


def test_a_run_that_ends_far_above_its_start_has_diverged():
    features, classes = data(1)
    objective = Logistic(features, classes, 0.0)
    with pytest.raises(
        Diverged, match=r"after step 20, before the first step it was 1.09861: --learning-rate 1000 is too"
    ):
        run(GradientDescent(1e3), objective, objective.start, 0.0, 20)
    assert run(GradientDescent(0.1), objective, objective.start, 0.0, 20).step == 20


@pytest.mark.parametrize("given", [{}, {"momentum": 0.5}, {"momentum": 0.5, "nesterov": True}], ids=str)
@pytest.mark.parametrize("objective", [ObjectiveConfig(), ObjectiveConfig(l2=0.1), ObjectiveConfig(l1=0.1)], ids=str)
def test_auto_takes_gradient_descent_where_a_learning_rate_is_given_and_says_so(objective, given):
    config = SolverConfig(learning_rate=0.01, **given)
    name, why = choose_solver(config, objective, preconditioned=True)
    assert (name, why) == ("gradient-descent", "it takes --learning-rate")
    assert isinstance(make_solver(config, objective), GradientDescent)


def test_auto_passes_around_points_that_are_not_finite():
    def objective(parameters):
        x = parameters[0, 0]
        return smooth(x - math.log(x), np.array([[1 - 1 / x]])) if x > 0 else Evaluation.not_finite(parameters)

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
    return make_solver(SolverConfig(), ObjectiveConfig())
