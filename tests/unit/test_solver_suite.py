"""One suite over all solvers: what each must do on the real objective, and on plain functions."""

import dataclasses
import functools
import hashlib
import math
import warnings

import numpy as np
import pytest
import scipy.optimize
from objectives import (
    Formula,
    Function,
    advance,
    begin,
    distributed,
    fields_of,
    logistic,
    quadratic,
    real,
    rosenbrock,
    run,
)
from scipy.sparse import csr_array
from sklearn.linear_model import LogisticRegression

from distsoftmax.config import ObjectiveConfig, SolverConfig, TrainConfig
from distsoftmax.coordinator.checkpoint import checkpoint_paths, load_checkpoint, save_checkpoint
from distsoftmax.coordinator.run_identity import RunIdentity
from distsoftmax.errors import InputError
from distsoftmax.objective import preconditioners
from distsoftmax.solvers import lbfgs, make_solver, proximal_lbfgs
from distsoftmax.training.stopping import CLEARLY, certified

SOLVERS = {
    "accelerated": SolverConfig(solver="gradient-descent"),
    "plain": SolverConfig(solver="gradient-descent", learning_rate=2.5),
    "momentum": SolverConfig(solver="gradient-descent", learning_rate=2.0, momentum=0.6),
    "nesterov": SolverConfig(solver="gradient-descent", learning_rate=2.0, momentum=0.6, nesterov=True),
    "lbfgs": SolverConfig(solver="lbfgs"),
    "lbfgs of pairs": SolverConfig(solver="lbfgs"),  # as for parameters too many for a hessian
    "trust-region": SolverConfig(solver="trust-region"),
}
PENALTIES = {
    "l2": ObjectiveConfig(l2=0.02),
    "l1": ObjectiveConfig(l1=0.03),
    "elastic net": ObjectiveConfig(l1=0.025, l2=0.01),
    "group": ObjectiveConfig(group=0.07),
    "group and l2": ObjectiveConfig(group=0.05, l2=0.02),
    "l1 and group": ObjectiveConfig(l1=0.012, group=0.04),
}
BOTH = [
    (solver, penalty)
    for solver in SOLVERS
    for penalty in PENALTIES
    if not (solver == "trust-region" and PENALTIES[penalty].sparse)
]
KINDS = [
    (kind, weighted, dtype)
    for kind in ("dense", "sparse")
    for weighted in (False, True)
    for dtype in ("float64", "float32")
]
FIXED_RATE = ("plain", "momentum", "nesterov")
CASES = [  # those with a rate of their own take the same evaluations as the others: two kinds of data are enough
    (solver, penalty, *kind)
    for solver, penalty in BOTH
    for kind in (KINDS if solver not in FIXED_RATE else [KINDS[0], KINDS[-1]])
]
MOST_STEPS = {solver: 500 if solver in FIXED_RATE else 1000 for solver in SOLVERS}
TOLERANCE = 1e-10
CLASSES, ROWS, FEATURES = 3, 120, 6


@pytest.fixture(autouse=True)
def _hessian(request, monkeypatch):
    """Whether the solver has the hessian as a matrix, and from when on, follows from its name."""
    names = getattr(request.node, "callspec", None)
    solver = None if names is None else names.params.get("solver")
    if solver == "lbfgs":
        monkeypatch.setattr(proximal_lbfgs, "BY_PAIRS", 0)
    if solver == "lbfgs of pairs":
        monkeypatch.setattr(preconditioners, "LARGEST_HESSIAN", 0)


@functools.cache
def samples(dtype="float64", weighted=False):
    """Features with many zeros, classes, weights."""
    generator = np.random.default_rng(7)
    features = generator.standard_normal((ROWS, FEATURES)) * (generator.random((ROWS, FEATURES)) < 0.7)
    coef = generator.standard_normal((FEATURES, CLASSES)) * np.array([2, 1, 0.5, 0.05, 0, 0])[:, None]
    labels = (features @ coef + generator.gumbel(size=(ROWS, CLASSES)) + [0.5, 0, -0.5]).argmax(axis=1)
    weights = generator.integers(1, 5, ROWS) / 2.0 if weighted else None
    return features.astype(dtype), labels, weights


