"""Estimators under mpirun, each rank with its own rows; tests/unit/test_estimator.py has the cases."""

import sys
from pathlib import Path

import pytest
from conftest import ROOT
from sklearn.datasets import load_digits

from distsoftmax import SoftmaxRegression, SoftmaxRegressionCV

PROGRAM = Path(__file__).with_name("estimators.py")


@pytest.mark.launcher
def test_ranks_that_give_their_own_rows_get_the_model_of_all_rows(run):
    X, y = (of[:300] for of in load_digits(return_X_y=True))
    path = SoftmaxRegressionCV([0.1, 0.01], cv=2).fit(X, y)
    alone = f"{SoftmaxRegression(l2=1e-3).fit(X, y).model_.sha256} {path.model_.sha256} {path.l2_:g}"
    ended = run("mpirun", "-n", 3, sys.executable, PROGRAM, env={"PYTHONPATH": str(ROOT)})
    assert ended.status == 0, ended.err
    digests, error = ended.out.splitlines()
    assert digests == alone
    assert "X has 63 features and 64" in error
