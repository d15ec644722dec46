"""Paths of solutions for falling l2; tests/jobs/test_l2_path.py has those that a signal ends."""

import json
import re

import pytest

from distsoftmax.model import load_model

PATH = ["--l2-path", "1e-1:1e-4:4", "--solver", "gradient-descent", "--tolerance", 1e-2, "--shards", 8]
NAMES = ["01-l2-1e-01", "02-l2-1e-02", "03-l2-1e-03", "04-l2-1e-04"]


def models(of):
    return [load_model(of / "path" / name / "model.safetensors").sha256 for name in NAMES]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of the path that several tests look at; the first of them makes it."""
    return tmp_path_factory.mktemp("path") / "whole"


@pytest.fixture(scope="module")
def made():
    """What was said of it."""
    return []


@pytest.fixture
def whole(job, folder, made):
    """A path that nothing ends."""
    if not made:
        made.append(job(2, "train", *PATH, "--out", folder))
    assert made[0].status == 0, made[0].err
    return made[0]


def test_bits_of_all_models_do_not_depend_on_the_number_of_ranks(job, whole, folder, tmp_path):
    expected = models(folder)
    assert len(set(expected)) == 4
    for ranks in (1, 3):
        ended = job(ranks, "train", *PATH, "--out", f"on-{ranks}")
        assert models(tmp_path / f"on-{ranks}") == expected
        assert ended.sha256 == whole.sha256


def test_each_run_is_the_one_that_starts_from_the_model_before(job, whole, folder):
    common = ["--solver", "gradient-descent", "--tolerance", 1e-2, "--shards", 8]
    found, start = [], []
    for l2, name in zip((0.1, 0.01, 0.001, 0.0001), NAMES, strict=True):
        found.append(job(3, "train", *common, "--l2", l2, "--out", name, *start).sha256)
        start = ["--init", name]
    assert found == models(folder)


def test_the_table_and_the_file_say_what_each_run_came_to_and_the_best_is_kept(whole, folder):
    lines = whole.out.splitlines()
    (marked,) = [line for line in lines if line.endswith("< lowest held-out log loss")]
    content = json.loads((folder / "path.json").read_text())
    assert content["l2"] == [0.1, 0.01, 0.001, 0.0001]
    runs = content["runs"]
    assert [run["l2"] for run in runs] == content["l2"]
    assert [run["folder"] for run in runs] == [f"path/{name}" for name in NAMES]
    assert [run["model_sha256"] for run in runs] == models(folder)
    best = min(runs, key=lambda run: run["held_out_log_loss"])
    assert content["chosen"] == best["folder"].removeprefix("path/")
    assert float(marked.split()[0]) == best["l2"]
    assert whole.sha256 == best["model_sha256"] == load_model(folder / "model.safetensors").sha256
    for run in runs:
        assert 0 <= run["certified_gap"] <= 1e-2 * run["objective"]
        assert run["seconds"] > 0
        metrics = (folder / run["folder"] / "metrics.jsonl").read_text().splitlines()
        last = json.loads(metrics[-1])
        assert (last["step"], last["held_out_log_loss"]) == (run["steps"], run["held_out_log_loss"])
        assert (last["held_out_accuracy"], last["objective"]) == (run["held_out_accuracy"], run["objective"])


def test_runs_after_the_first_are_shorter_than_from_0(job, whole, folder):
    runs = json.loads((folder / "path.json").read_text())["runs"]
    cold = job(2, "train", "--l2", runs[1]["l2"], "--solver", "gradient-descent", "--tolerance", 1e-2, "--out", "cold")
    assert runs[1]["steps"] < int(re.search(r"after (\d+) steps", cold.out)[1])


def test_without_held_out_samples_the_last_model_is_kept_and_the_table_says_so(job, table, tmp_path):
    ended = job(2, "train", "--data", table, "--label", "kind", "--l2-path", "1e-1:1e-2:2", "--out", "run")
    assert ended.status == 0, ended.err
    assert "no samples are held out to choose by: the model is that of the last" in ended.out
    runs = json.loads((tmp_path / "run" / "path.json").read_text())["runs"]
    assert ended.sha256 == runs[1]["model_sha256"]
    assert runs[1]["held_out_log_loss"] is None


def go_on(job, ended, n):
    (line,) = re.findall(r"^mpirun -n \d+ (python -m distsoftmax.train --config \S+)$", ended.out, re.MULTILINE)
    return job(n, "train", *line.split()[3:], "--max-seconds", 1000)


def test_a_path_that_is_out_of_time_again_and_again_comes_to_the_same_end(job, whole, folder, tmp_path):
    ended = job(2, "train", *PATH, "--max-seconds", 0.05, "--out", "cut")
    assert ended.status == 75, ended.err
    assert re.search(r"^stopped by --max-seconds 0.05 after step \d+ of l2 ", ended.out, re.MULTILINE)
    again = go_on(job, ended, 3)
    assert models(tmp_path / "cut") == models(folder)
    assert again.sha256 == whole.sha256


def test_patience_acts_in_each_run(job, tmp_path):
    options = ["--evaluate-every", 1, "--patience", 2, "--tolerance", 0, "--max-steps", 40]
    ended = job(2, "train", "--l2-path", "1e-4:1e-8:2", *options, "--out", "run")
    assert ended.status == 0, ended.err
    runs = json.loads((tmp_path / "run" / "path.json").read_text())["runs"]
    assert any("the held-out log loss has not fallen" in run["stopped"] for run in runs)
    for run in runs:
        lines = (tmp_path / "run" / run["folder"] / "metrics.jsonl").read_text().splitlines()
        assert run["held_out_log_loss"] == min(json.loads(line)["held_out_log_loss"] for line in lines)
