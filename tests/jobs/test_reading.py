"""Training as a user starts it from real sparse text, and from data larger than memory."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_svmlight_file
from sklearn.linear_model import LogisticRegression

SHARED = Path(__file__).parents[3] / "shared" / "data"


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
