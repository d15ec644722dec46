"""Paths of solutions for falling l2 that a signal ends; tests/unit/test_l2_path.py has the others."""

import json
import os
import re
import signal

import pytest
from conftest import ROOT

from distsoftmax.model import load_model

FAULTS = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "jobs" / "faults")]), "FAULT": "all:slow"}
# slow enough that the fault, which slows every call of the kernel after the 200th, comes in the middle
PATH = ["--l2-path", "1e-1:1e-4:4", "--solver", "gradient-descent", "--tolerance", 1e-3, "--shards", 8]
NAMES = ["01-l2-1e-01", "02-l2-1e-02", "03-l2-1e-03", "04-l2-1e-04"]


def models(folder):
    return [load_model(folder / "path" / name / "model.safetensors").sha256 for name in NAMES]


@pytest.fixture(scope="module")
def whole(shared_mpirun):
    ended = shared_mpirun(2, "train", *PATH, "--out", "whole")
    assert ended.status == 0, ended.err
    return ended


def go_on(run, ended, n):
    (line,) = re.findall(r"^mpirun -n \d+ (python -m distsoftmax.train --config \S+)$", ended.out, re.MULTILINE)
    return run("mpirun", "-n", n, *line.split(), "--max-seconds", 1000)


def test_a_path_interrupted_by_a_signal_goes_on_with_the_same_bits(run, start, whole, shared_folder, tmp_path):
    process = start("mpirun", "-n", 3, "python", "-m", "distsoftmax.train", *PATH, "--out", "cut", env=FAULTS)
    third = tmp_path / "cut" / "path" / NAMES[2] / "metrics.jsonl"
    process.wait_for(lambda: third.exists() and len(third.read_text().splitlines()) > 3, "its third run")
    os.kill(sorted(process.ranks())[-1], signal.SIGUSR1)
    ended = process.wait()
    assert ended.status == 75, ended.err
    assert re.search(r"^stopped by SIGUSR1 after step \d+ of l2 0.001 \(3 of 4\); go on with$", ended.out, re.MULTILINE)
    assert len(json.loads((tmp_path / "cut" / "path.json").read_text())["runs"]) == 2
    finished = {name: (tmp_path / "cut" / "path" / name / "checkpoints") for name in NAMES[:2]}
    before = {path: path.stat().st_mtime_ns for folder in finished.values() for path in folder.iterdir()}
    again = go_on(run, ended, 2)
    assert again.status == 0, again.err
    assert {path: path.stat().st_mtime_ns for folder in finished.values() for path in folder.iterdir()} == before
    assert models(tmp_path / "cut") == models(shared_folder / "whole")
    assert again.sha256 == whole.sha256


def test_a_path_that_was_killed_goes_on_with_the_same_bits(mpirun, start, whole, shared_folder, tmp_path):
    process = start("mpirun", "-n", 3, "python", "-m", "distsoftmax.train", *PATH, "--out", "cut", env=FAULTS)
    third = tmp_path / "cut" / "path" / NAMES[2] / "metrics.jsonl"
    process.wait_for(lambda: third.exists() and len(third.read_text().splitlines()) > 3, "its third run")
    os.kill(sorted(process.ranks())[1], signal.SIGKILL)
    assert process.wait().status not in (0, 75)
    again = mpirun(2, "train", *PATH, "--out", "cut")
    assert models(tmp_path / "cut") == models(shared_folder / "whole")
    assert again.sha256 == whole.sha256
