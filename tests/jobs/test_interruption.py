import contextlib
import os
import re
import signal
import time

import pytest
from conftest import OPEN_MPI, ROOT

LONG = ["--solver", "gradient-descent", "--learning-rate", 0.1, "--tolerance", 0, "--max-steps", 200]
LONG += ["--checkpoint-every", 5, "--evaluate-every", 0]
FAULTS = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "jobs" / "faults")])}
SLOW = {**FAULTS, "FAULT": "all:slow"}  # so slow that a signal arrives in the middle
SHARDS = ["--shards", 8]


@pytest.fixture
def start_long(start, tmp_path):
    def start_long(n, out, launcher=("mpirun",), env=SLOW):
        process = start(*launcher, "-n", n, *job(), *SHARDS, *LONG, "--out", out, env=env)
        steps = tmp_path / out / "checkpoints"
        process.wait_for(lambda: steps.is_dir() and len(list(steps.glob("step-*"))) >= 3, "its third checkpoint")
        return process

    def job():
        return ["python", "-m", "distsoftmax.train"]

    return start_long


@pytest.fixture(scope="module")
def uninterrupted(shared_mpirun):
    """The bits of the same run without interruption."""
    ended = shared_mpirun(2, "train", *SHARDS, *LONG, "--out", "whole")
    assert ended.status == 0, ended.err
    return ended.sha256


def resumed(run, out, ended, n):
    """Run the line that the stopped run printed, on another number of ranks."""
    (line,) = re.findall(r"^mpirun -n \d+ (python -m distsoftmax.train --config .*)$", ended.out, re.MULTILINE)
    again = run("mpirun", "-n", n, *line.split())
    assert again.status == 0, again.err
    assert f"resumed from {out}/checkpoints/step-" in again.out
    return again.sha256


TO_LAUNCHER = [signal.SIGUSR1] if OPEN_MPI else [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1]


@pytest.mark.launcher
@pytest.mark.parametrize("number", TO_LAUNCHER, ids=lambda number: number.name)
def test_a_signal_to_mpirun_saves_and_the_run_goes_on_with_the_same_bits(run, start_long, uninterrupted, number):
    process = start_long(3, "cut")
    process.popen.send_signal(number)
    ended = process.wait()
    assert ended.status == 75, ended.err
    assert re.search(rf"^stopped by {number.name} after step \d+; go on with$", ended.out, re.MULTILINE)
    assert resumed(run, "cut", ended, 2) == uninterrupted


@pytest.mark.launcher
def test_signals_that_keep_coming_change_nothing(start_long):
    process = start_long(2, "cut")
    while process.popen.poll() is None:
        for rank in process.ranks():
            with contextlib.suppress(ProcessLookupError):
                os.kill(rank, signal.SIGUSR1)
        time.sleep(0.005)
    ended = process.wait()
    assert ended.status == 75, ended.err


@pytest.mark.launcher
@pytest.mark.sweep(1)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1], ids=lambda number: number.name)
def test_a_signal_to_any_rank_stops_them_all_in_order(start_long, number):
    process = start_long(3, "cut")
    os.kill(sorted(process.ranks())[-1], number)
    ended = process.wait()
    assert ended.status == 75, ended.err
    assert f"stopped by {number.name}" in ended.out


@pytest.mark.launcher
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_the_launch_script_stops_in_order_on_either_mpi(run, start, uninterrupted, tmp_path, number):
    mpi = "openmpi" if OPEN_MPI else "mpich"
    script = ROOT / "launch" / "local.sh"
    process = start(script, "--mpi", mpi, "-n", 2, *SHARDS, *LONG, "--out", "cut", env=SLOW)
    steps = tmp_path / "cut" / "checkpoints"
    process.wait_for(lambda: steps.is_dir() and list(steps.glob("step-*")), "its first checkpoint")
    process.popen.send_signal(number)
    ended = process.wait()
    assert ended.status == 75, ended.err
    assert resumed(run, "cut", ended, 3) == uninterrupted


