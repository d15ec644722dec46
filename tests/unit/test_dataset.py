"""What is made of the rows of a source: categories, missing numbers, weights, standardisation, memory."""

import math
import os

import numpy as np
import pytest
from memory_source import MemorySource
from objectives import dataset_of
from ranks import on_ranks
from scipy.sparse import csr_array, save_npz
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from distsoftmax.arithmetic.columns import sum_by_class, sum_magnitudes, sum_squares, sum_values
from distsoftmax.arithmetic.randomness import Purpose, permutation
from distsoftmax.cluster.communicator import Alone
from distsoftmax.config import DataConfig, ObjectiveConfig, parse_memory
from distsoftmax.data.dataset import load_dataset
from distsoftmax.data.features import Compact, SparseFeatures, core_columns, extremes, moved
from distsoftmax.data.shard_store import ShardStore
from distsoftmax.data.shards import divide_source
from distsoftmax.data.spool import Spool
from distsoftmax.describe import DescribeConfig
from distsoftmax.errors import InputError
from distsoftmax.inspection.description import describe
from distsoftmax.objective.softmax_objective import SoftmaxObjective
from distsoftmax.solvers.accelerated_gradient import AcceleratedGradient

RANKS = [1, 2, 3, 5]


def alone(work):
    (outcome,) = on_ranks(1, work)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def fit(dataset, rank, l2=1e-2, intercept=True, steps=5000):
    objective = SoftmaxObjective(dataset, ObjectiveConfig(l2=l2, intercept=intercept), rank)
    solver = AcceleratedGradient()
    state = solver.init(objective, np.zeros(objective.shape))
    while state.step < steps and not state.exhausted:
        state = solver.step(objective, state)
    return state


def dense_of(dataset, portion="training"):
    """The features of a portion as one dense array, in training's units."""
    width = len(dataset.encoding.feature_names)
    blocks = []
    for some in getattr(dataset, portion):
        if isinstance(some.features, SparseFeatures):
            trained = dataset.standardization.trained
            columns = some.features.columns if trained is None else trained[some.features.columns]
            block = np.zeros((len(some.features), width))
            block[:, columns] = some.features.matrix.toarray()
        else:
            block = some.features[:]
        blocks.append(block)
    return np.concatenate(blocks)


def problem(rows=400, n_features=8, n_classes=3, seed=0, density=0.5):
    generator = np.random.default_rng(seed)
    features = generator.standard_normal((rows, n_features)) * (generator.random((rows, n_features)) < density)
    features[:, 2] = 0.0
    features[:, 3] = 2.5
    scores = features @ generator.standard_normal((n_features, n_classes)) + generator.gumbel(size=(rows, n_classes))
    return features, scores.argmax(axis=1)


def bits(state):
    return state.parameters.tobytes(), state.value


@pytest.mark.sweep(12)
@pytest.mark.parametrize("options", [{}, {"standardize": False}, {"center": "no"}, {"valid_fraction": 0.3}], ids=str)
@pytest.mark.parametrize("kind", ["dense", "sparse", "uint8", "weighted", "categories", "streamed"])
def test_the_model_has_the_same_bits_on_any_number_of_ranks(kind, options):
    features, labels = problem()
    generator = np.random.default_rng(1)
    weights = generator.integers(0, 4, 400) / 4.0 if kind == "weighted" else None
    categories = {"colour": generator.choice(["red", "green", "blue"], 400).tolist()} if kind == "categories" else {}
    if kind == "sparse":
        features = csr_array(features)
    if kind == "uint8":
        features = generator.integers(0, 255, features.shape).astype(np.uint8)
    if kind == "streamed":
        options = {**options, "memory": "6KiB", "shards": 40}

    def work(rank):
        source = MemorySource(features, labels, weights, categories)
        return bits(fit(dataset_of(source, rank, **options), rank, steps=6))

    found = [outcome for ranks in RANKS for outcome in on_ranks(ranks, work)]
    for outcome in found:
        if isinstance(outcome, Exception):
            raise outcome
    assert len(set(found)) == 1


