"""Training from every format, as a user starts it: real sparse text, weights, categories, data larger than memory."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array, save_npz
from sklearn.datasets import load_svmlight_file
from sklearn.linear_model import LogisticRegression

SHARED = Path(__file__).parents[3] / "shared" / "data"
QUICK = ["--tolerance", 0, "--max-steps", 4]


@pytest.fixture
def agnews(tmp_path):
    if not (SHARED / "agnews.train.svm").exists():
        pytest.skip("the shared data set agnews is not here")
    for name in ("agnews.train.svm", "agnews.test.svm"):
        shutil.copy(SHARED / name, tmp_path)
    return tmp_path / "agnews.train.svm", tmp_path / "agnews.test.svm"


def objective_of(coef, intercept, features, classes, l2):
    """The objective by its definition, in float64."""
    scores = features @ coef.T + intercept
    scores -= scores.max(axis=1, keepdims=True)
    losses = np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(len(classes)), classes]
    return losses.mean() + l2 / 2 * np.sum(coef**2)


def test_sparse_text_reaches_scikit_learns_objective_and_its_accuracy(mpirun, agnews):
    train, test = agnews
    options = ["--data", train, "--valid", test, "--l2", 1e-4, "--no-standardize", "--dtype", "float64"]
    ended = mpirun(2, "train", *options, "--max-steps", 3000, "--tolerance", 1e-9, "--out", "text", deadline=240)
    assert ended.status == 0, ended.err
    features, labels = load_svmlight_file(str(train))
    classes = labels.astype(int) - 1
    judge = LogisticRegression(C=1 / (1e-4 * len(labels)), solver="newton-cg", tol=1e-10, max_iter=200)
    judge.fit(features, labels)
    best = objective_of(judge.coef_, judge.intercept_, features, classes, 1e-4)
    (found,) = re.findall(r"^objective: (.*)$", ended.out, re.MULTILINE)
    assert abs(float(found) - best) < 1e-8
    (accuracy,) = re.findall(r"^accuracy: (\S+) on 1600 held-out samples", ended.out, re.MULTILINE)
    assert float(accuracy) >= 0.885
    scored = mpirun(3, "evaluate", "text", "--data", test, "--json")
    assert json.loads(scored.out)["accuracy"] == pytest.approx(float(accuracy), abs=1e-4)


def test_sparse_text_gives_the_same_bits_on_any_ranks_and_in_any_sparse_format(mpirun, agnews, tmp_path):
    train, _ = agnews
    features, labels = load_svmlight_file(str(train))
    save_npz(tmp_path / "X.npz", csr_array(features))
    np.save(tmp_path / "y.npy", labels)
    lines = train.read_text().splitlines(keepends=True)
    (tmp_path / "parts").mkdir()
    for number, (start, stop) in enumerate(((0, 10), (10, 4000), (4000, 4000), (4000, 6000))):
        (tmp_path / "parts" / f"part-{number}.svm").write_text("".join(lines[start:stop]))
    found = set()
    for ranks, data in ((1, [train]), (3, [train]), (5, ["parts"]), (2, ["X.npz", "--labels", "y.npy"])):
        options = ["--data", *data, "--l2", 1e-4, "--dtype", "float64", *QUICK, "--out", f"run-{ranks}"]
        found.add(mpirun(ranks, "train", *options).sha256)
    assert len(found) == 1


def test_a_sparse_run_resumes_on_other_ranks_with_the_same_bits(mpirun, agnews):
    train, _ = agnews
    options = ["--data", train, "--l2", 1e-4, "--center", "yes", "--tolerance", 0]
    whole = mpirun(2, "train", *options, "--max-steps", 8, "--out", "whole").sha256
    mpirun(3, "train", *options, "--max-steps", 3, "--out", "part")
    again = mpirun(1, "train", *options, "--max-steps", 8, "--out", "part")
    assert "resumed from part/checkpoints/" in again.out
    assert again.sha256 == whole


@pytest.fixture
def columns(tmp_path):
    """A table with a text column, missing numbers and weights."""
    generator = np.random.default_rng(0)
    numbers = generator.standard_normal((240, 2)).round(4)
    colours = generator.choice(["red", "green", "blue"], 240)
    kinds = np.where(numbers[:, 0] + (colours == "red") + generator.gumbel(size=240) > 0.8, "yes", "no")
    lines = ["size,colour,length,w,kind"]
    for row, ((size, length), colour, kind) in enumerate(zip(numbers.tolist(), colours, kinds, strict=True)):
        lines.append(f"{'' if row % 9 == 0 else size},{colour},{length},{row % 3},{kind}")
    path = tmp_path / "columns.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


OPTIONS = ["--label", "kind", "--weight", "w", "--one-hot", "colour", "--impute", "mean", "--l2", 1e-3]


def test_the_model_takes_raw_rows_and_reports_unseen_categories(mpirun, run, columns, tmp_path):
    ended = mpirun(2, "train", "--data", columns, *OPTIONS, "--class-weight", "balanced", "--out", "run")
    assert ended.status == 0, ended.err
    (tmp_path / "new.csv").write_text("colour,length,size\nred,0.5,\nmauve,0.5,1\nblue,,\n")
    found = [mpirun(ranks, "predict", "run", "--data", "new.csv", "--out", f"p{ranks}.csv") for ranks in (1, 3)]
    for ended in found:
        assert ended.status == 0, ended.err
        assert "1 cells hold a category that training never saw" in ended.err
    assert (tmp_path / "p1.csv").read_text() == (tmp_path / "p3.csv").read_text()
    assert (tmp_path / "p1.csv").read_text().count("\n") == 4
    scored = mpirun(2, "evaluate", "run", "--data", columns, "--label", "kind", "--json")
    assert json.loads(scored.out)["accuracy"] > 0.6


def test_rows_without_the_models_text_columns_are_refused(mpirun, columns, tmp_path):
    assert mpirun(1, "train", "--data", columns, *OPTIONS, *QUICK, "--out", "run").status == 0
    np.savez(tmp_path / "bare.npz", X=np.ones((3, 2)))
    (tmp_path / "bare.csv").write_text("size,length\n1,2\n")
    for data, words in (("bare.npz", "lacks text columns that the model has: colour"), ("bare.csv", "colour")):
        ended = mpirun(2, "predict", "run", "--data", data, "--out", "p.csv")
        assert ended.status == 2
        assert words in ended.err


def test_other_columns_belong_to_another_run(mpirun, columns):
    assert mpirun(2, "train", "--data", columns, *OPTIONS, *QUICK, "--out", "run").status == 0
    for changes, words in (
        (["--impute", "zero"], "--impute was mean, now it is zero"),
        (["--class-weight", "balanced"], "class weights"),
        (["--features", "length"], "columns were"),
    ):
        ended = mpirun(2, "train", "--data", columns, *OPTIONS, *QUICK, *changes, "--out", "run")
        assert ended.status == 2
        assert words in ended.err


def test_a_source_larger_than_the_bound_trains_to_the_same_bits_in_bounded_memory(mpirun, run, tmp_path):
    rows, width, bound = 300_000, 256, 64
    generator = np.random.default_rng(0)
    np.save(tmp_path / "X.npy", generator.standard_normal((rows, width), dtype=np.float32))
    np.save(tmp_path / "y.npy", generator.integers(0, 3, rows))
    data = ["--data", "X.npy", "--labels", "y.npy", "--tolerance", 0, "--max-steps", 2]
    expected = mpirun(2, "train", *data, "--out", "whole").sha256
    measured = tmp_path / "measured.py"
    measured.write_text(
        "import resource, runpy, sys\n"
        "try:\n    runpy.run_module('distsoftmax.train', run_name='__main__', alter_sys=True)\n"
        "finally:\n    print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)\n"
    )
    ended = run("mpirun", "-n", 1, sys.executable, measured, *data, "--memory", f"{bound}MiB", "--out", "part")
    assert ended.status == 0, ended.err
    assert ended.sha256 == expected
    assert "lie in scratch" in ended.out
    (peak,) = re.findall(r"^peak (\d+)$", ended.out, re.MULTILINE)
    assert rows * width * 4 >> 20 > 4 * bound
    assert int(peak) < bound + 300, "MiB"
