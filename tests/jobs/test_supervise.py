"""The supervisor and the launch scripts with real jobs; what happens at random moments is in test_chaos.py."""

import os
import shutil
import signal
import sys
import time

import chaos
import pytest
from conftest import OPEN_MPI, ROOT

MPI = "openmpi" if OPEN_MPI else "mpich"
PYTHONPATH = os.pathsep.join([str(ROOT / "tests" / "jobs" / "faults"), str(ROOT)])
SUPERVISE = [sys.executable, "-m", "distsoftmax.supervise"]
RUN = [*chaos.COMMON, *chaos.PROBLEMS["momentum"], "--checkpoint-every", 1, "--out", "run"]
TRAIN = ["python", "-m", "distsoftmax.train", *RUN]
LONG = [*TRAIN, "--max-steps", 100_000]
FAULTS = {"PYTHONPATH": PYTHONPATH}


@pytest.fixture(scope="module")
def undisturbed(shared_mpirun, shared_folder):
    chaos.write_samples(shared_folder)
    return shared_mpirun(1, "train", *RUN).sha256


@pytest.fixture(autouse=True)
def samples(tmp_path):
    chaos.write_samples(tmp_path)


@pytest.fixture
def faults(tmp_path):
    """Return the environment in which faults happen."""
    marks = tmp_path / "marks"
    marks.mkdir()
    return lambda faults: {**FAULTS, "FAULTS": faults, "FAULT_MARKS": str(marks)}


@pytest.fixture
def script(tmp_path):
    """Return launch/local.sh in a clone that is set up."""
    launch = tmp_path / "clone" / "launch"
    launch.mkdir(parents=True)
    (launch / "setup.sh").write_text("#!/bin/sh\n")
    (launch / "setup.sh").chmod(0o755)
    (tmp_path / "clone" / (".venv-openmpi" if OPEN_MPI else ".venv")).symlink_to(
        os.path.dirname(os.path.dirname(sys.executable))
    )
    return shutil.copy(ROOT / "launch" / "local.sh", launch)


@pytest.mark.launcher
def test_the_launch_script_goes_on_where_a_rank_was_killed(run, script, faults, undisturbed, tmp_path):
    ended = run(script, "--mpi", MPI, "-n", 2, "--max-restarts", 1, *RUN, env=faults("gradient:kill:1:20"))
    assert (ended.status, ended.sha256) == (0, undisturbed), ended.err
    assert (tmp_path / "marks" / "0").exists()
    assert OPEN_MPI or "restart 1 of 1 in 0.25 s" in ended.err


@pytest.mark.launcher
def test_the_launch_script_starts_no_job_again_where_that_is_not_wanted(run, script, faults):
    ended = run(script, "--mpi", MPI, "-n", 2, "--max-restarts", 0, *RUN, env=faults("gradient:kill-all:1:20"))
    assert ended.status not in (0, 2, 75)
    assert "it is not started again: --max-restarts is 0" in ended.err


@pytest.mark.launcher
def test_a_supervisor_that_is_killed_leaves_a_run_that_saves_and_ends(start, tmp_path):
    process = start(*SUPERVISE, "--", "mpirun", "-n", 2, *LONG, env={**FAULTS, "FAULT_MARKS": str(tmp_path)})
    process.wait_for(lambda: list(tmp_path.glob("run/checkpoints/step-*")), "its first checkpoint")
    process.popen.send_signal(signal.SIGKILL)
    assert "stopped by SIGUSR1 after step" in process.wait().out
    deadline = time.monotonic() + 20
    while chaos.processes_of(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.launcher
def test_a_second_ctrl_c_ends_at_once_what_hangs(start, faults, tmp_path):
    environment = faults("gradient:stop:0:20,gradient:stop:1:20")
    process = start(*SUPERVISE, "--", "mpirun", "-n", 2, *TRAIN, env=environment)
    process.wait_for((tmp_path / "marks" / "1").exists, "it hung")
    process.popen.send_signal(signal.SIGINT)
    time.sleep(2)
    assert process.popen.poll() is None
    process.popen.send_signal(signal.SIGINT)
    assert process.wait().status == 128 + signal.SIGINT
    assert not chaos.processes_of(tmp_path / "marks")


AGENT = """#!/bin/bash
# in place of ssh: a second node, which is this one, and can be reached once
while [[ $1 = -* ]]; do shift; done
[ "$1" = node2 ] && [ ! -e started ] || exit 255
touch started
shift
exec bash -c "$*"
"""


@pytest.mark.skipif(OPEN_MPI, reason="its daemons find out that the second node is the first")
@pytest.mark.launcher
def test_a_node_that_is_lost_costs_a_restart_on_the_others(run, faults, undisturbed, tmp_path):
    agent = tmp_path / "agent"
    agent.write_text(AGENT)
    agent.chmod(0o755)
    (tmp_path / "hosts").write_text("localhost:2\nnode2:2\n")
    environment = faults("commit:kill:3:10") | {"HYDRA_LAUNCHER_EXEC": str(agent)}
    ended = run(*SUPERVISE, "--", "mpirun", "-f", "hosts", "-n", 4, *TRAIN, env=environment)
    assert (ended.status, ended.sha256) == (0, undisturbed), ended.err
    assert "6 shards on 4 ranks" in ended.out
    assert "these hosts do not answer, so the job goes on without them: node2" in ended.err
    assert "6 shards on 2 ranks" in ended.out