@pytest.mark.parametrize("center", ["auto", "yes", "no"])
@pytest.mark.parametrize("fraction", [0.0, 0.2])
def test_sparse_and_dense_features_give_the_same_objective(center, fraction):
    features, labels = problem()
    expected_center = {"auto": "no"}.get(center, center)
    options = {"dtype": "float64", "valid_fraction": fraction}

    def work(rank):
        dense = dataset_of(MemorySource(features, labels), rank, center=expected_center, **options)
        sparse = dataset_of(MemorySource(csr_array(features), labels), rank, center=center, **options)
        parameters = np.random.default_rng(0).standard_normal((3, 9))
        parameters[:, 2] = 0.0  # of the column that holds nothing: sparse features are trained without it
        one = SoftmaxObjective(dense, ObjectiveConfig(l2=1e-3), rank)(parameters)
        other = SoftmaxObjective(sparse, ObjectiveConfig(l2=1e-3), rank)(np.delete(parameters, 2, axis=1))
        return dense, sparse, (one, other)

    dense, sparse, (one, other) = alone(work)
    assert sparse.standardization.trained.tolist() == [0, 1, 3, 4, 5, 6, 7]
    np.testing.assert_allclose(sparse.standardization.scale, dense.standardization.scale, rtol=1e-12)
    np.testing.assert_allclose(sparse.standardization.mean, dense.standardization.mean, rtol=1e-12, atol=1e-14)
    assert other.value == pytest.approx(one.value, rel=1e-12)
    assert other.lower_bound == pytest.approx(one.lower_bound, rel=1e-9)
    np.testing.assert_allclose(
        other.gradient, np.delete(one.gradient, 2, axis=1), rtol=1e-12, atol=1e-12 * np.abs(one.gradient).max()
    )


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_scaling_without_centring_is_scikit_learns(kind):
    features, labels = problem()
    source = MemorySource(csr_array(features) if kind == "sparse" else features, labels)
    dataset = alone(lambda rank: dataset_of(source, rank, center="no", dtype="float64"))
    expected = StandardScaler(with_mean=False).fit_transform(features)
    np.testing.assert_allclose(dense_of(dataset), expected, rtol=1e-12)
    assert not dataset.standardization.mean.any()


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_a_weight_counts_like_repeated_rows(kind, standardize):
    features, labels = problem()
    times = np.random.default_rng(1).integers(0, 4, len(labels))
    convert = csr_array if kind == "sparse" else np.asarray

    def work(rank):
        weighted = MemorySource(convert(features), labels, times.astype(np.float64))
        repeated = MemorySource(convert(features.repeat(times, axis=0)), labels.repeat(times))
        return [
            fit(dataset_of(source, rank, standardize=standardize, dtype="float64"), rank)
            for source in (weighted, repeated)
        ]

    weighted, repeated = alone(work)
    assert weighted.value == pytest.approx(repeated.value, rel=1e-12)
    np.testing.assert_allclose(weighted.parameters, repeated.parameters, atol=1e-10)


@pytest.mark.parametrize("weighted", [False, True])
def test_balanced_class_weights_are_scikit_learns(weighted):
    features, labels = problem(density=1.0)
    labels = np.where(np.random.default_rng(2).random(400) < 0.7, 0, labels)
    weights = np.random.default_rng(3).integers(1, 4, 400).astype(np.float64) if weighted else np.ones(400)
    source = MemorySource(features, labels, weights if weighted else None)

    def work(rank):
        return fit(dataset_of(source, rank, class_weight="balanced", standardize=False, dtype="float64"), rank)

    state = alone(work)
    by_class = np.bincount(labels, weights)
    balanced = (by_class.sum() / (3 * by_class))[labels] * weights
    judge = LogisticRegression(C=1 / (1e-2 * balanced.sum()), tol=1e-12, solver="newton-cg", max_iter=1000)
    judge.fit(features, labels, sample_weight=balanced)
    np.testing.assert_allclose(state.parameters[:, :-1], judge.coef_, atol=1e-6)


