"""Tests inside an MPI job: mpirun -n 3 python -m pytest --with-mpi tests/mpi

A test that fails on one rank would leave the others waiting in a collective call, so it ends the job.
"""

import os
import shutil
import sys
import tempfile

import pytest
from mpi4py import MPI

from distsoftmax.cluster.mpi import MpiCommunicator

SEED = "DISTSOFTMAX_TEST_SEED"
os.environ[SEED] = MPI.COMM_WORLD.bcast(os.environ[SEED])  # all ranks run the same tests


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    """Give each rank a folder of its own: pytest's common one is tidied up by each rank while the others use it."""
    if config.option.basetemp is None:
        config.option.basetemp = tempfile.mkdtemp(prefix="distsoftmax-rank-")
        config.add_cleanup(lambda: shutil.rmtree(config.option.basetemp, ignore_errors=True))


@pytest.fixture(scope="session")
def cluster():
    return MpiCommunicator(MPI.COMM_WORLD)


@pytest.fixture(scope="session")
def alone():
    """A cluster of this rank only: what the distributed results are compared with."""
    return MpiCommunicator(MPI.COMM_SELF)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.failed and MPI.COMM_WORLD.Get_size() > 1:
        print(f"\nrank {MPI.COMM_WORLD.Get_rank()}: {item.nodeid} failed\n{report.longreprtext}", file=sys.__stderr__)
        sys.__stderr__.flush()
        MPI.COMM_WORLD.Abort(1)
