import dataclasses
import functools

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.datasets import load_iris
from sklearn.preprocessing import StandardScaler

from distsoftmax.config import DataConfig, ObjectiveConfig
from distsoftmax.data.dataset import load_dataset
from distsoftmax.errors import InputError
from distsoftmax.objective.softmax_objective import SoftmaxObjective

pytestmark = pytest.mark.mpi
load_once = functools.cache(load_dataset)  # of the same configuration and cluster


@pytest.fixture
def folder(cluster, tmp_path):
    """A folder that all ranks see."""
    return cluster.broadcast(tmp_path)


def save(cluster, path, **arrays):
    if cluster.rank == 0:
        np.savez(path, **arrays)
    cluster.broadcast(None)
    return str(path)


def parameters_of(objective, seed=0):
    return np.random.default_rng(seed).standard_normal(objective.shape)


def bits(evaluation):
    return [np.asarray(value).tobytes() for value in dataclasses.astuple(evaluation)]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shards", [None, 1, 5, 200])
def test_objective_has_the_same_bits_on_any_number_of_ranks_and_threads(cluster, alone, shards, dtype, threads):
    config = DataConfig(dtype=dtype, shards=shards)
    penalty = ObjectiveConfig(l2=1e-3)
    ours = SoftmaxObjective(load_once(config, True, cluster), penalty, cluster, threads)
    theirs = SoftmaxObjective(load_once(config, True, alone), penalty, alone)
    parameters = parameters_of(ours)
    assert bits(ours(parameters)) == bits(theirs(parameters))
    assert ours.scores(parameters, held_out=True) == theirs.scores(parameters, held_out=True)
    assert ours.scores(parameters, held_out=False) == theirs.scores(parameters, held_out=False)


@pytest.mark.parametrize("held_out", [0.0, 0.3])
def test_partition_is_the_same_on_any_number_of_ranks(cluster, alone, held_out):
    config = DataConfig(valid_fraction=held_out, seed=3)
    ours, theirs = load_dataset(config, True, cluster), load_dataset(config, True, alone)
    for name in ("n_shards", "n_rows", "n_training", "n_held_out", "classes", "encoding", "dtype"):
        assert getattr(ours, name) == getattr(theirs, name)
    np.testing.assert_array_equal(ours.shard_digests, theirs.shard_digests)
    for name in ("mean", "scale"):
        assert getattr(ours.standardization, name).tobytes() == getattr(theirs.standardization, name).tobytes()
    by_shard = {samples.shard: samples for samples in theirs.held_out}
    for samples in ours.held_out:
        np.testing.assert_array_equal(samples.features, by_shard[samples.shard].features)
    assert ours.n_held_out == int(1797 * held_out)


def test_standardization_is_scikit_learns(cluster, folder):
    features, classes = load_iris(return_X_y=True)
    features = np.column_stack([features * [1, 1e6, 1e-6, 1] + [0, 1e9, 0, 0], np.full(len(features), 0.1)])
    path = save(cluster, folder / "iris.npz", X=features, y=classes)
    dataset = load_dataset(DataConfig(data=(path,)), True, cluster)
    expected = StandardScaler().fit(features)
    np.testing.assert_allclose(dataset.standardization.mean, expected.mean_, rtol=1e-13)
    np.testing.assert_allclose(dataset.standardization.scale, expected.scale_, rtol=1e-6)
    assert dataset.standardization.scale[-1] == 1.0
    for samples in dataset.training:
        assert not samples.features[:, -1].any()  # constant, so exactly 0


def test_standardization_without_intercept_does_not_centre(cluster):
    dataset = load_dataset(DataConfig(), False, cluster)
    assert not dataset.standardization.mean.any()
    assert (dataset.standardization.scale[1:-1] != 1).any()


def test_distributed_gradient_agrees_with_one_pass_over_all_rows(cluster, folder):
    features, classes = load_iris(return_X_y=True)
    path = save(cluster, folder / "iris.npz", X=features, y=classes)
    dataset = load_dataset(DataConfig(data=(path,), standardize=False), True, cluster)
    objective = SoftmaxObjective(dataset, ObjectiveConfig(), cluster)
    parameters = parameters_of(objective)
    computed = objective(parameters)
    rows = np.column_stack([features, np.ones(150)])
    log_probabilities = log_softmax(rows @ parameters.T, axis=1)
    assert computed.value == pytest.approx(-log_probabilities[np.arange(150), classes].mean(), rel=1e-13)
    errors = np.exp(log_probabilities) - np.eye(3)[classes]
    np.testing.assert_allclose(computed.gradient, errors.T @ rows / 150, rtol=1e-12, atol=1e-13)


def test_scores_beyond_the_finite_numbers_are_reported_as_such_on_every_rank(cluster):
    objective = SoftmaxObjective(load_dataset(DataConfig(dtype="float32"), True, cluster), ObjectiveConfig(), cluster)
    assert objective(parameters_of(objective) * 1e38).value == np.inf
    assert objective(np.full(objective.shape, 1e308)).value == np.inf
    assert np.isfinite(objective(parameters_of(objective) * 1e30).value)


@pytest.mark.parametrize("rows", [2, 3, 5])
def test_more_ranks_than_rows_are_no_obstacle(cluster, alone, folder, rows):
    path = save(cluster, folder / f"few-{rows}.npz", X=np.arange(2.0 * rows).reshape(rows, 2), y=np.arange(rows) % 2)
    for shards in (None, rows):
        config = DataConfig(data=(path,), shards=shards)
        ours = SoftmaxObjective(load_dataset(config, True, cluster), ObjectiveConfig(l2=0.1), cluster)
        theirs = SoftmaxObjective(load_dataset(config, True, alone), ObjectiveConfig(l2=0.1), alone)
        assert bits(ours(parameters_of(ours))) == bits(theirs(parameters_of(ours)))


