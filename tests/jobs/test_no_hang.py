"""Whatever one rank does, the job ends within its bound, and says which rank it was."""

import os
import re
import signal
import time

import pytest
from conftest import OPEN_MPI, ROOT

HANGS = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "jobs" / "hangs")])
FAULTS = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "jobs" / "faults")]), "FAULT": "all:slow"}
TRAIN = ["python", "-m", "distsoftmax.train", "--out", "run"]
TIMEOUT = 4  # seconds; more than lies between the starts of the ranks on a busy machine
FINAL = (0, 2, 75)  # exit statuses after which no supervisor starts a job again


def hanging(rank, what):
    return {"PYTHONPATH": HANGS, "HANG": f"{rank}:{what}"}


@pytest.fixture
def ends(run):
    """Run a training in which a rank hangs to its end."""

    def ends(rank, what, n=3):
        return run("mpirun", "-n", n, *TRAIN, "--timeout", TIMEOUT, env=hanging(rank, what), deadline=40)

    return ends


def late(ended):
    """What is said of the ranks that are late."""
    found = re.findall(rf"no rank has made progress for {TIMEOUT} s; late: (.*); the job is ended", ended.err)
    assert found, ended.err
    return found[0]


@pytest.mark.launcher
def test_a_rank_that_is_stopped_is_named(ends):
    ended = ends(1, "stop")
    assert ended.status not in FINAL
    assert late(ended).startswith("rank 1 on node ")
    assert "silent" in late(ended)
    assert re.search(r"rank 2 of 3 on node \S+ waits in sum_integers, call \d+, step \d+:", ended.err)


@pytest.mark.launcher
def test_a_stopped_rank_0_is_named_by_the_others(ends):
    ended = ends(0, "stop")
    assert ended.status not in FINAL
    assert re.search(
        rf"rank [12] of 3: this rank has made no progress for {TIMEOUT} s, and rank 0 .* does not answer", ended.err
    )


@pytest.mark.launcher
def test_a_read_that_never_returns_is_found_with_its_stack(ends):
    ended = ends(2, "read")
    assert ended.status not in FINAL
    assert re.match(r"rank 2 on node \S+ works, after call \d+, step \d+$", late(ended))
    assert re.search(r'MainThread, most recent call first:\n    File ".*sitecustomize.py", line \d+ in hang', ended.err)


@pytest.mark.launcher
@pytest.mark.parametrize("n", [1, 3])
def test_a_call_that_keeps_pythons_lock_is_found_with_its_stack(ends, n):
    ended = ends(n - 1, "lock", n)
    assert ended.status not in FINAL
    assert "in hang" in ended.err


def test_a_rank_that_has_left_the_order_of_calls_is_named(ends):
    ended = ends(1, "order")
    assert ended.status not in FINAL
    assert re.match(r"rank 1 on node \S+ waits in barrier, call \d+, step \d+$", late(ended))


def test_a_process_without_mpirun_is_watched_too(run):
    ended = run(*TRAIN, "--timeout", TIMEOUT, env=hanging(0, "read"), deadline=40)
    assert ended.status == 1
    assert f"rank 0 of 1: no rank has made progress for {TIMEOUT} s" in ended.err


def test_waiting_for_a_rank_that_makes_progress_is_no_hang(run):
    """One rank's share of a step takes twice the timeout, in which the other waits for it."""
    options = ["--timeout", TIMEOUT, "--max-steps", 1, "--shards", 24]  # of which 12 take 0.6 s each
    ended = run("mpirun", "-n", 2, *TRAIN, *options, env=hanging(1, "slow"))
    assert ended.status == 0, ended.err
    assert "progress" not in ended.err


@pytest.mark.launcher
@pytest.mark.sweep(1)
@pytest.mark.parametrize("what", ["import", "status-0", "files"])
def test_a_rank_that_fails_before_the_start_of_mpi_ends_the_job_at_once(run, what):
    ended = run("mpirun", "-n", 3, *TRAIN, env=hanging(1, what), deadline=60)
    assert ended.status not in FINAL
    assert OPEN_MPI or "rank 1 of 3" in ended.err  # Open MPI's mpirun may be quicker than what the rank prints


@pytest.mark.launcher
def test_a_rank_that_never_comes_ends_the_start(run):
    ended = run("mpirun", "-n", 3, *TRAIN, "--timeout", 3, env=hanging(1, "never"), deadline=40)
    assert ended.status not in FINAL
    assert "in _wait_for_all_ranks_to_start" in ended.err


