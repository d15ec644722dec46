"""What `summary` is made of, against finite differences, exact rationals, linear programming and plain numpy."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ranks import on_ranks
from scipy.optimize import linprog

from distsoftmax.cluster.communicator import Alone
from distsoftmax.data.preparation import Samples
from distsoftmax.inference import design as designs
from distsoftmax.inference.collinearity import eliminate
from distsoftmax.inference.design import Labelled
from distsoftmax.inference.estimates import chi_square_tail, normal_quantile, two_sided
from distsoftmax.inference.likelihood import Likelihood
from distsoftmax.inference.maximum import Maximum, Newton
from distsoftmax.inference.measurement import measure
from distsoftmax.inference.run_options import RunOptions
from distsoftmax.inference.separation import Separation
from distsoftmax.model import Encoding, Model

N_SHARDS = 4


def problem(features, labels, n_classes, weights=None, groups=None, cluster=None, options=None):
    """The design of samples that lie in a few shards, of which this rank has its own."""
    cluster = cluster or Alone()
    shards = []
    for number, rows in enumerate(np.array_split(np.arange(len(labels)), N_SHARDS)):
        if number % cluster.size == cluster.rank:
            of_rows = None if weights is None else weights[rows]
            samples = Samples(number, np.ascontiguousarray(features[rows]), labels[rows], of_rows)
            shards.append((samples, None if groups is None else groups[rows]))
    names = tuple(f"x{number}" for number in range(features.shape[1]))
    model = Model(
        np.zeros((n_classes, len(names))), np.zeros(n_classes), tuple("abcdef"[:n_classes]), Encoding(numeric=names)
    )
    n_groups = 0 if groups is None else int(groups.max()) + 1
    labelled = Labelled(tuple(shards), n_groups, N_SHARDS, "d.csv")
    return measure(labelled, model, options or RunOptions(intercept=True), cluster)


def show(*_):
    pass


def drawn(seed, n_rows=40, n_features=3, n_classes=3):
    generator = np.random.default_rng(seed)
    features = generator.standard_normal((n_rows, n_features)) * [3.0, 0.1, 1.0][:n_features]
    labels = generator.permutation(np.arange(n_rows) % n_classes)
    return features, labels, generator.integers(1, 5, n_rows) / 2.0, generator


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reference", [0, 2])
def test_score_and_information_are_derivatives_of_the_likelihood(weighted, reference):
    features, labels, weights, generator = drawn(0)
    likelihood = Likelihood(problem(features, labels, 3, weights if weighted else None), reference, show)
    others, at = likelihood.others, generator.standard_normal((3, 4))
    at[reference] = 0.0
    evaluation, step = likelihood.evaluate(at), 1e-5
    for number in range(8):
        offset = np.zeros((3, 4))
        offset[others[number // 4], number % 4] = step
        above, below = likelihood.evaluate(at + offset), likelihood.evaluate(at - offset)
        slope = (above.log_likelihood - below.log_likelihood) / (2 * step)
        assert slope == pytest.approx(evaluation.score.ravel()[number], abs=1e-7)
        np.testing.assert_allclose(
            (below.score - above.score).ravel() / (2 * step), evaluation.information[number], atol=1e-7
        )


@pytest.mark.parametrize("by", ["samples", "clusters"])
def test_outer_products_are_those_of_the_scores(by):
    features, labels, weights, generator = drawn(1)
    groups = generator.integers(0, 7, len(labels))
    design = problem(features, labels, 3, weights, groups if by == "clusters" else None)
    at = np.vstack([np.zeros(4), generator.standard_normal((2, 4))])
    z = np.column_stack([(features - design.mean) / design.scale, np.ones(len(labels))])
    p = np.exp(z @ at.T)
    p /= p.sum(1, keepdims=True)
    scores = (weights[:, None] * (np.eye(3)[labels] - p))[:, 1:, None] * z[:, None, :]
    scores = scores.reshape(len(labels), -1)
    if by == "clusters":
        scores = np.array([scores[groups == number].sum(0) for number in range(7)])
    np.testing.assert_allclose(Likelihood(design, 0, show).outer_products(at), scores.T @ scores, atol=1e-10)


def test_the_information_of_a_tiny_problem_is_exact_to_the_last_digits():
    """By rational numbers: at parameters 0 the probabilities are rational, and so are the standardised features."""
    features, labels = np.array([[1.0], [3.0], [1.0], [3.0]]), np.array([0, 1, 2, 1])
    likelihood = Likelihood(problem(features, labels, 3), 0, show)
    evaluation = likelihood.evaluate(np.zeros((3, 2)))
    z = [[Fraction(-1), Fraction(1)], [Fraction(1), Fraction(1)]] * 2
    third = Fraction(1, 3)
    expected = [
        [float(sum(third * ((a == b) - third) * row[i] * row[j] for row in z)) for b in (1, 2) for j in range(2)]
        for a in (1, 2)
        for i in range(2)
    ]
    np.testing.assert_allclose(evaluation.information, expected, rtol=4e-16, atol=1e-17)
    score = [
        [sum(((y == a) - third) * row[i] for y, row in zip(labels, z, strict=True)) for i in range(2)] for a in (1, 2)
    ]
    np.testing.assert_allclose(evaluation.score, np.array(score, dtype=float), rtol=4e-16, atol=1e-16)


def test_near_certainty_nothing_cancels():
    """p (1 - p) of a probability 1 - 1e-13 keeps its digits: it is summed over the other classes."""
    features, labels = np.array([[-1.0], [1.0]] * 8), np.array([0, 1, 2, 1] * 4)
    at = np.array([[0.0, 0.0], [0.0, 30.0], [0.0, 0.0]])
    information = Likelihood(problem(features, labels, 3), 0, show).evaluate(at).information
    p = np.exp(-30.0) / (1 + 2 * np.exp(-30.0))
    assert information[1, 1] == pytest.approx(16 * 2 * p * (1 - 2 * p), rel=1e-12, abs=0)


@settings(max_examples=15)
@given(st.integers(0, 2**32), st.integers(2, 4), st.integers(1, 3), st.booleans())
def test_newton_ends_where_the_score_is_0_or_names_a_separation(seed, n_classes, n_features, weighted):
    generator = np.random.default_rng(seed)
    features = generator.integers(-2, 3, (24, n_features)).astype(float)
    labels = generator.permutation(np.arange(24) % n_classes)
    weights = generator.integers(1, 4, 24).astype(float) if weighted else None
    design = problem(features, labels, n_classes, weights)
    found = Newton(Likelihood(design, 0, show), 0.0).maximise(np.zeros((n_classes, design.width)))
    z = np.column_stack([features, np.ones(24)])
    assert isinstance(found, Separation) == separable(z, labels, n_classes)
    if isinstance(found, Maximum):
        assert np.abs(found.evaluation.score).max() < 1e-8


def separable(z, labels, n_classes):
    """Whether a direction lowers no sample's score against any class, and raises some: by linear programming."""
    rows = []
    for row, own in zip(z, labels, strict=True):
        for other in set(range(n_classes)) - {own}:
            rise = np.zeros((n_classes, z.shape[1]))
            rise[own], rise[other] = row, -row
            rows.append(rise.ravel())
    rows = np.array(rows)
    found = linprog(-rows.sum(0), A_ub=-rows, b_ub=np.zeros(len(rows)), bounds=(-1, 1))
    return -found.fun > 1e-7


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(0, 3))
def test_elimination_keeps_the_first_of_features_that_follow_from_each_other(seed, n_free, n_dependent):
    generator = np.random.default_rng(seed)
    features = generator.standard_normal((50, n_free))
    order = generator.permutation(n_free + n_dependent)
    all_features = np.column_stack([features, features @ generator.integers(-2, 3, (n_free, n_dependent))])[:, order]
    deviation = all_features.std(0)
    z = np.divide(
        all_features - all_features.mean(0), deviation, out=np.zeros_like(all_features), where=deviation > 1e-9
    )
    kept, omitted = eliminate(z.T @ z / 50, np.arange(len(order)))
    ranks = [np.linalg.matrix_rank(z[:, :number], tol=1e-8) for number in range(n_free + n_dependent + 1)]
    assert kept.tolist() == [number for number in range(len(order)) if ranks[number + 1] > ranks[number]]
    for feature in omitted:
        np.testing.assert_allclose(z[:, kept] @ feature.weights, z[:, feature.feature], atol=1e-6)