def test_bad_rows_are_named_alike_on_every_rank(cluster, folder):
    features = np.ones((200, 3))
    features[[61, 170], 1] = [np.inf, np.nan]
    path = save(cluster, folder / "bad.npz", X=features, y=np.arange(200) % 2)
    with pytest.raises(InputError, match=r"bad.npz: row 62, column x1: the value is inf") as raised:
        load_dataset(DataConfig(data=(path,)), True, cluster)
    assert raised.value.agreed


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"X": np.ones((8, 2)), "y": np.zeros(8)}, "all samples are of one class, '0'"),
        ({"X": np.full((8, 2), 1e200), "y": np.arange(8) % 2}, "column x0 holds 1e.200.*rescale"),
        ({"X": np.ones((0, 2)), "y": np.zeros(0)}, "holds no samples"),
    ],
)
def test_data_that_teach_nothing_are_refused_on_every_rank(cluster, folder, arrays, words):
    path = save(cluster, folder / "useless.npz", **arrays)
    with pytest.raises(InputError, match=words) as raised:
        load_dataset(DataConfig(data=(path,)), True, cluster)
    assert raised.value.agreed


def test_features_beyond_float32_are_refused_by_column(cluster, folder):
    path = save(cluster, folder / "large.npz", X=np.array([[1.0, 1e39], [2.0, 1.0]]), y=np.arange(2))
    config = DataConfig(data=(path,), dtype="float32", standardize=False)
    with pytest.raises(InputError, match="column x1 holds 1e.39.*--dtype float64"):
        load_dataset(config, True, cluster)


def test_a_class_that_only_held_out_rows_have_is_refused(cluster, folder):
    features = np.arange(80.0).reshape(40, 2)
    options = {"valid_fraction": 0.1, "shards": 1, "standardize": False}
    common = save(cluster, folder / "common.npz", X=features, y=np.arange(40) % 2)
    held_out = load_dataset(DataConfig(data=(common,), **options), True, cluster).held_out
    first_values = [samples.features[0, 0] for samples in held_out if len(samples.features)]
    row = max(value for values in cluster.allgather(first_values) for value in values) // 2
    rare = save(cluster, folder / "rare.npz", X=features, y=np.where(np.arange(40) == row, 7, np.arange(40) % 2))
    with pytest.raises(InputError, match="class '7' is in the held-out samples but never seen in training"):
        load_dataset(DataConfig(data=(rare,), **options), True, cluster)


def test_held_out_values_beyond_float32_are_refused_by_column(cluster, folder):
    rows = np.arange(20.0).reshape(10, 2)
    good = save(cluster, folder / "good.npz", X=rows, y=np.arange(10) % 2)
    bad = save(cluster, folder / "bad.npz", X=np.where(rows == 7, 1e45, rows), y=np.arange(10) % 2)
    with pytest.raises(InputError, match=r"bad.npz: column x1 holds 1e.45, which is beyond float32"):
        load_dataset(DataConfig(data=(good,), valid=(bad,), dtype="float32"), True, cluster)


def test_held_out_samples_do_not_move_the_bits_of_training(cluster, folder):
    features, classes = load_iris(return_X_y=True)
    good = save(cluster, folder / "iris.npz", X=features, y=classes)
    wild = save(cluster, folder / "wild.npz", X=features * 1e30, y=classes)
    computed = []
    for valid in ((), (good,), (wild,)):
        dataset = load_dataset(DataConfig(data=(good,), valid=valid), True, cluster)
        objective = SoftmaxObjective(dataset, ObjectiveConfig(l2=1e-3), cluster)
        computed.append(bits(objective(parameters_of(objective))))
    assert computed[0] == computed[1] == computed[2]


def test_held_out_rows_follow_from_the_seed(cluster):
    drawn = {}
    for seed in (0, 1, 0):
        dataset = load_dataset(DataConfig(seed=seed), True, cluster)
        counts = [len(samples.features) for samples in dataset.held_out]
        digest = hash(b"".join(samples.features.tobytes() for samples in dataset.held_out))
        assert drawn.setdefault(seed, (counts, digest)) == (counts, digest)
    assert drawn[0] != drawn[1] or cluster.size > 64


@pytest.mark.parametrize("memory", [None, "64KiB"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_hessian_preconditioner_and_certificate_have_the_same_bits_on_any_number_of_ranks(
    cluster, alone, folder, dtype, memory
):
    features, classes = load_iris(return_X_y=True)
    path = folder / "rows.npy"
    if cluster.rank == 0:
        np.save(path, np.tile(features, (20, 1)))
        np.save(folder / "classes.npy", np.tile(classes, 20))
    cluster.broadcast(None)
    config = DataConfig(data=(str(path),), labels=(str(folder / "classes.npy"),), dtype=dtype, memory=memory, shards=13)
    computed = []
    for ranks in (cluster, alone):
        objective = SoftmaxObjective(load_dataset(config, True, ranks), ObjectiveConfig(l2=1e-3), ranks)
        parameters, direction = parameters_of(objective), parameters_of(objective, 1)
        computed.append(
            (
                objective.curvature(parameters).product(direction).tobytes(),
                objective.preconditioner(parameters)(direction).tobytes(),
                bits(objective.certify(parameters)),
            )
        )
    assert computed[0] == computed[1]