def by_rank(first, other):
    """A command for 3 ranks, the last of which is given other options."""
    return ["mpirun", "-n", 2, *TRAIN, *first, ":", "-n", 1, *TRAIN, *other]


@pytest.mark.launcher
@pytest.mark.sweep(1)
@pytest.mark.parametrize(
    ("first", "other", "words"),
    [
        ([], ["--help"], ["rank 2 was given --help, rank 0 was not"]),
        (["--max-steps", 3], ["--max-steps", 4], ["--max-steps is 4 on rank 2, 3 on rank 0"]),
    ],
    ids=str,
)
def test_other_options_on_one_rank_are_one_error(run, tmp_path, first, other, words):
    ended = run(*by_rank(first, other), deadline=60)
    assert ended.status == 2
    (line,) = [line for line in ended.err.splitlines() if line.startswith("error:")]
    for word in words:
        assert word in line
    assert "give every rank the same options" in line
    assert not (tmp_path / "run").exists()


@pytest.fixture
def started(start, tmp_path):
    """Start a long training, and wait until it takes steps."""

    def started(n, env=FAULTS, *options):
        long = ["--solver", "gradient-descent", "--learning-rate", 0.1, "--tolerance", 0, "--max-steps", 5000]
        process = start("mpirun", "-n", n, *TRAIN, *long, "--checkpoint-every", 1, *options, env=env)
        process.wait_for(lambda: len(list(tmp_path.glob("run/checkpoints/step-*"))) >= 2, "its second checkpoint")
        return process

    return started


@pytest.mark.launcher
def test_no_rank_outlives_a_killed_mpirun(started):
    """Neither the one that is stuck in a read nor those that wait for it in MPI."""
    import psutil

    process = started(3, hanging(0, "read"))
    ranks = [psutil.Process(rank) for rank in process.ranks()]
    assert len(ranks) >= 3
    process.popen.kill()
    process.wait()
    _, alive = psutil.wait_procs(ranks, timeout=20)
    assert not alive


@pytest.mark.launcher
@pytest.mark.sweep(1)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_second_signal_ends_at_once_even_a_rank_that_waits(started, number):
    process = started(2)
    first, last = sorted(process.ranks())[-2:]
    os.kill(first, signal.SIGSTOP)  # so that no step ends
    os.kill(last, number)
    time.sleep(1.5)
    os.kill(last, number)
    ended = process.wait()
    assert ended.status == 128 + number
    assert f"a second signal, {number.name}, ends the run at once" in ended.err


@pytest.mark.launcher
@pytest.mark.sweep(1)
@pytest.mark.parametrize("what", ["raise", "input"])
def test_a_rank_whose_standard_error_cannot_be_written_ends_the_job_all_the_same(run, tmp_path, what):
    script = tmp_path / "full.sh"
    script.write_text('rank=${PMI_RANK:-$OMPI_COMM_WORLD_RANK}\n[ "$rank" != 1 ] || exec 2>/dev/full\nexec "$@"\n')
    ended = run("mpirun", "-n", 3, "bash", script, *TRAIN, env={**FAULTS, "FAULT": f"1:{what}"}, deadline=40)
    assert ended.status == {"raise": 1, "input": 2}[what]


@pytest.mark.launcher
def test_a_command_whose_standard_error_cannot_be_written_keeps_its_status(run):
    for options, status in ((["--max-steps", 1], 0), (["--max-steps", -1], 2)):
        ended = run("mpirun", "-n", 2, "bash", "-c", 'exec "$@" 2>/dev/full', "bash", *TRAIN, *options, deadline=40)
        assert ended.status == status


def test_a_deadline_saves_in_time(run, tmp_path):
    when = time.time() + 12
    options = ["--solver", "gradient-descent", "--learning-rate", 0.1, "--tolerance", 0, "--max-steps", 50000]
    ended = run("mpirun", "-n", 2, *TRAIN, *options, "--deadline", when, env=FAULTS, deadline=60)
    assert time.time() < when
    assert ended.status == 75, ended.err
    assert re.search(rf"^stopped by --deadline {when} after step \d+; go on with$", ended.out, re.MULTILINE)
    assert list(tmp_path.glob("run/checkpoints/step-*"))
    assert "deadline" not in (tmp_path / "run" / "config.toml").read_text()  # it will have passed