def formula(penalty, dtype="float64", weighted=False):
    features, labels, weights = samples(dtype, weighted)
    weights = np.ones(ROWS) if weights is None else weights
    return Formula(features.astype(np.float64), labels, weights, PENALTIES[penalty])


def objective(penalty, kind="dense", weighted=False, dtype="float64"):
    features, labels, weights = samples(dtype, weighted)
    return real(csr_array(features) if kind == "sparse" else features, labels, PENALTIES[penalty], weights)


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_solver_refuses_the_penalties_that_it_cannot_take_and_no_others(solver, penalty):
    if (solver, penalty) in BOTH:
        TrainConfig(objective=PENALTIES[penalty], solver=SOLVERS[solver])
        return
    with pytest.raises(InputError) as refusal:
        TrainConfig(objective=PENALTIES[penalty], solver=SOLVERS[solver])
    assert str(refusal.value) == (
        "--solver trust-region takes no --l1 and no --group, which have no hessian; take lbfgs, gradient-descent or sgd"
    )


def solver_of(name, penalty):
    return make_solver(SOLVERS[name], PENALTIES[penalty])


@functools.cache
def judged(penalty, weighted=False, dtype="float64"):
    """The optimum that scikit-learn or, where it has no such penalty, scipy finds: parameters and value."""
    exact = formula(penalty, dtype, weighted)
    config = exact.config
    found = by_scipy(exact) if config.group else by_scikit_learn(exact)
    return found, float(exact.value(found))