def test_class_weights_from_a_file(tmp_path):
    features, labels = problem()
    path = tmp_path / "weights.json"
    path.write_text('{"0.0": 1, "1": 2, "+2": 0.5}')  # as numbers, however they are spelled

    def work(rank):
        by_file = dataset_of(MemorySource(features, labels), rank, class_weight=str(path), standardize=False)
        by_column = dataset_of(
            MemorySource(features, labels, np.array([1, 2, 0.5])[labels]), rank, standardize=False, weight="w"
        )
        return [fit(some, rank, steps=10) for some in (by_file, by_column)]

    by_file, by_column = alone(work)
    assert bits(by_file) == bits(by_column)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1]", "expected one JSON object"),
        ("{", "is not JSON"),
        ('{"0": 1, "1": 1}', "class '2' has no weight; give each class"),
        ('{"0": 1, "1": -1, "2": 1}', "class '1' has the weight -1"),
        ('{"0": 1, "1": 1, "2": 1, "9": 1}', "there is no class '9'"),
    ],
)
def test_class_weights_that_make_no_sense_are_refused(tmp_path, text, words):
    path = tmp_path / "weights.json"
    path.write_text(text)
    features, labels = problem()
    with pytest.raises(InputError, match=words):
        alone(lambda rank: dataset_of(MemorySource(features, labels), rank, class_weight=str(path)))


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ([1, -1, 1], "row 2: the weight is -1"),
        ([1, 1, np.nan], "row 3: the weight is missing; fill it in, or train"),
        ([0, 1, 0], "weight 0"),
    ],
)
def test_weights_that_make_no_sense_are_refused(weights, words):
    source = MemorySource(np.eye(3), [0, 1, 0], np.array(weights, dtype=np.float64))
    with pytest.raises(InputError, match=words):
        alone(lambda rank: dataset_of(source, rank))


@pytest.mark.parametrize("impute", ["mean", "zero"])
@pytest.mark.parametrize("ranks", [1, 3])
def test_missing_numbers_are_filled_as_scikit_learn_does(impute, ranks):
    features, labels = problem(density=1.0)
    features[np.random.default_rng(4).random(features.shape) < 0.1] = np.nan
    source = MemorySource(features, labels)
    judge = SimpleImputer(strategy="mean") if impute == "mean" else SimpleImputer(strategy="constant", fill_value=0)
    outcomes = on_ranks(ranks, lambda rank: dataset_of(source, rank, impute=impute, standardize=False, dtype="float64"))
    found = np.concatenate([dense_of(dataset) for dataset in outcomes])
    np.testing.assert_allclose(found, judge.fit_transform(features), rtol=1e-12, atol=1e-14)
    assert len({dataset.encoding.fill.tobytes() for dataset in outcomes}) == 1


def test_a_missing_number_is_named():
    features, labels = problem()
    features[123, 5] = np.nan
    with pytest.raises(InputError, match="memory: row 124, column x5: there is no number.*--impute"):
        alone(lambda rank: dataset_of(MemorySource(features, labels), rank))
    sparse = csr_array(np.where(features == 2.5, 0, features))
    with pytest.raises(InputError, match="memory: row 124, column x5: there is no number"):
        alone(lambda rank: dataset_of(MemorySource(sparse, labels), rank))
    features[123, 5] = np.inf
    with pytest.raises(InputError, match="row 124, column x5: the value is inf"):
        alone(lambda rank: dataset_of(MemorySource(features, labels), rank, impute="mean"))


