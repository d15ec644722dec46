"""Nightly use, by a shell script that users may copy: train, compare with yesterday's model, promote, report."""

import importlib.util
import json
import os
import re
import shutil
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("nightly.sh")
CAN_REPORT = all(importlib.util.find_spec(name) for name in ("jinja2", "matplotlib"))

pytestmark = pytest.mark.skipif(shutil.which("flock") is None, reason="flock is not installed")


@pytest.fixture
def night(run, table):
    """Run the script for a night with these options of training."""
    return lambda *options, label="kind", **variables: run(
        "bash", SCRIPT, table, table, label, *options, env=variables, deadline=120
    )


def run_in_use(folder):
    assert (folder / "current").is_symlink()
    assert (folder / "current/model.safetensors").is_file()
    return os.readlink(folder / "current")


def log_loss(folder):
    return json.loads((folder / "evaluation.json").read_text())["log_loss"]


def test_a_model_is_promoted_on_the_first_night_and_later_where_it_is_better(night, tmp_path):
    first = night("--l2", "1")
    assert first.status == 0, first.err
    assert re.fullmatch(r"nightly: runs/\S+, 300 samples, log loss 0\.\d+, promoted", first.out.splitlines()[-1])
    poor = run_in_use(tmp_path)
    assert json.loads((tmp_path / poor / "result.json").read_text())["converged"] is True
    assert (tmp_path / poor / "report.html").exists() == CAN_REPORT

    before = log_loss(tmp_path / poor)

    second = night("--l2", "10")
    assert second.status == 0, second.err
    assert second.out.splitlines()[-1].endswith(f"kept out: yesterday's model has a log loss of {before}")
    assert run_in_use(tmp_path) == poor

    third = night("--l2", "1e-3", LAUNCHER="mpirun -n 2", KEEP="1")
    assert third.status == 0, third.err
    better = run_in_use(tmp_path)
    assert log_loss(tmp_path / better) < before
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [Path(better).name]
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize(
    ("options", "label", "status", "goes_on"),
    [
        (["--l2", "1e-6", "--max-steps", "1"], "kind", 3, False),
        (["--l2", "1e-6", "--max-seconds", "1e-6"], "kind", 75, True),
        ([], "nothing", 2, False),
    ],
    ids=["tolerance", "time", "input"],
)
def test_a_night_that_fails_leaves_yesterdays_model_in_use(night, tmp_path, options, label, status, goes_on):
    (tmp_path / "yesterday").mkdir()
    (tmp_path / "yesterday/model.safetensors").touch()
    (tmp_path / "current").symlink_to("yesterday")
    ended = night(*options, label=label)
    assert ended.status == status, ended.err
    assert run_in_use(tmp_path) == "yesterday"
    assert (tmp_path / "unfinished").exists() == goes_on