def by_scikit_learn(exact):
    config = exact.config
    options = {"C": 1 / ((config.l1 + config.l2) * exact.weights.sum()), "tol": 1e-12, "max_iter": 100_000}
    if config.l1:
        judge = LogisticRegression(
            solver="saga", l1_ratio=config.l1 / (config.l1 + config.l2), random_state=0, **options
        )
    else:
        judge = LogisticRegression(solver="newton-cg", **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where it can go no further
        judge.fit(exact.features, exact.classes, sample_weight=exact.weights)
    return np.column_stack([judge.coef_, judge.intercept_])


def by_scipy(exact):
    """L-BFGS-B on coefficients split by sign, over the features that are in; those that want to enter are let in.

    With the sign split the L1 term is linear, and without the features that are 0 the group term is smooth. What ends
    it, that no feature outside wants in, makes the optimum the whole problem's, for the problem is convex.
    """
    config, (n_classes, _) = exact.config, exact.shape
    active = []
    parameters = np.zeros(exact.shape)

    def split(flat):
        parts = flat[n_classes:].reshape(2, n_classes, len(active))
        whole = np.zeros(exact.shape)
        whole[:, active], whole[:, -1] = parts[0] - parts[1], flat[:n_classes]
        return parts, whole

    def value_and_slope(flat):
        parts, whole = split(flat)
        norms = np.linalg.norm(whole[:, active], axis=0)
        slope = exact.gradient(whole)
        of_coef = slope[:, active] + config.group * whole[:, active] / norms
        value = exact.loss(whole) + config.l2 / 2 * np.sum(whole[:, :-1] ** 2) + config.group * norms.sum()
        slopes = np.stack([of_coef + config.l1, -of_coef + config.l1]).ravel()
        return value + config.l1 * parts.sum(), np.concatenate([slope[:, -1], slopes])

    while True:
        slope = exact.gradient(parameters)[:, :-1]
        pull = -np.sign(slope) * np.maximum(np.abs(slope) - config.l1, 0)
        strength = np.linalg.norm(pull, axis=0)
        strength[active] = 0
        if active and strength.max() <= config.group:
            return parameters
        active.append(int(strength.argmax()))
        parameters[:, active[-1]] = 0.1 * pull[:, active[-1]]
        coef = parameters[:, active]
        start = np.concatenate([parameters[:, -1], np.maximum(coef, 0).ravel(), np.maximum(-coef, 0).ravel()])
        bounds = [(None, None)] * n_classes + [(0, None)] * (2 * coef.size)
        for _ in range(3):  # started anew it comes closer
            found = scipy.optimize.minimize(
                value_and_slope,
                start,
                jac=True,
                method="L-BFGS-B",
                bounds=bounds,
                options={"ftol": 0, "gtol": 1e-12, "maxiter": 5000, "maxcor": 50},
            )
            start = found.x
        parameters = split(found.x)[1]
        assert np.linalg.norm(parameters[:, active], axis=0).min() > 1e-3, "a feature has to leave again"


@functools.cache
def solved(solver, penalty, kind="dense", weighted=False, dtype="float64"):
    """The last state of a run, and the gap that is certified of it in the end."""
    function = objective(penalty, kind, weighted, dtype)
    states, _ = run(solver_of(solver, penalty), function, np.zeros(function.shape), TOLERANCE, MOST_STEPS[solver])
    return states[-1], function.certify(states[-1].solution).gap


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("penalty", PENALTIES)
def test_the_judges_find_what_satisfies_the_optimality_conditions(penalty, weighted):
    exact = formula(penalty, weighted=weighted)
    parameters, _ = judged(penalty, weighted)
    slope, coef, config = exact.gradient(parameters), parameters[:, :-1], exact.config
    np.testing.assert_allclose(slope[:, -1], 0, atol=1e-7)
    for gradient, column in zip(slope[:, :-1].T, coef.T, strict=True):
        if not column.any() and config.sparse:
            pull = np.maximum(np.abs(gradient) - config.l1, 0)
            assert np.linalg.norm(pull) < 0.999 * config.group if config.group else (pull == 0).all()
            continue
        if config.group:
            gradient = gradient + config.group * column / np.linalg.norm(column)
        where = column != 0 if config.l1 else np.ones_like(column, dtype=bool)
        np.testing.assert_allclose(gradient[where] + config.l1 * np.sign(column[where]), 0, atol=1e-7)
        assert (np.abs(gradient[~where]) < 0.999 * config.l1).all()
    if config.sparse:
        assert (coef == 0).any()
        assert (coef != 0).any()
    if config.group and config.l1:
        assert {1, CLASSES} <= set((coef == 0).sum(axis=0))  # zeros in a feature that is in, and a feature that is out


@pytest.mark.sweep(30)
@pytest.mark.parametrize(("solver", "penalty", "kind", "weighted", "dtype"), CASES)
def test_the_optimum_that_others_find_is_reached(solver, penalty, kind, weighted, dtype):
    state, _ = solved(solver, penalty, kind, weighted, dtype)
    _, best = judged(penalty, weighted, dtype)
    reached = float(formula(penalty, dtype, weighted).value(state.solution))
    assert abs(reached - best) <= 1e-9 * best


@pytest.mark.sweep(60)
@pytest.mark.parametrize(("solver", "penalty", "kind", "weighted", "dtype"), CASES)
def test_the_certified_gap_is_not_below_the_true_one_and_is_as_small_as_was_asked(
    solver, penalty, kind, weighted, dtype
):
    """Without an L2 term the bound falls with the gradient's norm, not its square, so it ends where the steps do."""
    state, gap = solved(solver, penalty, kind, weighted, dtype)
    _, best = judged(penalty, weighted, dtype)
    assert gap >= formula(penalty, dtype, weighted).value(state.solution) - best - 1e-15  # the judge's rounding
    if PENALTIES[penalty].l2:
        # bounds found in float32 hold up to its rounding, so only those found in float64 are this close
        assert gap <= (TOLERANCE if dtype == "float64" else 1e-8) * best
    else:
        assert gap <= (1e-7 if dtype == "float64" else 1e-5) * best


@pytest.mark.sweep(60)
@pytest.mark.parametrize(
    ("solver", "penalty", "kind", "weighted", "dtype"), [case for case in CASES if case[1] != "l2"]
)
def test_coefficients_are_zero_where_the_judges_are_and_nowhere_else(solver, penalty, kind, weighted, dtype):
    state, _ = solved(solver, penalty, kind, weighted, dtype)
    parameters, _ = judged(penalty, weighted, dtype)
    np.testing.assert_array_equal(state.solution[:, :-1] == 0, parameters[:, :-1] == 0)
    np.testing.assert_allclose(state.solution[:, :-1], parameters[:, :-1], atol=1e-4)


@pytest.mark.sweep(12)
@pytest.mark.parametrize(("solver", "penalty"), BOTH)
def test_without_an_intercept_none_is_fitted_and_the_optimum_is_reached(solver, penalty):
    """The bound that judges is Fenchel's, written down anew: the probabilities, scaled towards the labels."""
    features, labels, _ = samples()
    config = dataclasses.replace(PENALTIES[penalty], intercept=False)
    function = real(features, labels, config)
    states, _ = run(make_solver(SOLVERS[solver], config), function, np.zeros(function.shape), TOLERANCE, 1000)
    solution = states[-1].solution
    assert not solution[:, -1].any()
    exact = Formula(features, labels, np.ones(ROWS), config)
    p, onehot = exact.probabilities(solution), np.eye(CLASSES)[labels]
    slope = (p - onehot).T @ features / ROWS

    def strength(shrink):
        return np.linalg.norm(np.maximum(shrink * np.abs(slope) - config.l1, 0), axis=0)

    shrink, outside = 1.0, 0.0
    if config.l2:
        outside = np.sum(np.maximum(strength(1.0) - config.group, 0) ** 2) / (2 * config.l2)
    else:
        while (strength(shrink) > config.group).any():
            shrink *= 1 - 1e-10
    q = onehot + shrink * (p - onehot)
    bound = -np.sum(scipy.special.xlogy(q, q)) / ROWS - outside
    assert exact.value(solution) - bound <= (1e-9 if config.l2 else 1e-7) * bound


# --- properties of every step ---


@pytest.mark.sweep(24)
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize(("solver", "penalty"), BOTH)
def test_a_step_leaves_the_earlier_state_as_it_was_and_can_be_repeated(solver, penalty, weighted):
    function, rule = objective(penalty, weighted=weighted), solver_of(solver, penalty)
    state = rule.init(function, np.zeros(function.shape))
    for _ in range(12):
        before = bits_of(state)
        once, twice = rule.step(function, state), rule.step(function, state)
        assert bits_of(state) == before
        assert bits_of(once) == bits_of(twice)
        state = once


@pytest.mark.parametrize(("solver", "penalty"), BOTH)
def test_a_step_does_not_depend_on_what_the_objective_was_asked_before(solver, penalty):
    function, rule = objective(penalty), solver_of(solver, penalty)
    states, _ = run(rule, function, np.zeros(function.shape), 0.0, 9)
    for number in range(len(states) - 2, 0, -3):
        assert bits_of(advance(rule, objective(penalty), states[number], 0.0)) == bits_of(states[number + 1])


@pytest.mark.sweep(10)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("solver", "penalty"), [pair for pair in BOTH if pair[0] not in FIXED_RATE])
def test_a_certificate_that_does_not_suffice_yet_leaves_the_run_on_its_way(solver, penalty, dtype):
    """It is asked for after every step, with a tolerance that it seems to reach."""
    function, rule = objective(penalty, dtype=dtype), solver_of(solver, penalty)
    state = rule.init(function, np.zeros(function.shape))
    asked = 0
    while not state.exhausted and state.step < 200:
        better = certified(function, state, 0.9 / CLEARLY * state.estimated_gap / state.value)
        asked += better is not state
        state = rule.step(function, better)
    is_newton = solver == "lbfgs" and PENALTIES[penalty].sparse  # which takes few steps
    assert asked > (0 if is_newton else 3)
    _, best = judged(penalty, False, dtype)
    assert formula(penalty, dtype).value(state.solution) - best <= 1e-9 * best