@pytest.mark.parametrize("ranks", [1, 2, 5])
def test_categories_become_the_columns_of_scikit_learns_encoder(ranks):
    features, labels = problem()
    generator = np.random.default_rng(5)
    cells = {
        "colour": generator.choice(["red", "green", "blue", "é "], 400).tolist(),
        "size": generator.choice(["L", "M"], 400).tolist(),
    }
    source = MemorySource(features, labels, None, cells)
    outcomes = on_ranks(ranks, lambda rank: dataset_of(source, rank, standardize=False, dtype="float64", shards=7))
    judge = OneHotEncoder(sparse_output=False).fit(np.column_stack(list(cells.values())))
    expected = np.column_stack([features, judge.transform(np.column_stack(list(cells.values())))])
    np.testing.assert_array_equal(np.concatenate([dense_of(dataset) for dataset in outcomes]), expected)
    assert outcomes[0].encoding.feature_names[-3:] == ("colour=é ", "size=L", "size=M")


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize(
    ("columns", "owners"),
    [
        ("kind=x,kind", "column 'kind=x' and category 'x' of column 'kind'"),
        ("kind,kind=x", "column 'kind=x' and category 'x' of column 'kind'"),
    ],
)
def test_a_category_that_makes_the_name_of_a_column_is_refused_with_both(tmp_path, columns, owners, ranks):
    cells = ["1,x", "2,z", "3,x"] if columns.endswith("d") else ["x,1", "z,2", "x,3"]
    rows = "".join(f"{row},{label}\n" for row, label in zip(cells, "uvu", strict=True))
    (tmp_path / "d.csv").write_text(f"{columns},y\n{rows}")
    options = {"data": (str(tmp_path / "d.csv"),), "label": "y", "one_hot": ("kind",)}
    for error in on_ranks(ranks, lambda rank: load_dataset(DataConfig(**options), True, rank)):
        assert str(error) == (
            f"{tmp_path / 'd.csv'}: two features would be named 'kind=x': {owners}; rename one of the columns"
        )
        assert error.agreed
    (described,) = on_ranks(1, lambda rank: describe(DescribeConfig(**options), None, rank))
    assert str(error) in [problem.text for problem in described.problems]


def test_a_missing_category_is_an_error_or_none_of_the_columns():
    features, labels = problem()
    cells = ["a", "b", None, *(["a"] * 397)]
    source = MemorySource(features, labels, None, {"kind": cells})
    with pytest.raises(InputError, match="memory: row 3, column kind: there is no text"):
        alone(lambda rank: dataset_of(source, rank))
    dataset = alone(lambda rank: dataset_of(source, rank, impute="zero", standardize=False))
    np.testing.assert_array_equal(dense_of(dataset)[:4, -2:], [[1, 0], [0, 1], [0, 0], [1, 0]])


@pytest.mark.parametrize("stored", ["uint8", "int8", "int16", "uint16", "float16", "bool"])
def test_small_types_stay_as_they_are_stored(stored):
    features = np.random.default_rng(0).integers(0, 2, (300, 20)).astype(stored)
    labels = np.arange(300) % 2

    def work(rank):
        small = dataset_of(MemorySource(features, labels), rank, dtype="float64")
        large = dataset_of(MemorySource(features.astype(np.float64), labels), rank, dtype="float64")
        return small, [fit(some, rank, steps=10) for some in (small, large)]

    dataset, (one, other) = alone(work)
    assert all(isinstance(some.features, Compact) for some in dataset.training)
    assert sum(some.features.nbytes for some in dataset.training) == features.nbytes
    assert bits(one) == bits(other)
    assert alone(lambda rank: dataset_of(MemorySource(features, labels), rank)).dtype == np.float32


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["float64", "float32", "int32", "uint8", "float16", "sparse"])
def test_features_are_centred_and_multiplied_each_step_rounded_once(kind, dtype):
    generator = np.random.default_rng(0)
    values = np.rint(generator.standard_normal((300, 5)) * 30 + [0, 40, 80, 120, 160]).clip(0, 255)
    features = csr_array(values) if kind == "sparse" else values.astype(kind)
    dataset = alone(lambda rank: dataset_of(MemorySource(features, np.arange(300) % 2), rank, dtype=dtype))
    mean, inverse = dataset.standardization.mean, dataset.standardization.inverse
    if kind in ("uint8", "float16"):  # decoded as they are used, in the type computed in
        assert mean.astype(dtype).tolist() == mean.tolist()
        assert inverse.astype(dtype).tolist() == inverse.tolist()
        expected = (values.astype(dtype) - mean.astype(dtype)) * inverse.astype(dtype)
    else:
        expected = ((values - mean) * inverse).astype(dtype)
    assert dense_of(dataset).astype(dtype).tobytes() == expected.tobytes()


