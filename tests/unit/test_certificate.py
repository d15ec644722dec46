"""The certificate on many small problems, easy and degenerate ones: never below the truth, and near it at the end.

No exact optimum is needed for the first: the optimum is not above any value of the objective, so a lower bound that is
above the smallest value that anyone has found, computed anew in extended precision, is wrong.
"""

import functools
import math

import numpy as np
import pytest
from objectives import Formula, real
from scipy.sparse import csr_array

from distsoftmax.config import ObjectiveConfig, SolverConfig
from distsoftmax.solvers import make_solver

N_PROBLEMS, A_TEST = 1000, 40
SOLVERS = {
    name: SolverConfig(solver=solver)
    for name, solver in {"accelerated": "gradient-descent", "lbfgs": "lbfgs", "trust-region": "trust-region"}.items()
}


def random_problem(seed):
    """Features, classes, weights and penalties: each seed's own, and all degenerate in some way of their own."""
    generator = np.random.default_rng(seed)
    n_classes = int(generator.integers(2, 7))
    n_samples = int(generator.integers(max(5, n_classes), 61))
    n_features = int(generator.integers(1, 7))
    features = generator.standard_normal((n_samples, n_features))
    classes = generator.permutation(
        np.concatenate([np.arange(n_classes), generator.integers(0, n_classes, n_samples - n_classes)])
    )
    if seed % 3 == 0:  # separable
        features[:, 0] += 20 * classes
    if seed % 4 == 1 and n_features > 1:  # collinear
        features[:, -1] = 2 * features[:, 0]
    if seed % 5 == 2:  # constant
        features[:, generator.integers(n_features)] = generator.choice([0.0, 1.0, -3.0])
    if seed % 7 == 3:  # classes of one sample each, but for the first
        classes[generator.permutation(n_samples)] = np.maximum(n_classes - 1 - np.arange(n_samples), 0)
    features *= 10.0 ** generator.uniform(-3, 3)
    weights = None
    if generator.random() < 0.4:
        weights = generator.choice([0.0, 0.25, 1.0, 1.0, 3.0, 1e3], n_samples)
        weights[[np.flatnonzero(classes == k)[0] for k in range(n_classes)]] = 1.0
    l2 = 10.0 ** generator.uniform(-12, 3)
    scale = float(np.abs(features).mean()) + 1e-3
    l1, group = (scale * 10.0 ** generator.uniform(-4, 0.5, 2)).tolist()
    penalties = [{"l2": l2}, {"l2": l2}, {"l1": l1}, {"l1": l1, "l2": l2}, {"group": group}]
    penalties += [{"group": group, "l2": l2}, {"l1": l1, "group": group}, {"l1": l1, "group": group, "l2": l2}]
    config = ObjectiveConfig(**penalties[generator.integers(len(penalties))], intercept=bool(generator.random() < 0.6))
    return features, classes, weights, config


def exact_of(features, classes, weights, config):
    weights = np.ones(len(classes)) if weights is None else weights
    return Formula(features.astype(np.float64), classes, weights, config)


def solver_names(config):
    return [name for name in SOLVERS if not (config.sparse and name == "trust-region")]


def check(seed, dtype):
    """Run one solver, judge all that it claimed by the least value that any has found."""
    features, classes, weights, config = random_problem(seed)
    features = features.astype(dtype)
    exact = exact_of(features, classes, weights, config)
    sparse = seed % 6 == 5 and features.any(axis=0).all()  # features that no row has are left out of the parameters
    given = csr_array(features) if sparse else features
    function = real(given, classes, config, weights, shards=1 + seed % 3)
    names = solver_names(config)
    first = names[seed % len(names)]
    start = np.zeros(function.shape)
    claims = []
    state = make_solver(SOLVERS[first], config).init(function, start)
    solver = make_solver(SOLVERS[first], config)
    for step in range(16):
        claims.append((state.measured, state.certified_gap, state.lower_bound))
        if step in (1, 6):
            claims.append(claim_of(function.certify(state.solution), state.solution))
        if state.exhausted:
            break
        state = solver.step(function, state)
    claims.append(claim_of(function.certify(state.solution), state.solution))
    values = [exact.value(point) for point, _, _ in claims]
    best = min(values)
    in_float64 = function if dtype == "float64" else real(features.astype(np.float64), classes, config, weights)
    for name in names:
        end, _ = polished(in_float64, name, config, state.solution)
        best = min(best, exact.value(end))
    for (_, gap, bound), value in zip(claims, values, strict=True):
        assert bound <= best, (seed, first, config, float(bound - best), float(best))
        assert gap >= value - best, (seed, first, config, float(value - best - gap), float(best))


