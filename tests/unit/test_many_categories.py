"""Text columns of many categories make sparse features, of which the model is that of the dense ones."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.linear_model import LogisticRegression

from distsoftmax import model as model_module
from distsoftmax.data.encoding import encode_features
from distsoftmax.data.features import SparseFeatures
from distsoftmax.data.readers.columns import text_column
from distsoftmax.data.source import RawRows
from distsoftmax.model import Encoding, NumberedNames, load_model

pandas = pytest.importorskip("pandas")

N_ROWS = 400
GENERATOR = np.random.default_rng(6)
CITIES = GENERATOR.integers(0, 90, N_ROWS)
FRAME = pandas.DataFrame(
    {
        "a": GENERATOR.standard_normal(N_ROWS).round(3),
        "b": GENERATOR.integers(0, 3, N_ROWS),
        "city": [f"city {number:02d}" for number in CITIES],
        "colour": GENERATOR.choice(["red", "blue"], N_ROWS),
    }
)
SCORES = FRAME["a"] + np.sin(CITIES) + (FRAME["colour"] == "red")
FRAME["kind"] = np.where(SCORES + GENERATOR.gumbel(size=N_ROWS) > 1, "cat", np.where(FRAME["b"] == 1, "dog", "eel"))
ONE_HOT = ["--one-hot", "city", "colour"]
TO_THE_END = ["--l2", 1e-2, "--tolerance", 1e-10, "--dtype", "float64"]


@pytest.fixture
def train(job, monkeypatch):
    FRAME.to_csv("d.csv", index=False)

    def train(out, *words, ranks=2, dense=False):
        with monkeypatch.context() as patch:
            if dense:
                patch.setattr(model_module, "DENSE_CATEGORIES", 10**6)
            ended = job(ranks, "train", "--data", "d.csv", "--label", "kind", *ONE_HOT, *words, "--out", out)
        assert ended.status == 0, ended.err
        return ended, load_model(Path(out, "model.safetensors"))

    return train


@pytest.mark.parametrize(
    ("sparse", "dense"),
    [
        (["--no-standardize"], ["--no-standardize"]),
        ([], ["--center", "no"]),
        (["--center", "yes"], []),
        (["--impute", "mean", "--missing", "2"], ["--impute", "mean", "--missing", "2", "--center", "no"]),
        (["--no-intercept"], ["--no-intercept"]),
    ],
    ids=" ".join,
)
def test_the_optimum_is_that_of_the_dense_features(train, sparse, dense):
    ended, found = train("sparse", *TO_THE_END, *sparse)
    assert "sparse float64" in ended.out
    _, known = train("dense", *TO_THE_END, *dense, dense=True)
    assert found.feature_names == known.feature_names
    np.testing.assert_allclose(found.coef, known.coef, atol=2e-6)
    np.testing.assert_allclose(found.intercept, known.intercept, atol=2e-6)


def test_the_optimum_is_that_of_scikit_learn(train):
    _, found = train("run", *TO_THE_END, "--no-standardize")
    features = np.column_stack([FRAME[["a", "b"]], pandas.get_dummies(FRAME[["city", "colour"]])]).astype(float)
    known = LogisticRegression(C=1 / (1e-2 * N_ROWS), tol=1e-10, max_iter=10_000).fit(
        csr_array(features), FRAME["kind"]
    )
    np.testing.assert_allclose(found.coef, known.coef_, atol=1e-5)


def test_the_bits_do_not_depend_on_ranks_memory_or_a_restart(train, tmp_path):
    words = ["--l2", 1e-2, "--tolerance", 0, "--valid-fraction", 0.2]
    shas = {train(f"run-{ranks}", *words, "--max-steps", 6, ranks=ranks)[1].sha256 for ranks in (1, 3, 5)}
    bound = ["--memory", "12k", "--scratch", tmp_path]
    shas.add(train("bounded", *words, "--max-steps", 6, *bound)[1].sha256)
    train("part", *words, "--max-steps", 3)
    ended, model = train("part", *words, "--max-steps", 6, ranks=3)
    assert "resumed from" in ended.out
    assert shas == {model.sha256}


def test_held_out_files_evaluation_and_predictions_are_sparse_alike(train, job):
    train("run", *TO_THE_END, "--valid", "d.csv")
    train("dense", *TO_THE_END, "--center", "no", dense=True)
    scores = [json.loads(job(2, "evaluate", name, "--data", "d.csv", "--json").out) for name in ("run", "dense")]
    assert scores[0]["confusion"] == scores[1]["confusion"]
    assert scores[0]["log_loss"] == pytest.approx(scores[1]["log_loss"], rel=1e-6)
    FRAME.assign(city="nowhere").to_csv("new.csv", index=False)
    ended = job(3, "predict", "run", "--data", "new.csv", "--out", "p.csv", "--probabilities")
    assert f"{N_ROWS} cells hold a category that training never saw" in ended.err
    job(1, "predict", "dense", "--data", "new.csv", "--out", "q.csv", "--probabilities")
    found, known = (pandas.read_csv(path).iloc[:, 1:] for path in ("p.csv", "q.csv"))
    np.testing.assert_allclose(found, known, atol=1e-6)


def test_describe_tells_of_it_and_of_less_memory(job, monkeypatch):
    FRAME.to_csv("d.csv", index=False)
    words = ["describe", "d.csv", "--label", "kind", *ONE_HOT, "--ranks", 1, "--json"]
    found = json.loads(job(2, *words).out)
    monkeypatch.setattr(model_module, "DENSE_CATEGORIES", 10**6)
    known = json.loads(job(2, *words).out)
    assert (found["sparse"], known["sparse"]) == (True, False)
    assert found["memory"][0]["features_kept"] < known["memory"][0]["features_kept"] / 5


def columns(*sizes, n_rows=30):
    """Text columns of so many categories, each with missing and unknown cells."""
    for size in sizes:
        texts = [*(f"t{number}" for number in range(size)), "unknown"]
        yield text_column(texts, np.append(GENERATOR.integers(-1, size + 1, n_rows - 1), -1))


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "uint8"])
@pytest.mark.parametrize(("n_numeric", "sizes"), [(3, (70, 2)), (0, (65,)), (5, (40, 50, 60))])
def test_a_row_holds_the_same_numbers(dtype, n_numeric, sizes, monkeypatch):
    texts = tuple(columns(*sizes))
    categories = tuple((f"c{place}", tuple(f"t{number}" for number in range(size))) for place, size in enumerate(sizes))
    encoding = Encoding(numeric=tuple("abcde"[:n_numeric]), categories=categories)
    rows = RawRows(GENERATOR.integers(0, 3, (30, n_numeric)).astype(dtype), categories=texts)
    assert encoding.is_sparse
    found = encode_features(rows, encoding)
    assert isinstance(found, SparseFeatures)
    assert found.matrix.dtype == (dtype if dtype in ("float64", "float32") else "float64")
    assert (found.matrix.data != 0).all()
    monkeypatch.setattr(model_module, "DENSE_CATEGORIES", 10**6)
    dense = encode_features(rows, encoding)
    whole = np.zeros(dense.shape)
    whole[:, found.columns] = found.matrix.toarray()
    np.testing.assert_array_equal(whole, dense)


@pytest.mark.parametrize(
    ("n_numeric", "sizes", "is_sparse"),
    [(5, (64,), False), (5, (65,), True), (7, (65,), False), (0, (65,), True), (19, (100, 100), True), (5, (), False)],
)
def test_few_categories_or_many_numbers_stay_dense(n_numeric, sizes, is_sparse):
    categories = tuple((f"c{size}", ("text",) * size) for size in sizes)
    assert Encoding(numeric=NumberedNames(n_numeric), categories=categories).is_sparse == is_sparse
