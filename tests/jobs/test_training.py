import json
import re

import numpy as np
import pytest
from conftest import LETTER, OPEN_MPI, TRAININGS

from distsoftmax.model import load_model

LETTER_OPTIONS = f"--data {LETTER} --label Letter --max-steps 8 --valid-fraction 0.1"
RUNS = {  # what each of the `JOBS` trains; test_golden_digests.py has every solver
    "digits float32": "--dtype float32 --max-steps 12 --l2 1e-4",
    "digits float64": "--dtype float64 --max-steps 12 --l2 1e-4",
    "letter float32": f"{LETTER_OPTIONS} --dtype float32",
    "letter float64": f"{LETTER_OPTIONS} --dtype float64",
}
JOBS = [(1, 3), (2, 1), (2, 3), (3, 2), (4, 1), (5, 3), (7, 1)]  # ranks, and threads of each


@pytest.fixture(scope="module")
def models(shared_run, sample_of):
    """The sha256 of the model of each run in each job, which are (1, 1) and a sample of `JOBS`."""
    names = [name for name in RUNS if LETTER.exists() or "letter" not in name]
    models = {name: {} for name in names}
    for ranks, threads in [(1, 1), *sample_of(__name__, JOBS, 2)]:
        runs = [f"{RUNS[name]} --threads {threads} --out '{ranks}-{threads}/{name}'" for name in names]
        ended = shared_run("mpirun", "-n", ranks, "python", TRAININGS, *runs)
        assert ended.status == 0, ended.err
        for name, sha256 in zip(names, ended.all_sha256, strict=True):
            models[name][ranks, threads] = sha256
    return models


@pytest.mark.parametrize("name", RUNS)
def test_bits_do_not_depend_on_the_number_of_ranks_or_threads(models, name):
    if name not in models:
        pytest.skip("the shared data set letter.csv is not here")
    assert len(models[name]) >= 3
    assert len(set(models[name].values())) == 1, models[name]


def test_letter_comes_within_1e_8_of_the_optimum_and_the_gap_is_never_below_the_true_one(mpirun, letter, tmp_path):
    optimum = 0.875889487745  # scikit-learn's newton-cg and newton-cholesky agree on these digits
    options = ["--data", letter, "--label", "Letter", "--dtype", "float64", "--l2", 1e-4, "--tolerance", 1e-8]
    ended = mpirun(2, "train", *options, "--max-steps", 3000, "--out", tmp_path / "run")
    assert ended.status == 0, ended.err
    assert "the certified gap is below 1e-08 of the objective" in ended.out
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert 0 <= lines[-1]["objective"] - optimum + 1e-12 < 1e-8
    for line in lines[:-1]:
        assert line["estimated_gap"] >= line["objective"] - optimum - 1e-12
    shown = float(re.search(r"^certified gap: within (\S+) of the optimum", ended.out, re.MULTILINE)[1])
    assert lines[-1]["certified_gap"] == pytest.approx(shown, rel=1e-2)
    assert lines[-1]["certified_gap"] >= lines[-1]["objective"] - optimum - 1e-12
    objectives = np.array([line["objective"] for line in lines])
    assert np.diff(objectives).max() < 1e-14  # monotone


@pytest.mark.launcher
def test_digits_reach_an_accuracy_of_0_95_and_the_last_of_the_lines_each_printed_once_say_how_it_went(run, tmp_path):
    ended = run("mpirun", "-n", 4, "python", "-m", "distsoftmax.train")
    assert ended.status == 0, ended.err
    assert len(ended.out.splitlines()) == len(set(ended.out.splitlines()))
    stopped, objective, gap, accuracy, _model, sha256 = ended.out.splitlines()[-6:]
    assert stopped.startswith("stopped: ")
    assert float(objective.removeprefix("objective: ")) < 0.1
    assert "--l2" in gap
    assert float(re.match(r"accuracy: ([0-9.]+) on 359 held-out", accuracy)[1]) >= 0.95
    (out,) = (tmp_path / "runs").iterdir()
    assert load_model(out / "model.safetensors").sha256 == sha256.removeprefix("model sha256 ")
    assert sorted(path.name for path in out.iterdir()) == [
        "checkpoints",
        "config.toml",
        "metrics.jsonl",
        "model.safetensors",
        "result.json",
    ]
    assert ended.err == "" or OPEN_MPI


def test_a_reader_that_has_gone_does_not_end_the_run(run, tmp_path):
    job = "python -m distsoftmax.train --max-steps 5 --out run"
    ended = run("bash", "-c", f"({job}; echo $? >&2) | true")
    assert ended.err.split() == ["0"]
    assert (tmp_path / "run" / "model.safetensors").exists()
