"""Runs that go on where an earlier one ended, in the bits of one that did not end; jobs/ has those that are cut off."""

import errno
import json
import os
from pathlib import Path

from distsoftmax.arithmetic.library import VERSION
from distsoftmax.coordinator import run_identity
from distsoftmax.model import load_model


def test_a_damaged_checkpoint_is_passed_over_loudly_with_the_same_bits(job, tmp_path):
    options = ["--max-steps", 20, "--checkpoint-every", 5, "--tolerance", 0]
    whole = job(2, "train", *options, "--out", "run").sha256
    *_, before, newest = sorted((tmp_path / "run" / "checkpoints").iterdir())  # of three steps, or of the last two
    data = bytearray(newest.read_bytes())
    data[-9] ^= 1
    newest.write_bytes(data)
    (tmp_path / "run" / "model.safetensors").unlink()
    again = job(3, "train", *options, "--out", "run")
    assert newest.name in again.err
    assert f"after step {int(before.stem.removeprefix('step-'))}" in again.out
    assert again.sha256 == whole


def test_a_run_whose_checkpoints_cannot_be_listed_keeps_what_it_has_and_ends(job, tmp_path, monkeypatch):
    options = ["--max-steps", 5, "--tolerance", 0, "--out", "run"]
    whole = job(2, "train", *options).sha256
    metrics = (tmp_path / "run" / "metrics.jsonl").read_bytes()

    def failing(folder):
        if Path(folder).name == "checkpoints":
            raise OSError(errno.EIO, "Input/output error")
        return listdir(folder)

    with monkeypatch.context() as outage:
        listdir = os.listdir
        outage.setattr(os, "listdir", failing)
        ended = job(2, "train", *options, "--warm")
    assert ended.status == 2
    assert "error: run/checkpoints: cannot be listed: Input/output error" in ended.err
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == metrics
    assert job(3, "train", *options).sha256 == whole


def test_a_finished_run_can_be_extended_and_equals_a_longer_one_in_its_metrics_too(job, tmp_path):
    job(2, "train", "--max-steps", 7, "--tolerance", 0, "--out", "run")
    longer = job(3, "train", "--max-steps", 19, "--tolerance", 0, "--out", "run")
    whole = job(1, "train", "--max-steps", 19, "--tolerance", 0, "--out", "other")
    assert longer.sha256 == whole.sha256
    steps = {}
    for out in ("run", "other"):
        lines = [json.loads(line) for line in (tmp_path / out / "metrics.jsonl").read_text().splitlines()]
        steps[out] = {line["step"]: line["objective"] for line in lines}
    assert len(steps["run"]) == 20
    assert steps["run"] == steps["other"]


def test_a_run_that_ended_on_its_tolerance_goes_on_to_a_smaller_one_with_the_same_bits(job, table):
    options = ["--data", table, "--label", "kind", "--l2", 1e-4]
    job(2, "train", *options, "--tolerance", 1e-2, "--out", "run")
    later = job(3, "train", *options, "--tolerance", 1e-6, "--out", "run")
    assert "resumed from" in later.out
    assert later.sha256 == job(1, "train", *options, "--tolerance", 1e-6, "--out", "whole").sha256


def test_a_run_begun_by_another_arithmetic_says_so_at_each_resume_and_in_what_it_leaves(job, tmp_path, monkeypatch):
    options = ["--tolerance", 0, "--out", "run", "--max-steps"]
    with monkeypatch.context() as earlier:
        earlier.setattr(run_identity, "VERSION", VERSION - 1)
        assert "arithmetic" not in job(1, "train", *options, 3).err
    for n_steps in (5, 7):
        resumed = job(2, "train", *options, n_steps)
        assert resumed.err.count(f"was made by arithmetic {VERSION - 1}") == 1
        assert json.loads((tmp_path / "run" / "result.json").read_text())["arithmetic"] == VERSION - 1
    model = load_model(tmp_path / "run" / "model.safetensors")
    assert model.arithmetic == VERSION - 1