def test_a_deviation_whose_inverse_is_beyond_float32_is_none():
    features = np.zeros((40, 2), dtype=np.uint8)
    features[:, 1] = np.arange(40)
    features[0, 0] = 1  # in a row of next to no weight
    weights = np.ones(40)
    weights[0] = 1e-90
    dataset = alone(lambda rank: dataset_of(MemorySource(features, np.arange(40) % 2, weights), rank, dtype="float32"))
    assert dataset.standardization.inverse[0] == 1.0
    assert np.isfinite(dense_of(dataset)).all()


def test_held_out_rows_are_the_first_of_a_permutation_of_the_shard():
    features, labels = problem()
    options = {"valid_fraction": 0.3, "seed": 11, "shards": 4, "standardize": False, "dtype": "float64"}
    dataset = alone(lambda rank: dataset_of(MemorySource(features, labels), rank, **options))
    for number, samples in enumerate(dataset.held_out):
        rows = np.sort(permutation(Purpose.HOLD_OUT, 11, number, 0, 100)[:30]) + 100 * number
        assert samples.features.tobytes() == features[rows].tobytes()


@pytest.mark.parametrize("kind", ["dense", "sparse", "uint8"])
@pytest.mark.parametrize("fraction", [0.0, 0.25])
def test_shards_beyond_the_memory_bound_lie_in_scratch_and_give_the_same_bits(kind, fraction, tmp_path):
    features, labels = problem()
    features = {"dense": features, "sparse": csr_array(features), "uint8": features.astype(np.uint8)}[kind]

    def work(rank, **options):
        source = MemorySource(features, labels)
        dataset = dataset_of(source, rank, shards=40, valid_fraction=fraction, scratch=str(tmp_path), **options)
        state = fit(dataset, rank, steps=5)
        objective = SoftmaxObjective(dataset, ObjectiveConfig(), rank, threads=3)
        if fraction:
            objective.scores(state.parameters, held_out=True)
        assert source.reads == 40  # each shard once
        return dataset, bits(state)

    whole, expected = alone(work)
    assert whole.bytes_spooled == 0
    bound = whole.bytes_held // 2
    part, result = alone(lambda rank: work(rank, memory=str(bound)))
    assert result == expected
    assert 0 < part.bytes_held <= bound
    assert part.bytes_spooled > 0
    assert list(tmp_path.iterdir()) == []  # its files have no names


@pytest.mark.parametrize("kind", ["categories", "float64"])
def test_what_is_held_while_shards_change_their_size_stays_within_the_bound(tmp_path, kind, monkeypatch):
    features, labels = problem()
    categories = {"colour": [f"c{row % 30}" for row in range(400)]} if kind == "categories" else {}
    most = []
    add = ShardStore.add

    def watched(store, shard, others=0):
        kept = add(store, shard, others)
        most.append(store.bytes_held + others)
        return kept

    monkeypatch.setattr(ShardStore, "add", watched)
    source = MemorySource(features.astype(np.float32), labels, None, categories)
    options = {"memory": "24KiB", "scratch": str(tmp_path), "shards": 40, "dtype": "float64"}
    dataset = alone(lambda rank: dataset_of(source, rank, **options))
    assert dataset.bytes_spooled > 0
    assert max(most) <= 24 << 10