def test_bits_depend_neither_on_ranks_nor_on_threads_nor_on_how_rows_are_grouped(monkeypatch):
    features, labels, weights, generator = drawn(3, n_rows=400)
    groups, at = generator.integers(0, 9, 400), generator.standard_normal((3, 4))

    def evaluated(cluster, threads):
        monkeypatch.setattr("distsoftmax.inference.measurement.choose_threads", lambda *_: threads)
        likelihood = Likelihood(problem(features, labels, 3, weights, groups, cluster), 1, show)
        evaluation = likelihood.evaluate(at)
        outer = likelihood.outer_products(at)
        content = evaluation.score.tobytes() + float(evaluation.log_likelihood).hex().encode()
        return content if cluster.rank else content + evaluation.information.tobytes() + outer.tobytes()

    outcomes = {on_ranks(size, lambda cluster: evaluated(cluster, 2))[0] for size in (1, 2, 3, 5)}
    outcomes.add(evaluated(Alone(), 1))
    assert len(outcomes) == 1


def test_wide_rows_are_looked_at_in_several_runs(monkeypatch):
    features, labels, weights, _ = drawn(4)
    whole = Likelihood(problem(features, labels, 3, weights), 0, show).evaluate(np.zeros((3, 4)))
    monkeypatch.setattr(designs, "CHUNK", 12)
    cut = Likelihood(problem(features, labels, 3, weights), 0, show).evaluate(np.zeros((3, 4)))
    np.testing.assert_allclose(cut.information, whole.information, rtol=1e-13, atol=1e-13)


def test_tails_are_those_of_tables():
    assert two_sided(np.array([1.959963984540054, -2.5758293035489004])).tolist() == [0.05, 0.01]
    assert normal_quantile(0.95) == 1.95996398454
    assert chi_square_tail(3.841458820694124, 1) == 0.05
    assert chi_square_tail(-1e-12, 3) == 1.0
