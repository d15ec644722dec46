"""Paths of solutions for falling l2."""

import json
import os
import re
import signal

import pytest
from conftest import ROOT, TRAININGS

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


def test_bits_of_all_models_do_not_depend_on_the_number_of_ranks(mpirun, whole, shared_folder, tmp_path):
    expected = models(shared_folder / "whole")
    assert len(set(expected)) == 4
    for ranks in (1, 3):
        ended = mpirun(ranks, "train", *PATH, "--out", f"on-{ranks}")
        assert models(tmp_path / f"on-{ranks}") == expected
        assert ended.sha256 == whole.sha256


def test_each_run_is_the_one_that_starts_from_the_model_before(run, whole, shared_folder):
    common = "--solver gradient-descent --tolerance 1e-3 --shards 8"
    l2s = (0.1, 0.01, 0.001, 0.0001)
    runs = [f"{common} --l2 {l2} --out {name}" for l2, name in zip(l2s, NAMES, strict=True)]
    starts = ["", *(f" --init {name}" for name in NAMES[:-1])]
    ended = run("mpirun", "-n", 3, "python", TRAININGS, *map("".join, zip(runs, starts, strict=True)))
    assert ended.status == 0, ended.err
    assert ended.all_sha256 == models(shared_folder / "whole")


def test_the_table_and_the_file_say_what_each_run_came_to_and_the_best_is_kept(whole, shared_folder):
    lines = whole.out.splitlines()
    (marked,) = [line for line in lines if line.endswith("< lowest held-out log loss")]
    content = json.loads((shared_folder / "whole" / "path.json").read_text())
    assert content["l2"] == [0.1, 0.01, 0.001, 0.0001]
    runs = content["runs"]
    assert [run["l2"] for run in runs] == content["l2"]
    assert [run["folder"] for run in runs] == [f"path/{name}" for name in NAMES]
    assert [run["model_sha256"] for run in runs] == models(shared_folder / "whole")
    best = min(runs, key=lambda run: run["held_out_log_loss"])
    assert content["chosen"] == best["folder"].removeprefix("path/")
    assert float(marked.split()[0]) == best["l2"]
    assert whole.sha256 == best["model_sha256"] == load_model(shared_folder / "whole" / "model.safetensors").sha256
    for run in runs:
        assert 0 <= run["certified_gap"] <= 1e-3 * run["objective"]
        assert run["seconds"] > 0
        metrics = (shared_folder / "whole" / run["folder"] / "metrics.jsonl").read_text().splitlines()
        last = json.loads(metrics[-1])
        assert (last["step"], last["held_out_log_loss"]) == (run["steps"], run["held_out_log_loss"])
        assert (last["held_out_accuracy"], last["objective"]) == (run["held_out_accuracy"], run["objective"])


def test_runs_after_the_first_are_shorter_than_from_0(mpirun, whole, shared_folder):
    runs = json.loads((shared_folder / "whole" / "path.json").read_text())["runs"]
    cold = mpirun(
        2, "train", "--l2", runs[1]["l2"], "--solver", "gradient-descent", "--tolerance", 1e-3, "--out", "cold"
    )
    assert runs[1]["steps"] < int(re.search(r"after (\d+) steps", cold.out)[1])


def test_without_held_out_samples_the_last_model_is_kept_and_the_table_says_so(mpirun, table, tmp_path):
    ended = mpirun(2, "train", "--data", table, "--label", "kind", "--l2-path", "1e-1:1e-2:2", "--out", "run")
    assert ended.status == 0, ended.err
    assert "no samples are held out to choose by: the model is that of the last" in ended.out
    runs = json.loads((tmp_path / "run" / "path.json").read_text())["runs"]
    assert ended.sha256 == runs[1]["model_sha256"]
    assert runs[1]["held_out_log_loss"] is None


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


def test_a_path_that_is_out_of_time_again_and_again_comes_to_the_same_end(mpirun, run, whole, shared_folder, tmp_path):
    ended = mpirun(2, "train", *PATH, "--max-seconds", 0.15, "--out", "cut")
    assert ended.status == 75, ended.err
    assert re.search(r"^stopped by --max-seconds 0.15 after step \d+ of l2 ", ended.out, re.MULTILINE)
    again = go_on(run, ended, 3)
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


def test_patience_acts_in_each_run(mpirun, tmp_path):
    options = ["--evaluate-every", 1, "--patience", 2, "--tolerance", 0, "--max-steps", 40]
    ended = mpirun(2, "train", "--l2-path", "1e-4:1e-8:2", *options, "--out", "run")
    assert ended.status == 0, ended.err
    runs = json.loads((tmp_path / "run" / "path.json").read_text())["runs"]
    assert any("the held-out log loss has not fallen" in run["stopped"] for run in runs)
    for run in runs:
        lines = (tmp_path / "run" / run["folder"] / "metrics.jsonl").read_text().splitlines()
        assert run["held_out_log_loss"] == min(json.loads(line)["held_out_log_loss"] for line in lines)
