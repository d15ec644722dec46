"""The look at samples before training, as a user starts it: alone and under mpirun."""

import json
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
    for ranks in (1, 3):
        job = mpirun(ranks, "describe", table, "--label", "kind", *form, deadline=60)
        assert (job.status, job.out) == (0, by_itself.out)
        assert job.err == ""


def test_it_says_what_a_user_wants_to_know(alone, table):
    ended = alone("describe", table, "--label", "kind", deadline=60)
    for words in ("csv, 1 file", "300 rows, 4 features, dense", "3 classes", "missing values: none", "16 shards"):
        assert words in ended.out
    assert "nothing is wrong with it" in ended.out


def test_several_parts_are_one_source(mpirun, table, tmp_path):
    header, *lines = table.read_text().splitlines(keepends=True)
    for number in range(3):
        (tmp_path / f"part-{number}.csv").write_text(header + "".join(lines[number::3]))
    ended = mpirun(2, "describe", "part-0.csv", "part-1.csv", "part-2.csv", "--label", "kind", "--json", deadline=60)
    found = json.loads(ended.out)
    assert (found["files"], found["rows"], found["problems"]) == (3, 300, [])


def test_what_would_stop_training_is_listed_and_ends_with_status_2(alone, mpirun, table):
    table.write_text(table.read_text() + "1,,cat,3,inf\n")
    by_itself = alone("describe", table, "--label", "kind", deadline=60)
    job = mpirun(3, "describe", table, "--label", "kind", deadline=60)
    training = mpirun(3, "train", "--data", table, "--label", "kind", "--out", "run", deadline=60)
    assert by_itself.status == job.status == training.status == 2
    assert job.out == by_itself.out
    assert [line.partition(":")[0] for line in job.out.splitlines()[-2:]] == ["error", "error"]
    (complaint,) = (line for line in training.err.splitlines() if line.startswith("error: "))
    assert complaint in job.out


def test_without_a_label_it_says_how_to_name_one(mpirun, table):
    ended = mpirun(2, "describe", table, deadline=60)
    assert ended.status == 0
    assert "say which column holds the label with --label; the columns are a, b, kind, c, d" in ended.out


def test_what_cannot_be_read_ends_with_one_error(mpirun, tmp_path):
    np.savez(tmp_path / "d.npz", X=np.ones((40, 2)), y=np.arange(40) % 2)
    (tmp_path / "d.npz").write_bytes((tmp_path / "d.npz").read_bytes()[:300])
    ended = mpirun(3, "describe", "d.npz", deadline=60)
    assert ended.status == 2
    assert ended.out == ""
    assert ended.err.count("error: ") == 1
    assert "d.npz: is not a .npz archive" in ended.err


def test_what_the_reader_notes_of_its_reading_stands_apart(alone, mpirun, tmp_path):
    (tmp_path / "d.svm").write_text("".join(f"{row % 2} qid:{row} 1:{row} 3:2\n" for row in range(40)))
    by_itself = alone("describe", "d.svm", deadline=60)
    job = mpirun(3, "describe", "d.svm", deadline=60)
    assert by_itself.out == job.out
    assert job.err == "note: d.svm: the query ids (qid) are ignored\n"


def test_no_data_is_refused(mpirun):
    ended = mpirun(2, "describe", "--label", "kind", deadline=60)
    assert ended.status == 2
    assert "no samples are given" in ended.err


def test_on_a_terminal_the_reading_is_shown(table):
    import os
    import pty
    import subprocess

    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "distsoftmax.describe", table, "--label", "kind"]
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=follower, timeout=60, check=False)
    os.close(follower)
    shown = os.read(leader, 1 << 16).decode()
    os.close(leader)
    assert ended.returncode == 0
    assert "reading" in shown
