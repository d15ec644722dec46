"""The supervisor, with commands that are shell scripts in place of mpirun."""

import contextlib
import itertools
import os
import pty
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from distsoftmax import run_folder
from distsoftmax.run_folder import Position, position
from distsoftmax.supervision import job as job_module
from distsoftmax.supervision import remote
from distsoftmax.supervision.command import Command
from distsoftmax.supervision.hosts import (
    Host,
    hosts_of,
    keeping_alive,
    on_hosts,
    ranks_of,
    that_answer,
)
from distsoftmax.supervision.job import Job
from distsoftmax.supervision.slurm import allocated, end_steps

SUPERVISE = [sys.executable, "-m", "distsoftmax.supervise", "--cold"]
# what a command of training does at its n-th start: `step N` commits a step, `model` writes the model
TRAINING = """
n=$(($(cat starts 2>/dev/null || echo 0) + 1)); echo $n >starts
mkdir -p run/checkpoints
step() { echo "{\\"step\\": $1}" >>run/metrics.jsonl; }
model() { echo $n >run/new; mv run/new run/model.safetensors; }
"""
# its pause for an outage is a moment
SUPERVISE_QUICKLY = [sys.executable, "-c"]
SUPERVISE_QUICKLY += ["import sys; from distsoftmax import supervise as s; s.OUTAGE_PAUSE = 0.1; sys.exit(s.main())"]
ADDED = ["distsoftmax.train", "--out", "run"]  # makes of a script a command that trains


@pytest.fixture
def start(tmp_path):
    """Start a script under the supervisor; at the end nothing of it may run."""
    started = []

    def start(script, *options, training=True, program=SUPERVISE, **pipes):
        words = ["bash", "-c", (TRAINING if training else "") + script, *(ADDED if training else [])]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | pipes
        process = subprocess.Popen(
            [*program, *options, "--", *words], cwd=tmp_path, stdin=subprocess.DEVNULL, text=True, **pipes
        )
        started.append(process)
        return process

    yield start
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.cwd() == str(tmp_path):  # else it would hold the pipes
                process.kill()
    for process in started:
        process.communicate()


@pytest.fixture
def supervised(start):
    """Run a script to its end under the supervisor; return status, standard output and standard error."""

    def supervised(script, *options, **pipes):
        process = start(script, *options, **pipes)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    return supervised


def starts(tmp_path):
    return int((tmp_path / "starts").read_text())


def wait_for(path):
    deadline = time.monotonic() + 60
    while not path.exists() or not path.read_text():
        assert time.monotonic() < deadline, path
        time.sleep(0.01)
    return path.read_text()