@pytest.mark.parametrize("penalty", [penalty for penalty in PENALTIES if PENALTIES[penalty].sparse])
def test_a_step_by_the_hessian_that_is_cut_short_leaves_exact_zeros(penalty, monkeypatch):
    """On the way to the model's minimiser no coefficient is 0; the solution is a proximal step away."""
    monkeypatch.setattr(proximal_lbfgs, "BY_PAIRS", 3)
    function, rule = objective(penalty), solver_of("lbfgs", penalty)
    state = rule.init(function, np.zeros(function.shape))
    for _ in range(3):
        state = rule.step(function, state)
    whole = rule.step(function, state)
    values = iter([function(whole.parameters).value + 1, *[None] * 9])  # the first trial is refused

    class Steep:
        def __getattr__(self, name):
            return getattr(function, name)

        def __call__(self, parameters):
            value = next(values)
            evaluation = function(parameters)
            return evaluation if value is None else dataclasses.replace(evaluation, value=value)

    cut = rule.step(Steep(), state)
    assert np.count_nonzero(cut.solution[:, :-1]) <= np.count_nonzero(cut.parameters[:, :-1])
    assert np.count_nonzero(cut.solution[:, :-1]) < cut.solution[:, :-1].size
    assert not np.array_equal(cut.solution, cut.parameters)


