"""Runs that end early: by their patience, by their time, or because the objective left the finite numbers."""

import json
import re
import shutil

import numpy as np
import pytest

from distsoftmax.model import load_model

PATIENT = ["--solver", "gradient-descent", "--tolerance", 0, "--evaluate-every", 3, "--patience", 4]
RATE = ["--learning-rate", 0.5]  # so that the best model is somewhere in the middle


@pytest.fixture
def overfit(tmp_path):
    """Options for samples that a model soon knows by heart."""
    generator = np.random.default_rng(0)
    features = generator.standard_normal((200, 40))
    kinds = (2 * features[:, :3].sum(axis=1) + generator.logistic(size=200) > 0).astype(int)
    np.savez(tmp_path / "few.npz", X=features, y=kinds)
    return ["--data", "few.npz", "--valid-fraction", 0.4, *PATIENT, *RATE]


@pytest.fixture
def whole(job, overfit):
    """A run that ends by its patience, without interruption."""
    ended = job(2, "train", *overfit, "--out", "whole")
    assert ended.status == 0, ended.err
    return ended


def losses(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["held_out_log_loss"] for line in lines if "held_out_log_loss" in line}


def kept(ended):
    assert ended.status == 0, ended.err
    found = re.search(r"^kept: the model of step (\d+), with the lowest held-out log loss, (\S+)$", ended.out, re.M)
    return int(found[1]), float(found[2])


def test_the_model_with_the_lowest_held_out_log_loss_is_kept(job, overfit, whole, tmp_path):
    found = losses(tmp_path / "whole")
    best = min(found, key=found.get)
    assert best > 0
    assert max(found) == best + 3 * 4
    assert kept(whole) == (best, pytest.approx(found[best], rel=1e-5))
    assert "the held-out log loss has not fallen for 4 evaluations" in whole.out
    directly = job(1, "train", *overfit, "--max-steps", best, "--out", "directly")
    assert directly.sha256 == whole.sha256
    objective = re.search("^objective: .*$", directly.out, re.MULTILINE)[0]
    assert objective[:20] in whole.out


@pytest.mark.sweep(2)
@pytest.mark.parametrize("cut", [4, 6, 15, 20])  # the best model is that of step 12
def test_an_interrupted_run_keeps_the_same_model_and_stops_at_the_same_step(job, overfit, whole, tmp_path, cut):
    last = max(losses(tmp_path / "whole"))
    assert cut < last
    job(3, "train", *overfit, "--max-steps", cut, "--out", "cut")
    again = job(1, "train", *overfit, "--out", "cut")
    assert f"resumed from cut/checkpoints/step-{cut:010d}" in again.out
    assert again.sha256 == whole.sha256
    assert kept(again) == kept(whole)
    assert max(losses(tmp_path / "cut")) == last
    once_more = job(2, "train", *overfit, "--out", "cut")
    assert (once_more.sha256, kept(once_more)) == (whole.sha256, kept(whole))


def test_more_patience_goes_on_where_less_has_stopped(job, overfit, whole, tmp_path):
    shutil.copytree(tmp_path / "whole", tmp_path / "run")
    longer = job(3, "train", *overfit, "--patience", 7, "--out", "run")
    assert "has not fallen for 7 evaluations" in longer.out
    assert longer.sha256 == job(2, "train", *overfit, "--patience", 7, "--out", "fresh").sha256


def test_other_held_out_samples_are_another_run(job, overfit, table, tmp_path):
    held_out = tmp_path / "held-out.csv"
    held_out.write_text("".join(table.read_text().splitlines(keepends=True)[:60]))
    options = ["--data", table, "--valid", held_out, "--label", "kind", *PATIENT]
    assert job(2, "train", *options, "--max-steps", 4, "--out", "run").status == 0
    held_out.write_text(held_out.read_text().replace("cat", "dog", 1))
    ended = job(2, "train", *options, "--out", "run")
    assert ended.status == 2
    assert "the data's held out samples were 59 " in ended.err
    assert ", now they are 59 " in ended.err


LONG = ["--solver", "gradient-descent", "--learning-rate", 0.01, "--tolerance", 0, "--max-steps", 150]


@pytest.fixture
def long_model(job):
    """The bits of a run that has all the time it needs."""
    return job(2, "train", *LONG, "--out", "long").sha256


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_run_out_of_time_saves_and_goes_on_with_the_same_bits(job, long_model, tmp_path, ranks):
    ended = job(ranks, "train", *LONG, "--max-seconds", 0.01, "--out", "cut")
    assert ended.status == 75, ended.err
    step = re.search(r"^stopped by --max-seconds 0.01 after step (\d+); go on with$", ended.out, re.MULTILINE)[1]
    assert 0 < int(step) < 150
    assert load_model(tmp_path / "cut" / "model.safetensors").interim
    (line,) = re.findall(r"^(?:mpirun -n \d+ )?(python -m distsoftmax.train --config .*)$", ended.out, re.MULTILINE)
    again = job(2, "train", *line.split()[3:], "--max-seconds", 1000)
    assert f"after step {step}" in again.out
    assert again.sha256 == long_model


def test_however_little_time_there_is_a_process_takes_a_step(job):
    for step in (1, 2, 3):
        ended = job(2, "train", *LONG, "--max-seconds", 1e-9, "--out", "run")
        assert f"after step {step};" in ended.out


def test_an_objective_that_leaves_the_finite_numbers_ends_all_ranks_and_leaves_the_last_checkpoint(job, tmp_path):
    options = ["--solver", "gradient-descent", "--learning-rate", 1e200, "--no-standardize", "--checkpoint-every", 1]
    ended = job(3, "train", *options, "--l2", 1, "--out", "run")
    assert ended.status == 1
    (line,) = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    step = int(re.search(r"not finite after step (\d+)", line)[1])
    assert "--learning-rate 1e+200 is too large; take a smaller one, or auto" in line
    checkpoints = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert checkpoints[-1] == f"step-{step - 1:010d}.safetensors"
