"""Ranks that were installed, or that see the files, otherwise than the others: one error on all of them, no hang."""

import itertools
import re
import shutil
import sys

import pytest
from conftest import ROOT

from distsoftmax.arithmetic.library import VERSION

pytestmark = pytest.mark.launcher
TRAIN = [sys.executable, "-m", "distsoftmax.train"]


def error_and_table(ended):
    """Return the one error, and the cells of the table below it."""
    assert ended.status == 2, ended
    assert "Traceback" not in ended.err
    lines = ended.err.splitlines()
    (start,) = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    table = itertools.takewhile(lambda line: line.startswith("  "), lines[start + 1 :])  # Open MPI says more
    return lines[start], [re.split(r"  +", line.strip()) for line in table]


def test_builds_of_unequal_arithmetic_are_refused_in_a_table_before_training(run, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(ROOT / "distsoftmax", other / "distsoftmax", ignore=shutil.ignore_patterns("__pycache__"))
    library = other / "distsoftmax" / "arithmetic" / "library.py"
    text, n_changes = re.subn(r"^VERSION = \d+ ", "VERSION = 7 ", library.read_text(), flags=re.MULTILINE)
    assert n_changes == 1
    library.write_text(text)
    ours, theirs = (["env", f"PYTHONPATH={folder}", *TRAIN, "--out", "run"] for folder in (ROOT, other))
    ended = run("mpirun", "-n", 2, *ours, ":", "-n", 1, *theirs, deadline=60)
    error, (columns, *rows) = error_and_table(ended)
    assert error.startswith("error: the ranks run different versions of distsoftmax, whose sums do not fit together")
    assert [(row[0], row[columns.index("arithmetic")]) for row in rows] == [("0-1", str(VERSION)), ("2", "7")]
    assert not (tmp_path / "run").exists()


def test_data_in_the_folder_of_one_rank_alone_are_one_error_on_all(run, table, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    train = [*TRAIN, "--data", table.name, "--label", "kind", "--out", tmp_path / "run"]
    ended = run("mpirun", "-n", 1, "-wdir", tmp_path, *train, ":", "-n", 2, "-wdir", elsewhere, *train, deadline=60)
    error, (_, *rows) = error_and_table(ended)
    assert error.startswith(f"error: --data {table.name}: not all ranks see the same; put it on a file system that all")
    assert [(row[0], row[2]) for row in rows] == [("0", str(tmp_path)), ("1-2", str(elsewhere))]
    assert [row[3][:6] for row in rows] == ["a file", "no suc"]
    assert not (tmp_path / "run").exists()


def test_copies_of_the_data_on_each_node_give_the_bits_of_one_file(run, mpirun, table, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copyfile(table, elsewhere / table.name)  # with a time of its own
    options = ["--data", table.name, "--label", "kind", "--max-steps", 3]
    expected = mpirun(1, "train", *options, "--out", "one").sha256
    train = [*TRAIN, *options, "--out", tmp_path / "run"]
    ended = run("mpirun", "-n", 1, "-wdir", tmp_path, *train, ":", "-n", 1, "-wdir", elsewhere, *train, deadline=60)
    assert (ended.status, ended.all_sha256) == (0, [expected]), ended