def bits_of(state):
    """All numbers of a state; a sequence of arrays has those of the arrays, and it may be empty."""
    bits = {}
    for name, value in fields_of(state).items():
        if isinstance(value, (tuple, list, np.ndarray)):
            bits[name] = len(value), b"".join(np.asarray(row).tobytes() for row in value)
        else:
            bits[name] = value
    return bits


@pytest.mark.sweep(12)
@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize(("solver", "penalty"), BOTH)
def test_the_model_has_the_same_bits_on_any_number_of_ranks(solver, penalty, kind):
    features, labels, weights = samples("float32", True)
    features = csr_array(features) if kind == "sparse" else features

    def work(function):
        states, _ = run(solver_of(solver, penalty), function, np.zeros(function.shape), 0.0, 8)
        return hashlib.sha256(states[-1].solution.tobytes()).hexdigest(), states[-1].estimated_gap

    found = [
        outcome
        for ranks in (1, 2, 3, 5)
        for outcome in distributed(work, features, labels, PENALTIES[penalty], weights, ranks=ranks, shards=7)
    ]
    assert len(found) == 11
    assert len(set(found)) == 1


@pytest.mark.sweep(12)
@pytest.mark.parametrize("kept", [False, True], ids=["", "preconditioner kept"])
@pytest.mark.parametrize(("solver", "penalty"), BOTH)
def test_a_run_resumed_at_any_step_ends_with_the_bits_of_one_without_interruption(
    solver, penalty, kept, tmp_path, monkeypatch
):
    """With a preconditioner that is fitted anew at every step, Newton's method ends after four."""
    if kept:
        monkeypatch.setattr(preconditioners, "CALLS", 1)  # evaluations are cheap, and a fit takes the time of many
    function, rule = objective(penalty), solver_of(solver, penalty)
    identity = RunIdentity({}, {}, 1, np.zeros(1, dtype=np.int64))
    start = np.zeros(function.shape)
    uninterrupted, _ = run(rule, function, start, TOLERANCE, 14)
    state = begin(rule, function, start, TOLERANCE)
    while state.step < uninterrupted[-1].step:
        save_checkpoint(tmp_path, state, identity, keep=1)
        (path,) = checkpoint_paths(tmp_path)
        loaded = load_checkpoint(path).state(rule.state_type)
        assert bits_of(loaded) == bits_of(state)
        state = advance(rule, objective(penalty), loaded, TOLERANCE)
        assert bits_of(state) == bits_of(uninterrupted[state.step])
    is_sparse = PENALTIES[penalty].sparse
    has_pairs = kept and (solver == "lbfgs of pairs" or (solver == "lbfgs" and not is_sparse))
    assert state.step > (4 if has_pairs else 3)
    assert not has_pairs or len(state.own_steps if is_sparse else state.steps) > 3
    assert state.solution.tobytes() == uninterrupted[-1].solution.tobytes()


@pytest.mark.sweep(10)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("solver", "penalty"), [pair for pair in BOTH if pair[0] not in FIXED_RATE])
def test_a_run_without_a_tolerance_says_itself_when_nothing_is_left_to_gain(solver, penalty, dtype):
    function = objective(penalty, dtype=dtype)
    states, reason = run(solver_of(solver, penalty), function, np.zeros(function.shape), 0.0, 3000)
    _, best = judged(penalty, False, dtype)
    assert reason == "no further decrease can be measured in this arithmetic"
    gap = formula(penalty, dtype).value(states[-1].solution) - best
    assert gap <= (1e-11 if dtype == "float64" else 1e-6) * best


# --- without samples ---