def runs(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def wait_until_gone(pid):
    deadline = time.monotonic() + 60
    while runs(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("status", [2, 75])
def test_bad_input_and_an_early_end_are_final(supervised, tmp_path, status):
    assert supervised(f"exit {status}") == (status, "", "")
    assert starts(tmp_path) == 1


def test_input_that_was_good_at_the_first_start_is_tried_again_after_an_outage(supervised, tmp_path):
    script = "[ $n = 1 ] && step 5 && kill -9 $$; [ $n = 2 ] && exit 2; model"
    status, _, err = supervised(script, program=SUPERVISE_QUICKLY)
    assert (status, starts(tmp_path)) == (0, 3)
    assert "the job ended with status 2 after step 5; restart 2 of 10 in 0.1 s" in err


def test_input_that_stays_bad_at_every_restart_is_given_up_with_the_cause(supervised, tmp_path):
    script = "[ $n = 1 ] && kill -9 $$; echo 'error: letter.csv: has changed' >&2; exit 2"
    status, _, err = supervised(script, program=SUPERVISE_QUICKLY)
    assert (status, starts(tmp_path)) == (2, 3)
    assert err.endswith("standard error were\n  error: letter.csv: has changed\n")


def test_a_folder_that_cannot_be_read_for_a_while_is_as_far_as_it_was(supervised, tmp_path):
    """A link to itself in its place cannot be followed."""
    script = "case $n in 1) step 5 ;; 2) mv run hidden; ln -s run run ;; 3) rm run; mv hidden run; model; exit ;; esac"
    status, _, err = supervised(f"{script}; exit 1")
    assert (status, starts(tmp_path)) == (0, 3)
    assert "the job ended with status 1 after step 5; restart 2 of 10" in err


def test_a_command_that_is_gone_at_a_restart_is_looked_for_again(tmp_path):
    mpirun = tmp_path / "mpirun"
    mpirun.write_text("#!/bin/bash\nmv mpirun gone; exit 1\n")
    mpirun.chmod(0o755)
    words = [*SUPERVISE_QUICKLY, "--", "./mpirun", "-n", "1", "python", "-m", *ADDED]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.count("./mpirun: cannot be started: No such file or directory") == 2
    assert done.stderr.endswith("it is not started again: 2 restarts in a row came no further\n")


def test_a_run_that_must_advance_and_stops_where_it_was_is_not_resumable_as_it_is(supervised, tmp_path):
    assert supervised("step 3; exit 75", "--must-advance") == (75, "", "")
    status, _, err = supervised("exit 75", "--must-advance")
    assert (status, starts(tmp_path)) == (1, 2)
    assert "the run has stopped after step 3, no further than where it was, and would again. Give it more time" in err
    assert supervised("exit 75") == (75, "", "")  # a person knows why
    assert supervised("exit 75", "--must-advance", training=False) == (75, "", "")  # what is no run has no steps


def test_a_run_that_must_advance_is_not_resumable_where_a_signal_comes_before_its_first_step(start, tmp_path):
    process = start("trap 'exit 75' USR1; echo $$ >pid; while :; do sleep 0.01; done", "--must-advance")
    wait_for(tmp_path / "pid")
    process.send_signal(signal.SIGUSR1)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "the run has stopped before its first step, no further than where it was" in err


def test_a_job_that_is_done_is_final(supervised, tmp_path):
    assert supervised("step 0; model; echo done") == (0, "done\n", "")
    assert starts(tmp_path) == 1


def test_a_job_that_is_done_but_has_not_converged_is_final_if_it_has_written_its_model(supervised, tmp_path):
    """A rank alone may end with the status, too, and so may another program."""
    assert supervised("step 0; model; exit 3") == (3, "", "")
    assert starts(tmp_path) == 1
    status, _, err = supervised("step $n; [ $n = 2 ] || model; exit 3")
    assert (status, starts(tmp_path)) == (3, 3)
    assert "the job ended with status 3, but without a model after step 2; restart 1 of 10" in err
    status, _, err = supervised("exit 3", "--max-restarts", "1", training=False)
    assert status == 3
    assert "restart 1 of 1" in err


def test_any_other_end_starts_the_job_again_and_says_so(supervised, tmp_path):
    status, _, err = supervised('step $((n * 10)); [ $n = 4 ] || kill -9 $$; model; [ "${*: -2}" = "--resume auto" ]')
    assert (status, starts(tmp_path)) == (0, 4)
    for restart in (1, 2, 3):
        assert f"killed by SIGKILL, after step {restart * 10}; restart {restart} of 10 in 0.25 s\n" in err


def test_the_folder_of_a_killed_launcher_of_open_mpi_is_removed_and_no_other(supervised, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (tmp_path / "ompi.1").mkdir()
    killed = "mkdir -p ompi.$$/1; touch ompi.$$/pmix.vm.tool; [ $n = 2 ] || kill -9 $$; model"
    assert supervised(killed)[0] == 0
    assert (starts(tmp_path), list(tmp_path.glob("ompi.*"))) == (2, [tmp_path / "ompi.1"])


def test_a_folder_that_held_a_run_before_is_not_resumed_against_the_users_word(supervised, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text('{"step": 3}\n')
    status, _, _ = supervised('[ "$*" = "--out run" ] || exit 9; [ $n = 2 ] && exit 75; exit 1')
    assert (status, starts(tmp_path)) == (75, 2)


def test_an_exit_status_of_0_without_a_new_model_is_no_success(supervised, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.safetensors").write_text("of an earlier run")
    status, _, err = supervised("step $n; [ $n = 1 ] || model")
    assert (status, starts(tmp_path)) == (0, 2)
    assert "ended with status 0, but without a model after step 1; restart 1" in err


def test_a_model_that_another_host_has_just_written_is_seen(tmp_path, monkeypatch):
    """A client of NFS may remember for a minute that there was no file, until the folder is opened."""
    (tmp_path / "model.safetensors").touch()
    opened, listdir, stat = [], os.listdir, os.stat

    def remembering(path, **options):
        if path == tmp_path / "model.safetensors" and not opened:
            raise FileNotFoundError
        return stat(path, **options)

    monkeypatch.setattr(os, "listdir", lambda path: opened.append(path) or listdir(path))
    monkeypatch.setattr(os, "stat", remembering)
    assert run_folder.model_stamp(tmp_path) is not None
    assert opened == [tmp_path]


def test_no_more_restarts_than_were_asked_for(supervised, tmp_path):
    status, _, err = supervised("step $n; exit 3", "--max-restarts", "1")
    assert (status, starts(tmp_path)) == (3, 2)
    assert "it is not started again: --max-restarts is 1" in err


def test_a_failure_that_comes_no_further_stops_with_the_cause(supervised, tmp_path):
    status, _, err = supervised("step 7; echo 'error: the disk of node 5 is on fire' >&2; exit 137")
    assert (status, starts(tmp_path)) == (137, 3)
    assert "status 137 (SIGKILL) after step 7; it is not started again: 2 restarts in a row came no further" in err
    assert err.endswith("standard error were\n  error: the disk of node 5 is on fire\n")


def test_a_failure_that_comes_further_each_time_is_not_given_up(supervised, tmp_path):
    status, _, _ = supervised("step $((n / 2)); [ $n -lt 8 ] && exit 1; model")
    assert (status, starts(tmp_path)) == (0, 8)


def test_a_start_that_fails_before_the_first_step_is_tried_on_fewer_ranks(tmp_path):
    mpirun = tmp_path / "mpirun"
    mpirun.write_text('#!/bin/bash\necho "$2" >>ranks; exit 1\n')
    mpirun.chmod(0o755)
    words = [*SUPERVISE, "--", "./mpirun", "-n", "6", "python", "-m", *ADDED]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert (tmp_path / "ranks").read_text().split() == ["6", "6", "3"]
    assert "no step was taken on 6 ranks, so 3 are started" in done.stderr


@pytest.mark.parametrize(
    "line", ["rank 0 of 4: no progress; the job is ended", r"Timeout, server red not responding.\r"]
)
def test_a_launcher_that_goes_on_when_the_job_has_ended_or_a_host_is_lost_is_killed(line, monkeypatch, capfd):
    monkeypatch.setattr(job_module, "END_SECONDS", 0.1)
    wakeup, _ = os.pipe()
    assert Job(["sh", "-c", f"printf '{line}\\n' >&2; exec sleep 60"], wakeup, os.environ).wait() == -signal.SIGKILL
    assert "the launcher does not end" in capfd.readouterr().err


def test_a_command_that_trains_nothing_is_started_as_it_is(supervised):
    status, out, err = supervised('echo "$*"; exit 3', "--max-restarts", "1", training=False)
    assert (status, out) == (3, "\n\n")
    assert "the job ended with status 3; restart 1 of 1 in 0.25 s" in err


def test_a_command_that_does_not_exist_is_bad_usage(tmp_path):
    done = subprocess.run([*SUPERVISE, "--", "./none", "-n", "2"], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 2
    assert done.stderr == b"supervise: ./none: cannot be started: No such file or directory\n"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "there is nothing to start: the command stands after two dashes, as in -- mpirun -n 4 python ..."),
        (["--"], "there is nothing to start: the command stands after two dashes"),
        (["--max-restarts", "-1", "--", "true"], "--max-restarts is -1; it must be 0 or more"),
        (["mpirun", "-n", "2"], "mpirun is no option of the supervisor; the command stands after two dashes, as in --"),
        (["--n", "2", "--", "true"], "--n is no option of the supervisor; the command stands after two dashes"),
    ],
)
def test_bad_usage_is_refused_with_the_remedy(words, complaint):
    done = subprocess.run([*SUPERVISE, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"error: {complaint}" in done.stderr


IN_ORDER = "trap 'echo asked; exit 75' USR1; trap 'exit 9' TERM INT HUP; echo $$ >pid; while :; do sleep 0.01; done"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP"])
def test_a_signal_asks_the_launcher_to_end_in_order(start, tmp_path, name):
    process = start(IN_ORDER)
    wait_for(tmp_path / "pid")
    process.send_signal(signal.Signals[name])
    assert process.communicate(timeout=60) == ("asked\n", "")
    assert process.returncode == 75
    assert starts(tmp_path) == 1


def test_a_job_under_nohup_outlives_its_terminal(start, tmp_path):
    process = start(
        "echo $$ >pid; while [ ! -e hung-up ]; do sleep 0.02; done; model; exit 0",
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    wait_for(tmp_path / "pid")
    process.send_signal(signal.SIGHUP)
    (tmp_path / "hung-up").touch()
    assert process.wait(timeout=60) == 0


def test_signals_in_quick_succession_are_one(start, tmp_path):
    process = start("trap '' USR1; echo $$ >pid; until [ -e go ]; do sleep 0.02; done; exit 75")
    wait_for(tmp_path / "pid")
    for number in itertools.count():
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGINT)
        time.sleep(0.02)
        if number == 10:
            (tmp_path / "go").touch()
    assert process.returncode == 75


def test_a_second_signal_ends_everything_at_once(start, tmp_path):
    process = start(
        "trap '' TERM INT; (trap '' USR1; exec setsid sleep 100) & "
        "trap 'echo asked >asked' USR1; echo $! >pid; wait; wait"
    )
    sleeping = int(wait_for(tmp_path / "pid"))
    process.send_signal(signal.SIGINT)
    wait_for(tmp_path / "asked")  # a second signal counts a second after the first was taken
    time.sleep(1.1)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    assert "SIGINT asked for it at once" in err
    assert not runs(sleeping)


def test_a_signal_while_the_job_dies_or_waits_for_its_restart_is_no_restart(start, tmp_path):
    process = start("step 1; [ $n -lt 2 ] || echo $n >second; exit 1")
    wait_for(tmp_path / "starts")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75
    assert starts(tmp_path) == 1
    assert "SIGTERM asked for; the same command goes on" in err


def test_nothing_of_a_former_start_runs_when_the_next_one_begins(supervised, tmp_path):
    """A process in a session of its own that heeds no signal, whose parents are gone, and one that is stopped."""
    status, _, _ = supervised(
        "step $n; if [ $n = 2 ]; then ! ps -p $(cat left) >seen && model; exit; fi\n"
        "(setsid bash -c \"trap '' TERM INT HUP USR1; echo \\$\\$ >>left; sleep 100\" &) \n"
        "(sleep 100 & kill -STOP $!; echo $! >>left)\n"
        "until [ $(wc -l <left) = 2 ]; do sleep 0.01; done; sed -i 's/$/,/' left; sed -i '$ s/,//' left; kill -9 $$"
    )
    assert status == 0, (tmp_path / "seen").read_text()


def test_a_supervisor_that_is_killed_asks_the_launcher_to_end(start, tmp_path):
    process = start("trap 'echo asked >end; exit 75' USR1; echo $$ >pid; while :; do sleep 0.01; done")
    pid = int(wait_for(tmp_path / "pid"))
    process.kill()
    assert wait_for(tmp_path / "end") == "asked\n"
    wait_until_gone(pid)


def test_output_passes_through_as_it_comes(start, tmp_path):
    process = start("printf 'half a '; printf 'line' >&2; until [ -e go ]; do sleep 0.01; done; echo line; exit 75")
    assert process.stdout.read(7) == "half a "
    assert process.stderr.read(4) == "line"
    (tmp_path / "go").touch()
    assert process.communicate(timeout=60) == ("line\n", "")


def test_a_log_on_a_full_disk_does_not_stop_the_job(start):
    with open("/dev/full", "w") as full:
        process = start("step 0; for i in {1..2000}; do echo a line of text for the log >&2; done; model", stderr=full)
        process.communicate(timeout=60)
    assert process.returncode == 0


def test_a_terminal_stays_one():
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [*SUPERVISE, "--", "bash", "-c", "[ -t 2 ] && [ -t 1 ] && exit 75"])
    with contextlib.suppress(OSError):
        while os.read(terminal, 4096):
            pass
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 75


MPIRUN = ["mpirun", "-n", "4", "python", "-m", "distsoftmax.train"]


@pytest.mark.parametrize(
    ("options", "out"),
    [
        (["--out", "here"], "here"),
        (["--out=here", "--l2", "1"], "here"),
        (["--out", "there", "--out", "here"], "here"),
        (["--config", "sections.toml"], "in-run"),
        (["--config=plain.toml"], "plain"),
        (["--config", "plain.toml", "--out", "here"], "here"),
        (["--config", "runs/wine/config.toml"], "runs/wine"),
        (["--config", "runs/old/config.toml"], "runs/old"),
    ],
)
def test_the_folder_of_a_run_is_known(options, out, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, inside in (("wine", "."), ("old", "runs/old")):  # older versions wrote it as it was given
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.toml").write_text(f'out = "{inside}"\n')
    (tmp_path / "sections.toml").write_text('[data]\ndata = ["x"]\n[run]\nout = "in-run"\n')
    (tmp_path / "plain.toml").write_text('out = "plain"\n')
    for default_out in (None, "runs/job-7"):
        command = Command.of([*MPIRUN, *options], warm=True, default_out=default_out)
        assert str(command.out) == out
        assert list(command.words) == [*MPIRUN, *options, "--warm"]


@pytest.mark.parametrize("options", [[], ["--config", "none.toml"], ["--config", "broken.toml"]], ids=str)
def test_a_run_without_a_folder_gets_one_and_keeps_it(options, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.toml").write_text("out = [")
    command = Command.of([*MPIRUN, *options], warm=False)
    assert command.words[-2] == "--out"
    assert command.words[-1] == str(command.out)
    command = Command.of([*MPIRUN, *options], warm=False, default_out="runs/job-7")
    assert command == Command((*MPIRUN, *options, "--out", "runs/job-7"), Path("runs/job-7"))


def test_runs_that_begin_in_one_second_have_folders_of_their_own(monkeypatch):
    monkeypatch.setattr(run_folder, "datetime", SimpleNamespace(now=lambda: datetime(2026, 1, 2, 3, 4, 5)))
    names = []
    for host, process in (("red", 7), ("red", 8), ("blue.example.org", 7)):
        monkeypatch.setattr(os, "uname", lambda host=host: SimpleNamespace(nodename=host))
        monkeypatch.setattr(os, "getpid", lambda process=process: process)
        names.append(run_folder.new_folder())
    assert names == [f"runs/2026-01-02-030405-{end}" for end in ("red-7", "red-8", "blue-7")]


@pytest.mark.parametrize("program", ["distsoftmax train", "/opt/bin/distsoftmax train", "python -m distsoftmax train"])
def test_the_front_door_starts_a_training_like_its_module(program):
    launcher, program, options = ["mpirun", "-n", "4"], program.split(), ["--data", "wine.npz", "--out", "runs/wine"]
    found = Command.of([*launcher, *program, *options], warm=True)
    assert found == Command((*launcher, *program, *options, "--warm"), Path("runs/wine"))
    assert ranks_of([*program, "-n", "9"]) is None  # which is no option of mpirun's
    assert Command.of([*launcher, *program, "--help"], warm=True).out is None
    assert Command.of([*launcher, *program[:-1], "evaluate", "train"], warm=True).out is None


@pytest.mark.parametrize("words", [["mpirun", "python", "-m", "distsoftmax.evaluate", "run"], [*MPIRUN, "--help"]])
def test_nothing_is_added_to_a_command_that_trains_nothing(words):
    assert Command.of(words, warm=True) == Command(tuple(words), None)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, Position()),
        ({"metrics.jsonl": '{"step": 3}\n{"step": 4}\n{"step": 5, "obj'}, Position("", 4)),
        ({"metrics.jsonl": "garbage\n"}, Position()),
        ({"metrics.jsonl": '{"step": 3}\n', "checkpoints/step-0000000012.safetensors": ""}, Position("", 12)),
        ({"checkpoints/.step-0000000012.safetensors.7.tmp": ""}, Position()),
        (
            {"path/01-l2-1e0/metrics.jsonl": '{"step": 90}\n', "path/02-l2-1e-1/metrics.jsonl": '{"step": 0}\n'},
            Position("02-l2-1e-1", 0),
        ),
        ({"path/01-l2-1e0/metrics.jsonl": '{"step": 90}\n', "path/02-l2-1e-1/x": ""}, Position("01-l2-1e0", 90)),
    ],
)
def test_the_last_step_is_that_of_the_newest_checkpoint_or_line_of_metrics(files, expected, tmp_path):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert position(tmp_path) == expected


def test_positions_are_ordered_as_a_run_goes_on():
    steps = [
        Position(),
        Position("", 0),
        Position("01-l2-1e0", 3),
        Position("01-l2-1e0", 12),
        Position("02-l2-1e-1", 0),
    ]
    assert all(before < after for before, after in itertools.pairwise(steps))
    assert str(steps[0]) == "before its first step"
    assert str(steps[3]) == "after step 12 of 01-l2-1e0"


PROGRAM = "python -m distsoftmax.train -n 9 --host x"  # whose words are none of mpirun's


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("mpirun -hosts red:2,blue:2,green:2 -n 6", "mpirun --host red:2,green:2 -n 4"),
        ("mpirun -n 6 -f hosts -ppn 2", "mpirun --host red:4,green:1 -n 5 -ppn 2"),
        ("mpirun --host red:2,blue:2,green:2 -np 6", "mpirun --host red:2,green:2 -np 4"),
        ("mpirun -H red,blue,green -np 3", "mpirun --host red:1,green:1 -np 2"),
        ("mpirun --hostfile slots --with-ft ulfm", "mpirun --host red:2,green:3 --with-ft ulfm"),
        ("mpirun -n 6", "mpirun --host red:2,green:2 -n 4"),
        ("mpirun -H red:1,blue:8,green:1 -n 2", "mpirun --host red:1,green:1 -n 1"),
        ("srun --mpi=pmi2 -n 6", "srun --nodelist=red,green --nodes=2 --mpi=pmi2 -n 4"),
    ],
)
def test_a_job_is_started_on_the_hosts_that_answer(words, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hosts").write_text("# two lines\nred:4\n\nblue:1\ngreen:1  # and a slow one\n")
    (tmp_path / "slots").write_text("red slots=2\nblue slots=4 max_slots=8\ngreen slots=3\n")
    words = [*words.split(), *PROGRAM.split()]
    hosts = hosts_of(words) or [Host("red"), Host("blue"), Host("green")]
    assert [host.name for host in hosts] == ["red", "blue", "green"]
    assert " ".join(on_hosts(words, hosts, {"red", "green"})) == f"{expected} {PROGRAM}"
    assert on_hosts(words, hosts, {"red", "blue", "green"}) == words
    assert on_hosts(words, hosts, set()) == words  # the start will say why


def test_the_programs_own_words_are_none_of_the_launchers(tmp_path):
    assert hosts_of(["mpirun", "python", "train.py", "-f", "hosts"]) == []
    assert hosts_of(["mpirun", "-f", str(tmp_path / "missing"), "python"]) == []
    assert ranks_of(["mpirun", "/usr/bin/python3.12", "train.py", "-n", "3"]) is None


@pytest.mark.parametrize(
    "by", ["HYDRA_LAUNCHER_EXEC", "PRTE_MCA_plm_ssh_agent", "-launcher-exec", "--prtemca plm_ssh_agent"]
)
def test_a_host_answers_where_the_launchers_own_agent_reaches_it(by, tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "PROBE_SECONDS", 0.5)
    agent = tmp_path / "agent"
    agent.write_text('#!/bin/bash\ncase $1 in red) shift; "$@" ;; blue) exit 255 ;; *) exec sleep 100 ;; esac\n')
    agent.chmod(0o755)
    hosts = [Host(name) for name in ("red", "blue", "green", "localhost", os.uname().nodename)]
    words, environment = (
        (["mpirun", *by.split(), str(agent), "python"], {}) if by[0] == "-" else (["mpirun"], {by: str(agent)})
    )
    assert that_answer(hosts, words, environment) == {"red", "localhost", os.uname().nodename}


def test_without_an_agent_no_other_host_answers(tmp_path):
    environment = {"HYDRA_LAUNCHER_EXEC": str(tmp_path / "none")}
    assert that_answer([Host("red"), Host("localhost")], ["mpirun"], environment) == {"localhost"}


def test_the_launchers_ssh_ends_where_a_host_falls_silent_but_for_what_the_user_says():
    options = "-oServerAliveInterval=5 -oServerAliveCountMax=3"
    both = {"HYDRA_LAUNCHER_EXTRA_ARGS": options, "PRTE_MCA_plm_ssh_args": options}
    assert keeping_alive(["mpirun"], {"A": "b"}) == {"A": "b", **both}
    assert keeping_alive(["mpirun", "-launcher-exec", "/opt/ssh"], {}) == both
    assert keeping_alive(["mpirun"], {"PRTE_MCA_plm_ssh_args": "-q"}) == {**both, "PRTE_MCA_plm_ssh_args": "-q"}
    for other in ({"HYDRA_LAUNCHER_EXEC": "rsh"}, {"SLURM_JOB_ID": "7"}):
        assert keeping_alive(["mpirun"], other) == other


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Put a script in the place of a command of Slurm."""
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    (tmp_path / "bin").mkdir()

    def stand_in(name, script):
        path = tmp_path / "bin" / name
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(0o755)

    return stand_in


def test_nodes_of_an_allocation_answer_where_slurm_says_so_and_starts_something(stand_in):
    nodes = {"SLURM_JOB_NODELIST": "n[1-5]"}
    assert allocated({}) == ([], set())
    stand_in("scontrol", "exit 1")
    assert allocated(nodes) == ([], set())  # mpirun outside of Slurm's reach
    stand_in("scontrol", "printf 'n%s\\n' 1 2 3 4 5")
    stand_in("sinfo", "printf '%s\\n' 'n1 alloc' 'n2 down*' 'n3 alloc*' 'n4 mix' 'n5 alloc'")
    stand_in("srun", 'case "$*" in *--nodelist=n[1-4]\\ *) ;; *) exit 1 ;; esac')
    hosts = [Host(f"n{number}") for number in range(1, 6)]
    assert allocated(nodes) == (hosts, {"n1", "n4"})  # Slurm does not know yet that n5 is lost
    stand_in("srun", "exit 1")
    assert allocated(nodes) == (hosts, {"n1", "n4", "n5"})  # an srun too old to know --overlap tells nothing


def test_what_a_killed_srun_has_left_running_is_ended_and_nothing_else(stand_in, tmp_path):
    stand_in("squeue", "printf '%s\\n' '7.0 distsoftmax' '7.1 other' '7.2 distsoftmax' '7.batch distsoftmax' '7.3'")
    stand_in("scancel", f'echo "$@" >{tmp_path}/ended')
    job = {"SLURM_JOB_ID": "7"}
    for words, environment in (("srun -n 2", job), ("mpirun --job-name=distsoftmax", job), ("srun --job-name=a", {})):
        end_steps(words.split(), environment)
        assert not (tmp_path / "ended").exists()
    end_steps(["/usr/bin/srun", "--job-name=distsoftmax", "-n", "2"], job)
    assert (tmp_path / "ended").read_text() == "7.0 7.2\n"