def claim_of(found, point):
    return point, found.value - found.lower_bound + found.rounding, found.lower_bound


def polished(function, name, config, start):
    solver = make_solver(SOLVERS[name], config)
    state = solver.init(function, start)
    for _ in range(25):
        if state.exhausted:
            break
        state = solver.step(function, state)
    return state.solution, state


@pytest.mark.parametrize("first", range(0, N_PROBLEMS, A_TEST))
def test_no_bound_is_above_any_value_of_the_objective_and_no_gap_below_the_true_one(first):
    for seed in range(first, first + A_TEST):
        check(seed, "float32" if seed % 4 == 2 else "float64")


# --- how near the truth ---


@functools.cache
def ordinary_problem(seed):
    generator = np.random.default_rng(seed)
    features = generator.standard_normal((300, 8)) @ generator.standard_normal((8, 8)) / 2
    scores = features @ generator.standard_normal((8, 4)) + generator.gumbel(size=(300, 4)) + [1, 0, 0, -1]
    return features, scores.argmax(axis=1)


@functools.cache
def optimum(seed, config):
    """The least value of the objective that Newton's method finds in far more steps than it needs."""
    features, classes = ordinary_problem(seed)
    function = real(features, classes, config)
    end, _ = polished(function, "trust-region", config, np.zeros(function.shape))
    return exact_of(features, classes, None, config).value(end)


def near_the_optimum(solver, l2, intercept, seed):
    """(true relative gap, certified gap / true gap) at the points of a path, after `certify`, near its end."""
    features, classes = ordinary_problem(seed)
    config = ObjectiveConfig(l2=l2, intercept=intercept)
    function = real(features, classes, config)
    exact = exact_of(features, classes, None, config)
    rule = make_solver(SOLVERS[solver], config)
    state, best, found = rule.init(function, np.zeros(function.shape)), optimum(seed, config), []
    while not state.exhausted and state.step < 150:
        truth = exact.value(state.solution) - best
        if 1e-9 * best < truth < 1e-3 * best:
            certified = function.certify(state.solution)
            found.append((float(truth / best), float((certified.value - certified.lower_bound) / truth)))
        state = rule.step(function, state)
    return found


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("solver", ["lbfgs", "trust-region"])
@pytest.mark.parametrize("l2", [1e-1, 1e-2, 1e-3, 1e-4, 1e-5])
def test_near_the_optimum_the_certified_gap_is_within_ten_times_the_true_one(solver, l2, intercept):
    ratios = [ratio for seed in range(2) for _, ratio in near_the_optimum(solver, l2, intercept, seed)]
    assert len(ratios) >= 2
    assert min(ratios) >= 1 - 1e-5  # the optimum is known to a millionth of the smallest gap
    assert max(ratios) <= 10


@pytest.mark.parametrize("solver", ["lbfgs", "trust-region", "accelerated"])
def test_the_bound_of_better_intercepts_is_not_lower_than_that_of_the_evaluation(solver):
    features, classes = ordinary_problem(0)
    config = ObjectiveConfig(l2=1e-3)
    function = real(features, classes, config)
    rule = make_solver(SOLVERS[solver], config)
    state = rule.init(function, np.zeros(function.shape))
    for _ in range(12):
        state = rule.step(function, state)
        found = function.certify(state.parameters)
        assert found.lower_bound >= function(state.parameters).lower_bound
        assert found.value == pytest.approx(state.value, rel=1e-12)
        assert not math.isinf(found.lower_bound)