@pytest.mark.launcher
def test_ctrl_c_again_and_again_at_the_launch_script_ends_the_run_quietly_and_in_order(start, tmp_path):
    """As a terminal does it: to all processes in its foreground."""
    mpi = "openmpi" if OPEN_MPI else "mpich"
    process = start(ROOT / "launch" / "local.sh", "--mpi", mpi, "-n", 3, *SHARDS, *LONG, "--out", "cut", env=SLOW)
    steps = tmp_path / "cut" / "checkpoints"
    process.wait_for(lambda: steps.is_dir() and list(steps.glob("step-*")), "its first checkpoint")
    while process.popen.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.popen.pid, signal.SIGINT)
        time.sleep(0.01)
    ended = process.wait()
    assert ended.status == 75, ended.err
    assert "go on with" in ended.out
    assert not re.search("assert|mpiexec|proxy|Traceback", ended.err), ended.err


@pytest.mark.launcher
@pytest.mark.sweep(1)
@pytest.mark.parametrize("rank", [0, 2])
def test_a_killed_rank_ends_the_job_and_the_run_goes_on_with_the_same_bits(mpirun, start_long, uninterrupted, rank):
    process = start_long(3, "cut")
    os.kill(sorted(process.ranks())[rank], signal.SIGKILL)
    ended = process.wait()
    assert ended.status not in (0, 75)
    again = mpirun(2, "train", *SHARDS, *LONG, "--out", "cut")
    assert "resumed from cut/checkpoints/step-" in again.out
    assert again.sha256 == uninterrupted


@pytest.mark.launcher
@pytest.mark.sweep(1)
@pytest.mark.parametrize("rank", [0, 1, 3])
def test_an_uncaught_exception_ends_the_job_within_5_seconds_with_traceback_and_rank(start, rank):
    words = ["python", "-m", "distsoftmax.train", "--out", "run"]
    process = start("mpirun", "-n", 4, *words, env={**FAULTS, "FAULT": f"{rank}:raise"})
    while process.popen.poll() is None:
        if len(process.ranks()) >= 4:
            last_full = time.monotonic()
        time.sleep(0.05)
    assert time.monotonic() - last_full < 5
    ended = process.wait()
    assert ended.status not in (0, 2, 75)
    assert "RuntimeError: a fault made by the test" in ended.err
    assert f"rank {rank} of 4 failed" in ended.err


@pytest.mark.launcher
def test_a_complaint_of_one_rank_alone_leaves_no_other_waiting(run):
    ended = run(
        "mpirun",
        "-n",
        3,
        "python",
        "-m",
        "distsoftmax.train",
        "--out",
        "run",
        env={**FAULTS, "FAULT": "2:input"},
        deadline=60,
    )
    assert ended.status == 2
    assert "rank 2 of 3: error: a complaint of one rank alone" in ended.err


def test_a_save_that_fails_is_an_error_on_all_ranks_and_the_earlier_checkpoint_stays(run, mpirun, letter, tmp_path):
    options = ["--data", letter, "--label", "Letter", "--dtype", "float64", "--max-steps", 60, "--tolerance", 0]
    options += ["--metrics-every", 1000]
    job = ["python", "-m", "distsoftmax.train", *options, "--checkpoint-every", 1, "--out", "full"]
    ended = run("mpirun", "-n", 3, *job, env={**FAULTS, "FAULT": "0:full"}, deadline=60)
    assert ended.status == 1
    assert re.search(
        r"^error: full/checkpoints/step-\d+\.safetensors: could not be written: File too large", ended.err, re.M
    )
    assert list((tmp_path / "full" / "checkpoints").iterdir())
    again = mpirun(2, "train", *options, "--out", "full")
    assert "resumed from full/checkpoints/step-" in again.out
    assert again.sha256 == mpirun(1, "train", *options, "--out", "fresh").sha256
