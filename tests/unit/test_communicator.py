"""The communicators that need no MPI keep the contract of all of them, and a job without mpi4py stands alone."""

import os
import subprocess
import sys

import numpy as np
import pytest
from communicator_contract import CHECKS
from ranks import on_ranks
from sklearn.datasets import load_wine

from distsoftmax.cluster.communicator import Alone
from distsoftmax.cluster.startup import SIZES

WITHOUT_MPI4PY = """
import runpy, sys
sys.modules["mpi4py"] = None
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_process_alone_keeps_the_contract(check):
    check(Alone())


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_ranks_in_one_process_keep_the_contract(check, ranks):
    for outcome in on_ranks(ranks, check):
        if isinstance(outcome, BaseException):
            raise outcome


def run(*arguments, **environment):
    inherited = {name: value for name, value in os.environ.items() if name not in SIZES}
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_MPI4PY, *map(str, arguments)],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_without_mpi4py_one_process_trains_evaluates_and_predicts(tmp_path):
    x, y = load_wine(return_X_y=True)
    data, out, predictions = tmp_path / "wine.npz", tmp_path / "run", tmp_path / "predictions.csv"
    np.savez(data, X=x, y=y)
    trained = run("distsoftmax.train", "--data", data, "--l2", "1e-3", "--out", out)
    assert trained.returncode == 0, trained.stderr
    evaluated = run("distsoftmax.evaluate", out, "--data", data)
    assert evaluated.returncode == 0, evaluated.stderr
    assert "accuracy" in evaluated.stdout
    predicted = run("distsoftmax.predict", out, "--data", data, "--out", predictions)
    assert predicted.returncode == 0, predicted.stderr
    assert len(predictions.read_text().splitlines()) == 1 + len(y)


@pytest.mark.parametrize("variable", SIZES)
def test_without_mpi4py_several_processes_are_refused(variable, tmp_path):
    refused = run("distsoftmax.train", "--out", tmp_path / "run", **{variable: "4"})
    assert refused.returncode == 2
    assert "pip install mpi4py" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "run").exists()
