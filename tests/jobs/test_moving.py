"""Shards that leave a slow rank while the job goes on: the same bits, also where that rank is killed meanwhile."""

import os
import re

import pytest
from conftest import OPEN_MPI, ROOT

OPTIONS = ["--shards", 8, "--solver", "gradient-descent", "--tolerance", 0, "--max-steps", 90, "--threads", 1]
SLOW = {  # from its 200th shard on
    "PYTHONPATH": os.pathsep.join(map(str, [ROOT / "tests" / "jobs" / "faults", ROOT])),
    "FAULT": "1:slow",
}


@pytest.fixture(scope="module")
def sha256(shared_run):
    """Of the model of one process."""
    ended = shared_run("python", "-m", "distsoftmax.train", *OPTIONS, "--out", "alone")
    assert ended.status == 0, ended.err
    return ended.sha256


@pytest.mark.launcher
def test_shards_leave_a_slow_rank_and_the_bits_stay(mpirun, sha256):
    ended = mpirun(2, "train", *OPTIONS, "--balance", "dynamic", "--out", "run", env=SLOW)
    assert ended.status == 0, ended.err
    (moved,) = re.findall(r"^note: the ranks are not equally fast: (\d) shards? ha", ended.out, re.MULTILINE)[:1]
    assert int(moved) >= 3  # of the four that were the slow rank's
    assert ended.sha256 == sha256


@pytest.mark.launcher
def test_a_rank_killed_while_its_shards_move_costs_no_bit(run, sha256, tmp_path):
    """Repaired in place, where the MPI can do that, else started again."""
    supervise = ["python", "-m", "distsoftmax.supervise", "--", "mpirun"]
    launcher = ["mpirun", "--with-ft", "ulfm"] if OPEN_MPI else supervise
    ended = run(
        *[*launcher, "-n", 3, "python", "-m", "distsoftmax.train", *OPTIONS, "--balance", "dynamic", "--out", "run"],
        env={**SLOW, "FAULTS": "move:kill:1:1", "FAULT_MARKS": str(tmp_path)},
    )
    assert ended.status == 0, ended.err
    assert (tmp_path / "0").exists()
    assert ("1 of 3 ranks were lost" in ended.err) == OPEN_MPI
    assert ended.sha256 == sha256
