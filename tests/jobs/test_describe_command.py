"""The look at samples before training: alone, under mpirun and on a terminal; unit tests show what it says."""

import sys

import numpy as np
import pytest


@pytest.fixture
def alone(run):
    """Run a module of distsoftmax without mpirun."""
    return lambda command, *arguments, **options: run(
        sys.executable, "-m", f"distsoftmax.{command}", *arguments, **options
    )


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["table", "json"])
def test_the_output_is_the_same_with_and_without_mpirun(alone, mpirun, table, form):
    by_itself = alone("describe", table, "--label", "kind", *form, deadline=60)
    assert (by_itself.status, by_itself.err) == (0, "")
    job = mpirun(2, "describe", table, "--label", "kind", *form, deadline=60)
    assert (job.status, job.out, job.err) == (0, by_itself.out, "")


def test_what_cannot_be_read_ends_with_one_error(mpirun, tmp_path):
    np.savez(tmp_path / "d.npz", X=np.ones((40, 2)), y=np.arange(40) % 2)
    (tmp_path / "d.npz").write_bytes((tmp_path / "d.npz").read_bytes()[:300])
    ended = mpirun(2, "describe", "d.npz", deadline=60)
    assert ended.status == 2
    assert ended.out == ""
    assert ended.err.count("error: ") == 1
    assert "d.npz: is not a .npz archive" in ended.err


def test_on_a_terminal_the_reading_is_shown(table):
    import os
    import pty
    import select
    import subprocess

    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "distsoftmax.describe", table, "--label", "kind"]
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=follower, timeout=60, check=False)
    assert ended.returncode == 0
    assert select.select([leader], [], [], 10)[0]
    shown = os.read(leader, 1 << 16).decode()
    os.close(follower)  # after the reading: what is on its way when the last writer closes a terminal may be lost
    os.close(leader)
    assert "reading" in shown


def test_the_very_line_that_is_suggested_trains(alone, run, table, tmp_path):
    line = alone("describe", table, "--label", "kind", "--ranks", "2", deadline=60).out.splitlines()[-1]
    assert line.startswith("mpirun -n 2 python -m distsoftmax.train --data ")
    ended = run("bash", "-c", line, deadline=60)
    assert (ended.status, ended.err) == (0, "")
    assert list(tmp_path.glob("runs/*/model.safetensors"))
