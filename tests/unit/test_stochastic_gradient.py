"""Mini-batches, the schedules of their steps, and gradient descent with momentum."""

import hashlib
import itertools
import math

import numpy as np
import pytest
from objectives import Formula, distributed, fields_of, quadratic, real, run
from scipy.sparse import csr_array
from sklearn.linear_model import LogisticRegression

from distsoftmax.config import ObjectiveConfig, SolverConfig
from distsoftmax.coordinator.checkpoint import checkpoint_paths, load_checkpoint, save_checkpoint
from distsoftmax.coordinator.run_identity import RunIdentity
from distsoftmax.data.preparation import Samples
from distsoftmax.errors import Diverged, InputError
from distsoftmax.objective.mini_batches import BatchPositions, ShuffledRows
from distsoftmax.solvers import make_solver
from distsoftmax.solvers.gradient_descent import GradientDescent
from distsoftmax.solvers.schedule import batch_size, half_cosine, learning_rate_factor
from distsoftmax.training.stopping import StepLimit, Stopping

RANKS = [1, 2, 3, 5]
SIZES = [[7], [1, 1, 1], [5, 0, 9, 13], [100, 1, 1], [64] * 16, [37, 41, 38, 40, 39]]
BATCHES = [1, 2, 3, 7, 10**9]  # the last one is cut to all samples
KINDS = ["dense", "sparse", "uint8", "weighted", "weighted sparse", "centred sparse"]


def problem(rows=203, n_features=5, n_classes=3, seed=0):
    generator = np.random.default_rng(seed)
    features = generator.standard_normal((rows, n_features)) * (generator.random((rows, n_features)) < 0.7)
    scores = features @ generator.standard_normal((n_features, n_classes)) + generator.gumbel(size=(rows, n_classes))
    return features, scores.argmax(axis=1)


def samples(kind, **options):
    """Return features, labels, weights, and the options of the data that make the kind."""
    features, labels = problem(**options)
    generator = np.random.default_rng(9)
    weights = generator.integers(0, 5, len(labels)) / 4.0 if "weighted" in kind else None
    if kind == "uint8":
        features = generator.integers(0, 255, features.shape).astype(np.uint8)
    if "sparse" in kind:
        features = csr_array(features)
    data = {"standardize": True, "center": "yes"} if "centred" in kind else {"standardize": kind == "uint8"}
    return features, labels, weights, data


def sgd(**options):
    return SolverConfig(solver="sgd", **{"epochs": 2, **options})


def limited(steps):
    return Stopping(tolerance=0.0, limit=StepLimit.of_steps(steps))


def states_of(objective, config, n_steps):
    solver = make_solver(config, ObjectiveConfig())
    states = [solver.init(objective, np.zeros(objective.shape))]
    while states[-1].step < n_steps:
        states.append(solver.step(objective, states[-1]))
    return states


def final(objective, config):
    """Return the last state of a run of all epochs."""
    return states_of(objective, config, StepLimit.of(config, objective.n_samples).steps)[-1]


def bits(state):
    return hashlib.sha256(b"".join(np.asarray(value).tobytes() for value in fields_of(state).values())).hexdigest()


# --- which rows a batch takes ---