ON_FUNCTIONS = {
    "accelerated": (SOLVERS["accelerated"], 200_000),
    "lbfgs": (SOLVERS["lbfgs"], 10_000),  # as scipy's, where the condition is 1e8
    "trust-region": (SOLVERS["trust-region"], 500),
}


@pytest.fixture(params=ON_FUNCTIONS.values(), ids=ON_FUNCTIONS)
def minimise(request):
    """Run a solver on a plain function until its gradient has fallen to a part of the first."""
    config, max_steps = request.param

    def minimise(function, start, tolerance):
        states, reason = run(make_solver(config, ObjectiveConfig()), function, start, tolerance, max_steps)
        return states[-1], reason

    return minimise


@pytest.mark.parametrize("start", [[[-1.2, 1.0]], [[0.0, 0.0]], [[-2.0, -2.0]], [[3.0, -4.0]]], ids=str)
def test_rosenbrocks_valley_is_followed_to_its_end(minimise, start):
    state, reason = minimise(rosenbrock(), np.array(start), 1e-12)
    assert reason == "the gradient's norm is below 1e-12 of its first"
    np.testing.assert_allclose(state.solution, 1.0, atol=1e-8)


@pytest.mark.parametrize("seed", range(3))
def test_ten_dimensional_rosenbrock_is_minimised(minimise, seed):
    start = 1 + 0.5 * np.random.default_rng(seed).standard_normal((2, 5))
    state, reason = minimise(rosenbrock(), start, 1e-11)
    assert reason == "the gradient's norm is below 1e-11 of its first"
    if not np.allclose(state.solution, 1.0, atol=1e-7):  # from 4 dimensions on it has one other minimum
        assert state.value == pytest.approx(3.98, abs=0.05)
        assert np.linalg.eigvalsh(scipy.optimize.rosen_hess(state.solution.ravel())).min() > 0
        pytest.fail("the other minimum")


@pytest.mark.sweep(2)
def test_a_quadratic_of_condition_1e8_is_minimised(minimise):
    curvatures = np.geomspace(1, 1e8, 12).reshape(3, 4)
    minimiser = np.random.default_rng(0).standard_normal((3, 4))
    state, reason = minimise(quadratic(curvatures, minimiser), np.zeros((3, 4)), 1e-15)
    assert reason == "the gradient's norm is below 1e-15 of its first"
    np.testing.assert_allclose(state.solution, minimiser, atol=1e-6)


@pytest.mark.parametrize("solver", ["lbfgs", "trust-region"])
def test_a_preconditioner_makes_a_quadratic_of_condition_1e8_an_easy_one(solver):
    generator = np.random.default_rng(1)
    curvatures = np.geomspace(1, 1e8, 12).reshape(3, 4)
    minimiser, about = generator.standard_normal((3, 4)), generator.uniform(0.5, 2, (3, 4))
    function = quadratic(curvatures, minimiser, lambda gradient: gradient / (curvatures * about))
    states, reason = run(make_solver(SOLVERS[solver], ObjectiveConfig()), function, np.zeros((3, 4)), 1e-15, 40)
    assert reason == "the gradient's norm is below 1e-15 of its first"
    np.testing.assert_allclose(states[-1].solution, minimiser, atol=1e-6)


@pytest.mark.parametrize("misleading", [True, False])
def test_lbfgs_drops_a_preconditioner_that_misleads_and_says_so_and_keeps_one_that_helps(misleading, monkeypatch):
    """Both runs are long: of condition 1e8 the curvatures of one, the preconditioned ones of the other, or both."""
    generator = np.random.default_rng(0)
    curvatures, wrong = np.geomspace(1, 1e3, 400), np.geomspace(1, 1e5, 400)
    generator.shuffle(curvatures)
    generator.shuffle(wrong)
    if not misleading:  # the preconditioner leaves a condition of 1e3, of 1e8
        curvatures, wrong = curvatures * wrong, 1 / wrong
    shape = (20, 20)
    function = quadratic(curvatures.reshape(shape), np.ones(shape), lambda gradient: gradient * wrong.reshape(shape))
    solver = make_solver(SOLVERS["lbfgs"], ObjectiveConfig())
    states, reason = run(solver, function, np.zeros(shape), 1e-10, 2000)
    assert reason == "the gradient's norm is below 1e-10 of its first"
    assert states[80].remark == ""
    assert states[-1].step > 108
    assert bool(states[-1].remark) == states[-1].plain == misleading
    if misleading:
        assert "lbfgs goes on without it" in states[-1].remark
        monkeypatch.setattr(lbfgs, "FIRST_TEST", 10**9)
        untested, _ = run(solver, function, np.zeros(shape), 1e-10, 2000)
        assert len(untested) > 2 * len(states)