def test_texts_alone_are_bounded_too(tmp_path):
    labels = np.arange(400) % 2
    categories = {f"c{number}": [f"{row % 3}" for row in range(400)] for number in range(30)}
    source = MemorySource(np.empty((400, 0)), labels, None, categories)
    divided = divide_source(source, 40, Alone())
    assert divided.read(0).nbytes == 10 * 30 * 8


def test_what_lies_in_scratch_unchanged_is_not_written_again(tmp_path, monkeypatch):
    written = []
    keep = Spool.keep
    monkeypatch.setattr(Spool, "keep", lambda self, array: written.append(array.nbytes) or keep(self, array))
    writes = []
    pwrite = os.pwrite
    monkeypatch.setattr(
        os, "pwrite", lambda file, content, at: writes.append(len(content)) or pwrite(file, content, at)
    )
    features = np.random.default_rng(0).integers(0, 255, (400, 50)).astype(np.uint8)
    source = MemorySource(features, np.arange(400) % 3)
    dataset = alone(lambda rank: dataset_of(source, rank, memory="3000", scratch=str(tmp_path), shards=40))
    assert dataset.bytes_spooled > 0
    assert sum(writes) < features.nbytes < sum(written)


def test_a_memory_bound_below_what_is_at_hand_is_refused():
    features, labels = problem()
    with pytest.raises(InputError, match=r"--memory 0.000954MiB is too little for shards of .* --shards 16"):
        alone(lambda rank: dataset_of(MemorySource(features, labels), rank, memory="1000", shards=4))


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GiB", 2 << 30), ("1.5 g", 3 << 29), ("500MB", 500 << 20), ("4096", 4096), ("1e6", 10**6), ("3 kib", 3072)],
)
def test_memory_is_read_with_its_unit(text, size):
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "-1", "2 XB", "1.2.3"])
def test_memory_that_is_no_size_is_refused(text):
    with pytest.raises(InputError, match="--memory"):
        parse_memory(text)


@pytest.mark.parametrize("weighted", [False, True])
def test_column_sums_of_sparse_rows_are_those_of_dense_ones(weighted):
    features, classes = problem()
    features[:, 6] = -1 - np.abs(features[:, 6])  # no zero, and negative
    sparse = SparseFeatures.from_csr(csr_array(features))
    own = sparse.columns
    weights = np.random.default_rng(0).random(400) if weighted else None
    for measure in (sum_values, sum_magnitudes):
        sums = [measure(core_columns(rows), weights) for rows in (sparse, features)]
        np.testing.assert_allclose(sums[0], sums[1][own], rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(extremes(sparse), extremes(features)[:, own])
    by_class = [sum_by_class(core_columns(rows), classes, 3, weights) for rows in (sparse, features)]
    np.testing.assert_allclose(by_class[0], by_class[1][:, own], rtol=1e-12, atol=1e-12)
    mean = np.full(8, 0.5)
    stored = np.where(features == 0, 0, np.square(features - mean))
    expected = ((np.ones(400) if weights is None else weights) @ stored)[own]
    np.testing.assert_allclose(sum_squares(core_columns(sparse), weights, mean[own]), expected, rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-50, 2.0**-1000, 1.0, 1e90])
@pytest.mark.parametrize("by", ["sample", "class"])
def test_the_scale_of_the_weights_does_not_matter(tmp_path, scale, by):
    """In float32 such weights would underflow or overflow, and the certificate would be of another problem."""
    features, labels = problem()
    weights = np.random.default_rng(0).integers(1, 4, 400) / 4.0
    path = tmp_path / "weights.json"
    path.write_text(f'{{"0": {scale}, "1": {2 * scale}, "2": {scale}}}')

    def work(rank, scale):
        source = MemorySource(features, labels, weights * (scale if by == "sample" else 1.0))
        class_weight = str(path) if by == "class" else None
        return fit(dataset_of(source, rank, dtype="float32", class_weight=class_weight), rank, steps=20)

    found = alone(lambda rank: work(rank, scale))
    if by == "sample":
        expected = alone(lambda rank: work(rank, 1.0))
        if math.log2(scale).is_integer():
            assert bits(found) == bits(expected)
        assert found.value == pytest.approx(expected.value, rel=1e-6)
        assert found.lower_bound <= expected.value
    assert 0 < found.lower_bound <= found.value