def batches_of(sizes, size, epoch=0, seed=0):
    sizes = np.array(sizes, dtype=np.int64)
    size = min(size, int(sizes.sum()))
    shares = BatchPositions(sizes, size, seed)
    return size, [shares.of(epoch, batch) for batch in range(-(-int(sizes.sum()) // size))]


@pytest.mark.parametrize("size", BATCHES)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_an_epoch_takes_every_row_of_every_shard_once(sizes, size):
    own = [
        Samples(shard, np.column_stack([np.full(rows, shard), np.arange(rows)]).astype(float), np.arange(rows))
        for shard, rows in enumerate(sizes)
        if rows
    ]
    rows = ShuffledRows(own, seed=3)
    for epoch in range(2):
        rows.shuffle(epoch)
        met = []
        for first, counts in batches_of(sizes, size, epoch)[1]:
            met += [(samples.shard, row) for samples, taken in rows.taken(first, counts) for row in taken.tolist()]
        assert sorted(met) == [(shard, row) for shard, size in enumerate(sizes) for row in range(size)]


@pytest.mark.parametrize("size", BATCHES)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_batches_hold_what_was_asked_for_and_the_last_one_what_is_left(sizes, size):
    size, batches = batches_of(sizes, size)
    held = [int(counts.sum()) for _, counts in batches]
    assert held[:-1] == [size] * (len(held) - 1)
    assert 0 < held[-1] <= size
    assert sum(held) == sum(sizes)


@pytest.mark.parametrize("size", [1, 7, 30])
def test_a_batch_takes_of_a_shard_its_share_of_what_is_left_up_to_one_row(size):
    sizes = np.array([37, 41, 5, 40, 39])
    left = sizes.copy()
    for first, counts in batches_of(sizes, size)[1]:
        np.testing.assert_array_equal(first, sizes - left)
        assert (abs(counts - counts.sum() * left / left.sum()) < 1).all()
        left -= counts


def test_every_sample_is_as_likely_as_any_other_to_be_in_a_batch():
    sizes = np.array([1, 2, 17, 4])
    shares, n_epochs = BatchPositions(sizes, 5, seed=1), 4000
    for batch in (0, 2):
        mean = np.mean([shares.of(epoch, batch)[1] for epoch in range(n_epochs)], axis=0)
        np.testing.assert_allclose(mean, 5 * sizes / 24, atol=5 * 0.5 / math.sqrt(n_epochs))


def test_batches_follow_from_seed_and_epoch_whatever_was_asked_before():
    sizes = np.array([37, 41, 38, 40, 39])
    one, other = BatchPositions(sizes, 10, 5), BatchPositions(sizes, 10, 5)
    forwards = [one.of(epoch, batch)[0].tolist() for epoch in range(3) for batch in range(20)]
    backwards = [other.of(epoch, batch)[0].tolist() for epoch in (2, 1, 0) for batch in reversed(range(20))]
    assert forwards == backwards[::-1]
    assert forwards[:20] != forwards[20:40]
    assert forwards[:20] != [BatchPositions(sizes, 10, 6).of(0, batch)[0].tolist() for batch in range(20)]


def test_more_samples_than_64_bits_can_multiply_are_shared_out_exactly():
    sizes = np.array([2**40, 2**41 + 1, 3])
    _, ((_, first), (_, second)) = batches_of(sizes, 2**41)
    assert first.sum() == 2**41
    np.testing.assert_array_equal(first + second, sizes)
    assert abs(int(first[0]) - 2**81 // int(sizes.sum())) <= 1


def test_an_epoch_of_a_shard_is_another_permutation_than_the_last():
    rows = ShuffledRows([Samples(4, np.zeros((50, 1)), np.arange(50))], seed=0)
    orders = []
    for epoch in (0, 1, 0):
        rows.shuffle(epoch)
        ((samples, taken),) = rows.taken(np.zeros(5, dtype=np.int64), np.full(5, 50))
        assert samples.shard == 4
        orders.append(taken.tolist())
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == list(range(50)) != orders[0]


# --- what a batch gives ---


@pytest.mark.parametrize("size", [4, 50, 203])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_the_mean_over_an_epochs_batches_is_the_full_objective(kind, intercept, size):
    if "centred" in kind and not intercept:
        pytest.skip("centring needs an intercept")
    features, labels, weights, data = samples(kind)
    objective = real(features, labels, ObjectiveConfig(l2=0.1, intercept=intercept), weights, dtype="float64", **data)
    parameters = np.random.default_rng(1).standard_normal(objective.shape)
    parameters[:, -1] *= intercept
    full, batches = objective(parameters), objective.mini_batches(size)
    found = [batches.gradient(parameters, 3, batch) for batch in range(batches.n_batches)]
    shares = [one.n_samples / 203 for one in found]
    assert sum(one.n_samples for one in found) == 203
    mean = sum(share * one.gradient for share, one in zip(shares, found, strict=True))
    np.testing.assert_allclose(mean, full.gradient, rtol=0, atol=1e-12)
    assert sum(share * one.value for share, one in zip(shares, found, strict=True)) == pytest.approx(full.value, 1e-12)
    if size == 203:
        np.testing.assert_allclose(found[0].gradient, full.gradient, rtol=0, atol=1e-12)
    else:
        assert np.linalg.norm(found[0].gradient - full.gradient) > 1e-3 * np.linalg.norm(full.gradient)


def test_many_classes_and_features_give_the_same_as_the_full_gradient():
    """A gradient that does not stay in cache as a whole goes another way to its sum."""
    generator = np.random.default_rng(0)
    features, labels = generator.standard_normal((900, 300)), np.arange(900) % 150
    objective = real(features, labels, ObjectiveConfig(), dtype="float64")
    parameters = generator.standard_normal(objective.shape) / 30
    found = objective.mini_batches(900).gradient(parameters, 0, 0)
    np.testing.assert_allclose(found.gradient, objective(parameters).gradient, rtol=0, atol=1e-13)


@pytest.mark.parametrize("scale", [1e-100, 1e-30, 1e30, 1e100])
def test_features_of_any_scale_are_summed_without_loss(scale):
    features, labels = problem()
    dtype = "float32" if 1e-38 < scale < 1e38 else "float64"
    features[:, 0] /= scale  # a bound of its own
    features[:, 1] *= scale
    objective = real(features, labels, ObjectiveConfig(), dtype=dtype)
    parameters = np.zeros(objective.shape)
    full, found = objective(parameters), objective.mini_batches(203).gradient(parameters, 0, 0)
    np.testing.assert_allclose(found.gradient, full.gradient, rtol=1e-10 if dtype == "float64" else 1e-4)


@pytest.mark.sweep(12)
@pytest.mark.parametrize("options", [{"momentum": 0.9}, {"momentum": 0.5, "nesterov": True, "average": True}], ids=str)
@pytest.mark.parametrize(("size", "shards", "threads"), [(40, 7, 1), (5, 16, 1), (33, 5, 3), (203, None, 2)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_state_has_the_same_bits_on_any_number_of_ranks(kind, dtype, size, shards, threads, options):
    features, labels, weights, data = samples(kind)
    config = sgd(batch=size, learning_rate=0.1, schedule="cosine", **options)

    def work(objective):
        return [bits(state) for state in states_of(objective, config, 9)]

    penalty = ObjectiveConfig(l2=1e-3, l1=1e-3)
    found = [
        outcome
        for ranks in RANKS
        for outcome in distributed(
            work,
            features,
            labels,
            penalty,
            weights,
            ranks=ranks,
            threads=threads,
            shards=shards,
            dtype=dtype,
            seed=2,
            **data,
        )
    ]
    assert len(found) == sum(RANKS)
    assert all(outcome == found[0] for outcome in found)
    assert len(set(found[0])) == 10


def test_sparse_features_take_the_steps_of_dense_ones():
    features, labels = problem()
    config = sgd(batch=30, learning_rate=0.5, momentum=0.5)
    dense, sparse = (
        states_of(real(some, labels, ObjectiveConfig(l2=1e-3), dtype="float64"), config, 12)[-1]
        for some in (features, csr_array(features))
    )
    np.testing.assert_allclose(sparse.parameters, dense.parameters, rtol=0, atol=1e-13)


def test_a_weight_of_two_counts_like_two_rows():
    features, labels = problem(60)
    twice = np.arange(60) % 2 == 0
    weighted = real(features, labels, ObjectiveConfig(), np.where(twice, 2.0, 1.0))
    repeated = real(
        np.concatenate([features, features[twice]]), np.concatenate([labels, labels[twice]]), ObjectiveConfig()
    )
    parameters = np.random.default_rng(0).standard_normal(weighted.shape)
    one, other = (
        objective.mini_batches(objective.n_samples).gradient(parameters, 0, 0) for objective in (weighted, repeated)
    )
    np.testing.assert_allclose(one.gradient, other.gradient, rtol=0, atol=1e-13)


# --- the solver ---


def test_steps_are_those_of_the_formula():
    """One shard and a batch of all samples: nothing is drawn, so the steps are those of a full gradient."""
    features, labels = problem()
    penalty = ObjectiveConfig(l2=0.01)
    objective = real(features, labels, penalty, shards=1)
    exact = Formula(features, labels, np.ones(203), penalty)
    for options in ({}, {"momentum": 0.8}, {"momentum": 0.8, "nesterov": True}):
        x = last = np.zeros(objective.shape)
        config = sgd(batch=203, epochs=6, learning_rate=0.5, schedule="inverse", **options)
        for step in range(6):
            move = options.get("momentum", 0.0) * (x - last)
            point = x + move if "nesterov" in options else x
            x, last = x + move - 0.5 / (1 + step) * exact.gradient(point), x
        state = final(objective, config)
        np.testing.assert_allclose(state.parameters, x, rtol=0, atol=1e-13)
        assert state.value == pytest.approx(float(exact.value(x)), rel=1e-12)


def test_the_full_objective_is_evaluated_at_the_end_of_an_epoch_and_kept_until_the_next():
    features, labels = problem()
    objective = real(features, labels, ObjectiveConfig(l2=0.01))
    states = states_of(objective, sgd(batch=50, epochs=3, learning_rate=0.1), 15)
    for state in states:
        at_end = state.step % 5 == 0
        assert state.is_current == at_end
        assert state.value == states[state.step // 5 * 5].value
        assert state.latest_value == (state.value if at_end else state.batch_value)
        assert state.n_sampled == (None if state.step == 0 else 3 if at_end else 50)
        if at_end:
            assert state.value == objective(state.solution).value
            assert state.brought_up_to_date(objective) is state
        else:
            fresh = state.brought_up_to_date(objective)
            assert fresh.value == objective(state.solution).value != state.value
            assert fresh.parameters is state.parameters


def test_a_run_ends_on_its_tolerance_at_the_end_of_an_epoch_alone():
    features, labels = problem()
    objective = real(features, labels, ObjectiveConfig(l2=0.1))
    config = sgd(batch=50, epochs=200, learning_rate=0.5, schedule="inverse")
    limit = StepLimit.of(config, 203)
    states, reason = run(
        make_solver(config, ObjectiveConfig()), objective, np.zeros(objective.shape), 3e-2, limit.steps
    )
    assert reason == "the certified gap is below 0.03 of the objective"
    assert states[-1].step % 5 == 0
    assert states[-1].step < limit.steps


@pytest.mark.parametrize("penalty", [ObjectiveConfig(l2=1e-3), ObjectiveConfig(l1=1e-2)], ids=["l2", "l1"])
@pytest.mark.parametrize(
    "options",
    [{}, {"momentum": 0.9, "schedule": "cosine"}, {"momentum": 0.5, "nesterov": True, "average": True, "warm_up": 1}],
    ids=str,
)
def test_a_run_resumed_at_any_step_has_the_bits_of_one_without_interruption(options, penalty, tmp_path):
    features, labels = problem()
    config = sgd(batch=60, epochs=3, **options)
    solver = make_solver(config, penalty)
    states = states_of(real(features, labels, penalty), config, 12)
    identity = RunIdentity({}, {}, 1, np.zeros(1, dtype=np.int64))
    for state, after in itertools.pairwise(states):
        save_checkpoint(tmp_path, state, identity, keep=1)
        (path,) = checkpoint_paths(tmp_path)
        loaded = load_checkpoint(path).state(solver.state_type)
        assert bits(loaded) == bits(state)
        assert bits(solver.step(real(features, labels, penalty), loaded)) == bits(after)


def test_the_average_is_the_mean_of_the_iterates_of_the_second_half():
    features, labels = problem()
    objective = real(features, labels, ObjectiveConfig(l2=1e-3))
    states = states_of(objective, sgd(batch=50, epochs=3, learning_rate=0.5, average=True), 15)  # 5 steps an epoch
    for state in states[:9]:
        np.testing.assert_array_equal(state.solution, state.parameters)
    for state in states[9:]:
        mean = np.mean([one.parameters for one in states[8 : state.step + 1]], axis=0)
        np.testing.assert_allclose(state.solution, mean, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("options", "within"),
    [
        ({"schedule": "inverse"}, 2e-3),
        ({"schedule": "cosine"}, 1e-3),
        ({"schedule": "cosine", "momentum": 0.9, "learning_rate": 0.2}, 1e-3),
        ({"schedule": "step", "momentum": 0.5, "nesterov": True}, 1e-3),
        ({"average": True}, 1e-3),
    ],
    ids=str,
)
def test_the_optimum_that_scikit_learn_finds_is_reached_within_noise(options, within):
    features, labels = problem(600)
    penalty = ObjectiveConfig(l2=0.01)
    judge = LogisticRegression(C=1 / (0.01 * 600), tol=1e-12, solver="newton-cg", max_iter=1000).fit(features, labels)
    best = float(
        Formula(features, labels, np.ones(600), penalty).value(np.column_stack([judge.coef_, judge.intercept_]))
    )
    config = sgd(**{"batch": 32, "epochs": 40, "learning_rate": 1.0, **options})
    objective = real(features, labels, penalty)
    state = final(objective, config)
    assert best - 1e-9 <= state.value <= best * (1 + within)
    assert objective.certify(state.solution).gap >= state.value - best


def test_an_l1_penalty_makes_exact_zeros_where_the_optimum_has_them():
    features, labels = problem(600)
    features = np.column_stack([features, np.random.default_rng(5).standard_normal((600, 6)) / 4])  # no help
    config = sgd(batch=200, epochs=60, schedule="cosine", learning_rate=0.5)  # of fewer, the noise is above l1
    state = final(real(features, labels, ObjectiveConfig(l1=0.04)), config)
    assert (state.solution[:, 5:-1] == 0).all()
    assert (state.solution[:, :5] != 0).any()
    group = final(real(features, labels, ObjectiveConfig(group=0.05)), config)
    np.testing.assert_array_equal(group.solution[:, :-1].any(axis=0), [True] * 5 + [False] * 6)


@pytest.mark.parametrize("size", [1, 20, 203])
@pytest.mark.parametrize("kind", KINDS)
def test_the_automatic_learning_rate_follows_from_the_expected_smoothness(kind, size):
    features, labels, weights, data = samples(kind)
    penalty = ObjectiveConfig(l2=0.05)
    objective = real(features, labels, penalty, weights, dtype="float64", **data)
    dense = features.toarray() if "sparse" in kind else features.astype(float)
    if data["standardize"]:
        dense = (dense - dense.mean(axis=0)) / dense.std(axis=0)
    rows, w = np.column_stack([dense, np.ones(203)]), np.ones(203) if weights is None else weights
    of_mean = np.linalg.eigvalsh((rows * w[:, None]).T @ rows / w.sum())[-1] / 2 + 0.05
    of_samples = 203 * (w * np.sum(rows**2, axis=1)).max() / w.sum() / 2 + 0.05
    expected = (203 * (size - 1) * of_mean + (203 - size) * of_samples) / (size * 202)
    found = objective.mini_batches(size).smoothness()
    assert expected * 0.999 <= found <= 1.11 * expected
    state = make_solver(sgd(batch=size), penalty).init(objective, np.zeros(objective.shape))
    assert state.learning_rate == 1 / (2 * found)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_the_automatic_learning_rate_is_safe_for_any_scale(scale):
    features, labels = problem()
    features = features * scale
    objective = real(features, labels, ObjectiveConfig())
    states = states_of(objective, sgd(batch=29, epochs=6), 42)  # 7 batches an epoch
    values = [state.value for state in states[::7]]
    assert max(values[1:]) < 1.01 * values[0]
    assert values[-1] < (0.95 if scale >= 1 else 1.0) * values[0]


def test_a_learning_rate_that_diverges_is_named_with_its_step_and_epoch():
    features, labels = problem()
    with pytest.raises(Diverged, match=r"step \d+, in epoch \d.*--learning-rate, or auto") as found:
        states_of(real(features, labels, ObjectiveConfig()), sgd(batch=50, epochs=9, learning_rate=1e308), 40)
    assert found.value.agreed


# --- schedules and limits ---


def test_schedules_have_their_closed_forms():
    def factors(n_batches=10, **options):
        config = sgd(**{"epochs": 4, **options})
        return [learning_rate_factor(config, step, n_batches) for step in range(config.epochs * n_batches)]

    time = np.arange(40) / 10
    assert factors() == [1.0] * 40
    np.testing.assert_allclose(factors(schedule="step"), [1.0] * 20 + [0.1] * 10 + [0.01] * 10, rtol=1e-15)
    np.testing.assert_allclose(factors(schedule="inverse"), 1 / (1 + time), rtol=1e-15)
    np.testing.assert_allclose(factors(schedule="cosine"), (1 + np.cos(np.pi * time / 4)) / 2, rtol=1e-14)
    np.testing.assert_allclose(factors(warm_up=0.5), np.minimum(np.arange(1, 41) / 5, 1), rtol=1e-15)
    np.testing.assert_allclose(factors(warm_up=2, schedule="inverse")[:20], np.arange(1, 21) / 20, rtol=1e-15)
    np.testing.assert_allclose(factors(warm_up=2, schedule="inverse")[20:], 1 / (1 + time[:20]), rtol=1e-15)
    falling = (1 + np.cos(np.pi * time[:20] / 2)) / 2
    np.testing.assert_allclose(factors(warm_up=2, schedule="cosine")[20:], falling, rtol=1e-14)


def test_half_a_cosine_is_within_1e_15_of_the_exact_one():
    """Of the half angle, which the oracle's own rounding reaches less: 1 - sin^2 near 0, cos^2 beyond."""
    for number in range(5001):
        x = number / 5000
        exact = 1 - math.sin(math.pi / 2 * x) ** 2 if number < 2500 else math.sin(math.pi / 2 * (1 - x)) ** 2
        assert abs(half_cosine(x) - exact) <= 1e-15
    assert (half_cosine(0.0), half_cosine(1.0)) == (1.0, 0.0)


def test_the_step_size_is_the_learning_rate_times_the_schedule_and_the_scaling():
    features, labels = problem()
    objective = real(features, labels, ObjectiveConfig())
    config = sgd(batch=50, learning_rate=0.3, linear_scaling=200, warm_up=1, schedule="cosine")
    for state in states_of(objective, config, 10)[1:]:
        expected = 0.3 * 50 / 200 * learning_rate_factor(config, state.step - 1, 5)
        assert state.step_size == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize(
    ("config", "steps", "reason"),
    [
        (sgd(batch=50, epochs=3), 15, "all 3 epochs are done"),
        (sgd(batch=50, epochs=1), 5, "the epoch is done"),
        (sgd(batch=50, epochs=3, max_steps=15), 15, "all 3 epochs are done"),
        (sgd(batch=50, epochs=3, max_steps=14), 14, "the limit of 14 steps is reached"),
        (sgd(batch=50, max_steps=0), 0, "the limit of 0 steps is reached"),
        (SolverConfig(), 1000, "the limit of 1000 steps is reached"),
        (SolverConfig(max_steps=0), 0, "the limit of 0 steps is reached"),
        (SolverConfig(max_steps=7), 7, "the limit of 7 steps is reached"),
    ],
    ids=str,
)
def test_a_run_ends_after_its_epochs_or_its_steps(config, steps, reason):
    limit = StepLimit.of(config, 203)
    assert (limit.steps, limit.reason) == (steps, reason)


def test_the_batch_follows_from_the_samples_unless_it_is_given():
    assert batch_size(sgd(), 10**6) == 4096
    assert batch_size(sgd(), 1438) == 90
    assert batch_size(sgd(), 3) == 1
    assert batch_size(sgd(batch=203), 203) == 203
    with pytest.raises(InputError, match="--batch is 204, and there are 203 training samples; give at most") as found:
        batch_size(sgd(batch=204), 203)
    assert found.value.agreed


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch": 0}, "--batch is 0; it must be at least 1"),
        ({"epochs": 0}, "--epochs is 0; it must be at least 1"),
        ({"linear_scaling": 0, "learning_rate": 0.1}, "--linear-scaling is 0; it must be at least 1"),
        ({"warm_up": -1.0}, "--warm-up is -1.0; it must be a finite number, 0 or more"),
        ({"warm_up": math.nan}, "--warm-up is nan"),
        ({"warm_up": 10.0}, "--warm-up is 10 of 10 epochs: it must be less, or give more --epochs"),
        ({"warm_up": 1.0, "epochs": 1}, "--warm-up is 1 of 1 epoch:"),
        ({"schedule": "step", "epochs": 1}, "--schedule step falls after half of the epochs, and there is 1"),
        ({"momentum": 1.0}, "--momentum is 1.0; it must be at least 0 and less than 1"),
        ({"nesterov": True}, "--nesterov is a kind of momentum: give --momentum too"),
        ({"linear_scaling": 256}, "--linear-scaling needs the --learning-rate that was tuned, as a number"),
        *(
            (
                {"solver": solver, name: value},
                f"--{name.replace('_', '-')} is not for --solver {solver}: it belongs to --solver sgd",
            )
            for solver in ("auto", "gradient-descent", "lbfgs", "trust-region")
            for name, value in (
                ("batch", 10),
                ("epochs", 3),
                ("schedule", "cosine"),
                ("warm_up", 1.0),
                ("linear_scaling", 256),
                ("average", True),
            )
        ),
        *(
            ({"solver": solver, name: value}, f"--{name.replace('_', '-')} is not for --solver {solver}: it belongs to")
            for solver in ("lbfgs", "trust-region")
            for name, value in (("learning_rate", 0.1), ("momentum", 0.5))
        ),
        *(
            (
                {"solver": solver, "momentum": 0.5},
                f"--momentum is not for --solver {solver}: it belongs to --solver sgd, or gradient-descent with a "
                "--learning-rate",
            )
            for solver in ("auto", "gradient-descent")
        ),
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(options, words):
    with pytest.raises(InputError) as found:
        SolverConfig(**{"solver": "sgd", **options})
    assert words in str(found.value)


def test_mini_batches_of_samples_in_scratch_take_the_same_steps():
    features, labels = problem(400)

    def work(objective):
        return bits(states_of(objective, sgd(), 12)[-1]), objective.cross_entropy.dataset.bytes_spooled

    in_memory, in_scratch = (
        distributed(work, features, labels, ObjectiveConfig(), ranks=3, shards=40, **bound)
        for bound in ({}, {"memory": "3KiB"})
    )
    assert {state for state, _ in in_scratch} == {state for state, _ in in_memory}
    assert all(spooled for _, spooled in in_scratch)


# --- gradient descent with momentum ---


@pytest.mark.parametrize("nesterov", [False, True], ids=["heavy ball", "nesterov"])
@pytest.mark.parametrize("penalty", [ObjectiveConfig(l2=0.02), ObjectiveConfig(l1=0.03)], ids=["l2", "l1"])
def test_momentum_takes_the_reference_steps(penalty, nesterov):
    features, labels = problem()
    objective = real(features, labels, penalty)
    exact = Formula(features, labels, np.ones(203), penalty)
    rate, momentum = 0.8, 0.7
    states, _ = run(GradientDescent(rate, momentum, nesterov=nesterov), objective, np.zeros(objective.shape), 0.0, 40)

    def prox(target):
        result = np.sign(target) * np.maximum(np.abs(target) - rate * penalty.l1, 0)
        result[:, -1] = target[:, -1]
        return result

    x = last = y = np.zeros(objective.shape)
    for state in states[1:]:
        if nesterov:
            x, last = prox(y - rate * exact.gradient(y)), x
            y = x + momentum * (x - last)
        else:
            x, last = prox(x - rate * exact.gradient(x) + momentum * (x - last)), x
            y = x
        np.testing.assert_allclose(state.parameters, y, rtol=0, atol=1e-12)
        assert state.value == pytest.approx(float(exact.value(y)), rel=1e-12)


@pytest.mark.parametrize("condition", [1e2, 1e4])
def test_the_heavy_ball_has_its_known_rate_on_a_quadratic(condition):
    curvatures = np.geomspace(1, condition, 12).reshape(3, 4)
    root = math.sqrt(condition)
    q = (root - 1) / (root + 1)
    function = quadratic(curvatures, np.zeros((3, 4)))
    steps = int(30 * root)
    states, _ = run(GradientDescent(4 / (root + 1) ** 2, q**2), function, np.ones((3, 4)), 0.0, steps)
    errors = [np.linalg.norm(state.parameters) for state in states]
    # with two equal roots the error is (1 + c k) q^k, so the rate shows between two late steps
    measured = (errors[-1] / errors[steps // 2]) ** (1 / (steps - steps // 2))
    assert measured == pytest.approx(q, abs=0.1 * (1 - q))
    plain, _ = run(GradientDescent(1 / condition), function, np.ones((3, 4)), 0.0, steps)
    assert errors[-1] < 1e-8 < np.linalg.norm(plain[-1].parameters)


def test_divergence_with_momentum_names_what_to_change():
    def bounded(parameters):
        return parameters**2 / 2 if abs(parameters).max() < 1e6 else parameters * math.inf

    function = quadratic(np.ones((1, 1)), np.zeros((1, 1)))
    function._value = lambda x: np.sum(bounded(x))
    with pytest.raises(
        Diverged, match=r"step \d+, before the first step it was .*--learning-rate 9 .*auto without --momentum"
    ):
        run(GradientDescent(9.0, 0.5), function, np.ones((1, 1)), 0.0, 1000)


def test_parameters_whose_squares_overflow_have_an_objective_all_the_same():
    features, labels = problem()
    objective = real(features, labels, ObjectiveConfig())
    state = states_of(objective, sgd(batch=50, epochs=1, learning_rate=1e200), 5)[-1]
    assert math.isfinite(state.value)
    assert state.value > 1e190
    with pytest.raises(
        Diverged, match=r"has risen to .*e\+\d+ after step 5, in epoch 1, .*learning rate 1e\+200 is too"
    ):
        state.check_end()


def test_a_run_that_ends_far_above_its_start_has_diverged():
    features, labels = problem()
    objective = real(features, labels, ObjectiveConfig())
    for rate, diverges in ((0.5, False), (300.0, True)):
        state = states_of(objective, sgd(batch=50, epochs=2, learning_rate=rate), 10)[-1]
        assert (state.value > 10 * state.first_value) == diverges
        if diverges:
            with pytest.raises(Diverged, match="smaller --learning-rate, or auto without --momentum"):
                limited(10).reason(state)
        else:
            assert limited(10).reason(state) == "the limit of 10 steps is reached"
        assert limited(11).reason(state) is None
