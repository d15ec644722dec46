"""What is trained is what scikit-learn's formulas say, from the command line to the files; jobs/ has real ranks."""

import csv
import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from distsoftmax.model import load_model

THETA = """
-1.0547100335748156  0.49326029439008406  0.5614497391847306
-0.1683223681200128  0.09422765318774201  0.07409471493227056
0.7180652973347894 -0.30480498801459976 -0.4132603093201899
"""


def test_the_reference_example_gives_its_theta_on_any_number_of_ranks(job, drawn, tmp_path):
    np.savez(tmp_path / "example.npz", X=np.arange(1, 13).reshape(4, 3), y=[0, 1, 2, 1])
    options = [
        "--no-intercept",
        "--no-standardize",
        "--solver",
        "gradient-descent",
        "--learning-rate",
        "0.01",
        "--max-steps",
        "1000",
        "--tolerance",
        "0",
        "--dtype",
        "float64",
    ]
    bits = set()
    for ranks in (1, *drawn((2, 3, 4, 8), 1)):
        out = tmp_path / str(ranks)
        ended = job(ranks, "train", "--data", "example.npz", *options, "--out", out)
        assert ended.status == 0, ended.err
        bits.add(ended.sha256)
        model = load_model(out / "model.safetensors")
        np.testing.assert_allclose(model.coef.T, np.loadtxt(THETA.split("\n")), rtol=0, atol=1e-12)
        assert not model.intercept.any()
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        losses = {line["step"]: line["objective"] for line in lines}
        assert losses[0] == pytest.approx(1.0986122886681098, abs=1e-14)
        assert losses[1] == pytest.approx(0.9629575412514221, abs=1e-14)
        assert losses[1000] == pytest.approx(0.6444379770870537, abs=1e-12)
    assert len(bits) == 1


def test_the_saved_model_is_scikit_learns_in_the_users_units(job, table, tmp_path):
    ended = job(
        3, "train", "--data", table, "--label", "kind", "--dtype", "float64", "--l2", 1e-2, "--tolerance", 1e-10,
        "--no-standardize", "--max-steps", 5000, "--out", tmp_path / "run",
    )  # fmt: skip
    assert ended.status == 0, ended.err
    model = load_model(tmp_path / "run" / "model.safetensors")
    assert model.classes == ("cat", "dog", "eel")
    assert model.feature_names == ("a", "b", "c", "d")
    rows = [line.split(",") for line in table.read_text().splitlines()[1:]]
    features = np.array([[row[0], row[1], row[3], row[4]] for row in rows], dtype=float)
    kinds = [row[2] for row in rows]
    judge = LogisticRegression(C=1 / (1e-2 * 300), tol=1e-12, solver="newton-cholesky").fit(features, kinds)
    np.testing.assert_allclose(model.coef, judge.coef_, atol=1e-5)
    np.testing.assert_allclose(
        model.intercept - model.intercept.mean(), judge.intercept_ - judge.intercept_.mean(), atol=1e-5
    )


def test_held_out_scores_come_at_the_cadence_asked_for(job, table, tmp_path):
    options = ["--data", table, "--label", "kind", "--valid", table, "--tolerance", 0, "--max-steps", 25]
    options += ["--solver", "gradient-descent"]
    job(2, "train", *options, "--evaluate-every", 10, "--metrics-every", 5, "--out", tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 5, 10, 15, 20, 25]
    assert [line["step"] for line in lines if "held_out_accuracy" in line] == [0, 10, 20, 25]
    assert lines[-1]["held_out_log_loss"] == pytest.approx(lines[-1]["objective"], rel=1e-5)
    for line in lines:
        assert line["slowest_compute_seconds"] >= line["fastest_compute_seconds"] > 0
        assert line["seconds"] is None if line["step"] == 0 else line["seconds"] > 0


@pytest.mark.parametrize("ranks", [1, 3])
def test_predictions_and_evaluation_agree_with_scikit_learns_formulas(job, table, tmp_path, ranks):
    from sklearn.metrics import accuracy_score, confusion_matrix, log_loss, precision_recall_fscore_support

    job(2, "train", "--data", table, "--label", "kind", "--max-steps", 20, "--out", tmp_path / "run")
    ended = job(ranks, "predict", "run", "--data", table, "--out", "predictions.csv", "--probabilities")
    assert ended.status == 0, ended.err
    with open(tmp_path / "predictions.csv", newline="") as file:
        predictions = list(csv.DictReader(file))
    truth = [line.split(",")[2] for line in table.read_text().splitlines()[1:]]
    labels = ["cat", "dog", "eel"]
    predicted = [row["prediction"] for row in predictions]
    probabilities = np.array([[float(row[f"probability_{label}"]) for label in labels] for row in predictions])
    model = load_model(tmp_path / "run" / "model.safetensors")
    rows = [line.split(",") for line in table.read_text().splitlines()[1:]]
    features = np.array([[row[0], row[1], row[3], row[4]] for row in rows], dtype=float)
    scores = np.exp(features @ model.coef.T + model.intercept)
    np.testing.assert_allclose(probabilities, scores / scores.sum(axis=1, keepdims=True), rtol=1e-9)
    assert predicted == [labels[k] for k in probabilities.argmax(axis=1)]

    ended = job(ranks, "evaluate", "run/model.safetensors", "--data", table, "--label", "kind", "--json")
    assert ended.status == 0, ended.err
    found = json.loads(ended.out)
    precision, recall, f1, support = precision_recall_fscore_support(truth, predicted, labels=labels)
    assert found["accuracy"] == accuracy_score(truth, predicted)
    assert found["log_loss"] == pytest.approx(log_loss(truth, probabilities, labels=labels), rel=1e-9)
    assert found["confusion"] == confusion_matrix(truth, predicted, labels=labels).tolist()
    for k, label in enumerate(labels):
        assert found["classes"][label]["precision"] == pytest.approx(precision[k])
        assert found["classes"][label]["recall"] == pytest.approx(recall[k])
        assert found["classes"][label]["f1"] == pytest.approx(f1[k])
        assert found["classes"][label]["support"] == support[k]
    without_job = job(1, "evaluate", "run", "--data", table, "--label", "kind")
    assert f"accuracy {found['accuracy']:.4f}" in without_job.out


@pytest.mark.parametrize("solver", ["lbfgs", "gradient-descent"])
def test_a_model_of_the_elastic_net_is_scikit_learns_with_the_same_zeros(job, table, tmp_path, solver):
    l1, l2 = 0.03, 0.01
    ended = job(
        3, "train", "--data", table, "--label", "kind", "--dtype", "float64", "--solver", solver, "--l1", l1,
        "--l2", l2, "--tolerance", 1e-10, "--no-standardize", "--out", tmp_path / "run",
    )  # fmt: skip
    assert ended.status == 0, ended.err
    assert "the certified gap is below 1e-10 of the objective" in ended.out
    model = load_model(tmp_path / "run" / "model.safetensors")
    rows = [line.split(",") for line in table.read_text().splitlines()[1:]]
    features = np.array([[row[0], row[1], row[3], row[4]] for row in rows], dtype=float)
    judge = LogisticRegression(
        C=1 / ((l1 + l2) * 300), l1_ratio=l1 / (l1 + l2), solver="saga", tol=1e-12, max_iter=100_000, random_state=0
    ).fit(features, [row[2] for row in rows])
    assert (judge.coef_ == 0).any()
    np.testing.assert_array_equal(model.coef == 0, judge.coef_ == 0)
    np.testing.assert_allclose(model.coef, judge.coef_, atol=1e-5)