def test_dense_and_sparse_features_do_not_mix(tmp_path):
    save_npz(tmp_path / "sparse.npz", csr_array(np.eye(4)))
    np.save(tmp_path / "y.npy", np.arange(4) % 2)
    np.savez(tmp_path / "dense.npz", X=np.eye(4), y=np.arange(4) % 2)
    sparse = {"": str(tmp_path / "sparse.npz"), "labels": str(tmp_path / "y.npy")}
    dense = str(tmp_path / "dense.npz")
    for options in (
        {"data": (dense,), "valid": (sparse[""],), "valid_labels": (sparse["labels"],)},
        {"data": (sparse[""],), "labels": (sparse["labels"],), "valid": (dense,)},
    ):
        (outcome,) = on_ranks(1, lambda rank, options=options: load_dataset(DataConfig(**options), True, rank))
        assert isinstance(outcome, InputError)
        assert "give both in one kind of format" in str(outcome)


def test_unseen_categories_of_held_out_rows_are_counted(tmp_path):
    (tmp_path / "train.csv").write_text("colour,n,kind\n" + "red,1,a\nblue,2,b\n" * 5)
    (tmp_path / "valid.csv").write_text("colour,n,kind\nmauve,1,a\nred,2,b\npink,3,a\n")
    config = DataConfig(
        data=(str(tmp_path / "train.csv"),), valid=(str(tmp_path / "valid.csv"),), label="kind", one_hot=("colour",)
    )
    for dataset in on_ranks(2, lambda rank: load_dataset(config, True, rank)):
        assert any("2 cells hold a category that training never saw" in note for note in dataset.notes)


def test_a_file_without_header_and_with_weights_is_read_for_validation(tmp_path):
    rows = "".join(f"{i % 5},{i % 3},{i % 4},{'ab'[i % 2]}\n" for i in range(40))
    (tmp_path / "d.csv").write_text(rows)
    path = (str(tmp_path / "d.csv"),)
    config = DataConfig(data=path, valid=path, label="3", weight="1", header="no")
    (dataset,) = on_ranks(1, lambda rank: load_dataset(config, True, rank))
    assert list(dataset.encoding.feature_names) == ["x0", "x2"]
    assert dataset.n_held_out == 40
    np.testing.assert_array_equal(dense_of(dataset, "held_out"), dense_of(dataset, "training"))


def test_labels_that_look_like_a_regression_are_noted():
    source = MemorySource(np.random.default_rng(0).standard_normal((60, 2)), np.arange(60))
    dataset = alone(lambda rank: dataset_of(source, rank))
    assert any("is the label a number to be predicted?" in note for note in dataset.notes)


def test_scale_of_a_full_sparse_column_has_no_noise_of_its_mean():
    generator = np.random.default_rng(0)
    features = generator.standard_normal((200, 2))
    features[:, 0] += 1e6
    weights = 10.0 ** generator.uniform(-16, 0, 200)

    def work(rank):
        return [
            dataset_of(MemorySource(some, np.arange(200) % 2, weights), rank, dtype="float64").standardization.scale
            for some in (features, csr_array(features))
        ]

    dense, sparse = alone(work)
    np.testing.assert_allclose(sparse, dense, rtol=1e-9)