@pytest.mark.parametrize("l2", [1.0, 1e-3, 1e-6])
def test_logistic_regression_is_minimised(minimise, l2):
    generator = np.random.default_rng(0)
    features = generator.standard_normal((200, 5)) * [1, 2, 0.5, 1, 3]
    signs = np.where(features @ [1, -1, 0.5, 0, 0] + generator.logistic(size=200) > 0, 1.0, -1.0)
    state, reason = minimise(logistic(features, signs, l2), np.zeros((1, 5)), 1e-8)
    assert reason == "the gradient's norm is below 1e-08 of its first"
    judge = LogisticRegression(C=1 / (l2 * 200), fit_intercept=False, tol=1e-12, solver="newton-cg", max_iter=1000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        judge.fit(features, signs)
    np.testing.assert_allclose(state.solution, judge.coef_, atol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("n_classes", "factor"), [(2, 2), (3, 1)])
def test_the_documented_c_of_scikit_learn_gives_the_same_model(n_classes, factor, weighted):
    generator = np.random.default_rng(4)
    features = generator.standard_normal((300, 4))
    classes = np.argmax(features[:, :n_classes] + generator.gumbel(size=(300, n_classes)), axis=1)
    weights = generator.integers(1, 5, 300).astype(float) if weighted else None
    n = 300 if weights is None else weights.sum()
    objective = real(features, classes.astype(str), ObjectiveConfig(l2=0.02), weights)
    states, _ = run(lbfgs.Lbfgs(), objective, np.zeros(objective.shape), 1e-10, 300)
    judge = LogisticRegression(C=factor / (0.02 * n), tol=1e-12, solver="newton-cg", max_iter=1000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        judge.fit(features, classes, sample_weight=weights)
    coef = states[-1].parameters[:, :-1]
    np.testing.assert_allclose(coef[1:] - coef[0] if n_classes == 2 else coef, judge.coef_, atol=1e-5)


def test_trust_region_leaves_a_saddle_along_negative_curvature():
    """x^2 - y^2 + y^4 / 2 bends downwards along y at 0; its minima are at y = -1 and 1."""

    def product(x, v):
        return np.array([[2 * v[0, 0], (-2 + 6 * x[0, 1] ** 2) * v[0, 1]]])

    bends = []

    def recorded(x, v):
        found = product(x, v)
        bends.append(float(np.vdot(v, found)))
        return found

    function = Function(
        lambda x: x[0, 0] ** 2 - x[0, 1] ** 2 + x[0, 1] ** 4 / 2,
        lambda x: np.array([[2 * x[0, 0], -2 * x[0, 1] + 2 * x[0, 1] ** 3]]),
        recorded,
    )
    solver = make_solver(SOLVERS["trust-region"], ObjectiveConfig())
    states, _ = run(solver, function, np.array([[1e-3, 1e-6]]), 1e-10, 200)
    assert min(bends) < 0
    np.testing.assert_allclose(states[-1].solution, [[0.0, 1.0]], atol=1e-7)
    assert states[-1].value == pytest.approx(-0.5, abs=1e-12)


def test_trust_region_meets_negative_curvature_on_rosenbrock_and_is_monotone():
    """The hessian is indefinite at (0, 0.5)."""
    start = np.array([[0.0, 0.5]])
    assert np.linalg.eigvalsh(scipy.optimize.rosen_hess(start.ravel())).min() < 0
    solver = make_solver(SOLVERS["trust-region"], ObjectiveConfig())
    states, _ = run(solver, rosenbrock(), start, 1e-12, 200)
    values = [state.value for state in states]
    assert (np.diff(values) <= 0).all()
    np.testing.assert_allclose(states[-1].solution, 1.0, atol=1e-8)
    assert not math.isinf(states[-1].radius)
