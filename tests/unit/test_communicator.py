"""The communicators that need no MPI keep the contract of all of them, and a job without mpi4py stands alone."""

import subprocess
import sys

import pytest
from communicator_contract import CHECKS
from ranks import on_ranks

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
    import os

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
    out = tmp_path / "run"
    trained = run("distsoftmax.train", "--max-steps", 3, "--out", out)
    assert trained.returncode == 0, trained.stderr
    assert (out / "model.safetensors").exists()
    refused = run("distsoftmax.evaluate", "--model", tmp_path / "missing.safetensors", "--data", "x.csv")
    assert refused.returncode == 2
    assert "missing.safetensors" in refused.stderr


@pytest.mark.parametrize("variable", SIZES)
def test_without_mpi4py_several_processes_are_refused(variable, tmp_path):
    refused = run("distsoftmax.train", "--out", tmp_path / "run", **{variable: "4"})
    assert refused.returncode == 2
    assert "pip install mpi4py" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "run").exists()