@pytest.mark.parametrize("memory", [None, "500"])
def test_unseen_categories_are_counted_in_shards_in_scratch_too(tmp_path, memory):
    (tmp_path / "train.csv").write_text("colour,n,kind\n" + "red,1,a\nblue,2,b\n" * 30)
    (tmp_path / "valid.csv").write_text("colour,n,kind\n" + "mauve,1,a\nred,2,b\n" * 30)
    options = {"label": "kind", "one_hot": ("colour",), "shards": 30, "memory": memory}
    config = DataConfig(data=(str(tmp_path / "train.csv"),), valid=(str(tmp_path / "valid.csv"),), **options)
    (dataset,) = on_ranks(1, lambda rank: load_dataset(config, True, rank))
    assert (dataset.bytes_spooled > 0) == (memory is not None)
    assert any("30 cells hold a category that training never saw" in note for note in dataset.notes)


def test_columns_that_hold_nothing_are_not_trained_on_and_their_coefficients_are_0():
    features, labels = problem()
    dataset = alone(
        lambda rank: dataset_of(MemorySource(csr_array(features), labels), rank, center="yes", dtype="float64")
    )
    transform = dataset.standardization
    assert dataset.shape == (3, 8)
    parameters = np.random.default_rng(0).standard_normal(dataset.shape)
    coef, intercept = transform.in_own_units(parameters)
    assert coef.shape == (3, 8)
    assert not coef[:, 2].any()
    np.testing.assert_allclose(transform.in_training_units(coef, intercept), parameters, rtol=1e-12, atol=1e-12)
    scores = np.column_stack([(features - transform.mean) / transform.scale, np.ones(len(features))])
    expected = np.delete(scores, 2, axis=1) @ parameters.T
    np.testing.assert_allclose(features @ coef.T + intercept, expected, rtol=1e-9, atol=1e-9)


def test_held_out_rows_may_hold_columns_that_no_training_row_has():
    features, labels = problem()
    held_out = features.copy()
    held_out[:, 2] = 7.0
    dataset = alone(
        lambda rank: dataset_of(MemorySource(csr_array(features), labels), rank, center="no", dtype="float64")
    )
    rows = SparseFeatures.from_csr(csr_array(held_out))
    prepared = dataset.standardization.apply(rows, np.dtype(np.float64), "x", [str(i) for i in range(8)])
    known = np.delete(held_out / dataset.standardization.scale, 2, axis=1)
    dense = np.zeros(known.shape)
    dense[:, prepared.columns] = prepared.matrix.toarray()
    np.testing.assert_allclose(dense, known, rtol=1e-12)


@pytest.mark.parametrize("kind", ["dense", "sparse", "uint8", "weighted", "categories"])
def test_any_rank_makes_the_samples_of_any_shard_from_its_raw_rows(kind):
    features, labels = problem()
    options = {"shards": 7, "valid_fraction": 0.3, "seed": 5}
    weights = categories = None
    if kind == "sparse":
        features = csr_array(features)
    if kind == "uint8":
        features = features.astype(np.uint8)
    if kind == "weighted":
        weights = np.random.default_rng(1).random(400) * 1e6
        options["class_weight"] = "balanced"
    if kind == "categories":
        categories = {"colour": ["red", "blue", "green", "blue"] * 100}

    def content(samples):
        arrays = []
        moved(samples.features, arrays.append)
        arrays += [samples.classes] + ([] if samples.weights is None else [samples.weights])
        return [(array.dtype.name, array.shape, array.tobytes()) for array in arrays]

    def work(rank):
        source = MemorySource(features, labels, weights, categories)
        dataset = dataset_of(source, rank, **options)
        held = {samples.shard: content(samples) for samples in dataset.training}
        held_out = {samples.shard: content(samples) for samples in dataset.held_out}
        divided = divide_source(source, 7, Alone())
        made = [dataset.preparation.prepare(divided.read(number)) for number in range(7)]
        return held, held_out, [(content(shard.training), content(shard.held_out)) for shard in made]

    outcomes = on_ranks(3, work)
    for held, held_out, _ in outcomes:
        for _, _, made in outcomes:
            for number in held:
                assert made[number] == (held[number], held_out[number])
    assert sorted(number for held, _, _ in outcomes for number in held) == list(range(7))
