"""result.json and the model that it names: of runs that end, are stopped, go on, and die in between."""

import json
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
from in_process import signals_with
from ranks import on_ranks

from distsoftmax.cluster.communicator import Alone
from distsoftmax.config import DataConfig, ObjectiveConfig, RunConfig, SolverConfig, TrainConfig
from distsoftmax.coordinator import coordinator as coordinator_module
from distsoftmax.coordinator import metrics, result_file
from distsoftmax.coordinator.coordinator import Coordinator
from distsoftmax.errors import InputError, OutputError
from distsoftmax.model import load_model
from distsoftmax.run_folder import model_stamp
from distsoftmax.session import open_session
from distsoftmax.trainer import fit_and_save

# of format version 1, in this order; scripts and reports read them
NAMES = """
format_version version arithmetic status reason converged notes step n_steps seconds objective certified_gap
relative_gap relative_gradient tolerance solver n_ranks n_shards n_training n_held_out n_features n_classes
n_used_features n_nonzero sparse dtype classes training held_out evaluation evaluated_on model model_sha256 interim
finished
"""


@pytest.fixture
def data(tmp_path):
    generator = np.random.default_rng(5)
    features = generator.standard_normal((200, 4))
    scores = features @ generator.standard_normal((4, 3)) + generator.gumbel(size=(200, 3))
    np.savez(tmp_path / "table.npz", X=features, y=scores.argmax(axis=1))
    return str(tmp_path / "table.npz")


@pytest.fixture
def train(data, tmp_path):
    """Train in this process into `run`; return the folder."""

    def train(*, cluster=None, signal=0, valid=0.3, run=None, out="run", l2=1e-3, **solver):
        config = TrainConfig(
            data=DataConfig(data=(data,), valid_fraction=valid, shards=4),
            objective=ObjectiveConfig(l2=l2),
            solver=SolverConfig(**{"solver": "gradient-descent", **solver}),
            run=RunConfig(out=str(tmp_path / out), progress="never", threads=1, **(run or {})),
        )
        cluster = cluster or Alone()
        with Coordinator(config, cluster) as coordinator:
            session = open_session(config, cluster, signals_with(0), coordinator)
            session.signals.received = signal
            fit_and_save(config, coordinator, session)
        return tmp_path / out

    return train


def result(folder):
    return json.loads((folder / "result.json").read_text())


def test_a_run_that_has_ended_says_all_that_scripts_ask_for(train):
    folder = train(max_steps=500)
    found, model = result(folder), load_model(folder / "model.safetensors")
    assert list(found) == NAMES.split()
    assert (found["status"], found["converged"], found["interim"], found["notes"]) == ("ended", True, False, [])
    assert found["model_sha256"] == model.sha256
    assert found["relative_gap"] == found["certified_gap"] / found["objective"] <= found["tolerance"] == 1e-4
    assert (found["solver"], found["n_ranks"], found["n_shards"]) == ("gradient-descent", 1, 4)
    assert (found["n_training"] + found["n_held_out"], found["n_features"]) == (200, 4)
    assert found["classes"] == ["0", "1", "2"]
    assert found["held_out"] == {name: found["evaluation"][name] for name in ("accuracy", "log_loss")}
    age = datetime.now(timezone.utc) - datetime.fromisoformat(found["finished"].replace("Z", "+00:00"))
    assert timedelta(0) <= age < timedelta(minutes=1)
    assert found["seconds"] > 0


def test_a_run_whose_steps_are_used_up_has_not_converged_and_notes_what_would_help(train):
    found = result(train(max_steps=2))
    assert (found["status"], found["converged"], found["reason"]) == ("ended", False, "the limit of 2 steps is reached")
    (note,) = found["notes"]
    assert note.endswith("the same command with more --max-steps goes on from here")


def test_a_run_that_its_patience_ends_has_converged(train):
    found = result(train(max_steps=900, tolerance=0.0, patience=2, run={"evaluate_every": 1}, l2=1e-6))
    assert found["converged"]
    assert found["step"] < found["n_steps"]


def test_the_evaluation_in_training_is_that_of_the_command_and_the_same_on_any_ranks(train, job, data):
    """Without held-out samples it is of the training samples; in float64 both compute the same up to rounding."""
    train(max_steps=20, valid=0.0)
    found = result(train(max_steps=20, valid=0.0))
    for ranks in (2, 3, 5):
        folders = on_ranks(ranks, lambda rank: train(cluster=rank, max_steps=20, valid=0.0, out="other"))
        assert result(folders[0])["evaluation"] == found["evaluation"]
        (folders[0] / "result.json").unlink()
    said = json.loads(job(3, "evaluate", "run", "--data", data, "--json").out)
    assert found["evaluated_on"] == "training"
    assert said["confusion"] == found["evaluation"]["confusion"]
    assert said["log_loss"] == pytest.approx(found["evaluation"]["log_loss"], rel=1e-12)
    assert said["calibration_error"] == pytest.approx(found["evaluation"]["calibration_error"], abs=1e-9)
    for there, here in zip(said["reliability"], found["evaluation"]["reliability"], strict=True):
        assert (there["samples"], there["accuracy"]) == (here["samples"], here["accuracy"])


def test_a_stopped_run_leaves_a_usable_model_and_the_rest_of_the_run_the_final_one(train, tmp_path):
    whole = result(train(max_steps=12, out="whole"))
    train(max_steps=5)
    stamp = model_stamp(tmp_path / "run")
    folder = train(max_steps=12, signal=15)
    found, model = result(folder), load_model(folder / "model.safetensors")
    assert list(found) == NAMES.split()
    assert (found["status"], found["reason"], found["step"]) == ("interrupted", "stopped by SIGTERM", 5)
    assert (found["converged"], found["interim"], model.interim) == (False, True, True)
    assert found["model_sha256"] == model.sha256 == result(train(max_steps=5, out="five"))["model_sha256"]
    assert (found["training"], found["evaluation"]) == (None, None)
    assert found["held_out"]["accuracy"] > 0.5
    assert model_stamp(folder) != stamp
    again = result(train(max_steps=12))
    assert again["model_sha256"] == whole["model_sha256"]
    assert not load_model(folder / "model.safetensors").interim


def test_with_patience_the_interim_model_is_the_best_so_far(train):
    options = {"tolerance": 0.0, "patience": 1000, "run": {"evaluate_every": 1}, "l2": 1e-6}
    ended = result(train(max_steps=60, out="ended", **options))
    train(max_steps=60, **options)
    stopped = result(train(max_steps=99, signal=15, **options))
    assert stopped["step"] == ended["step"] < stopped["n_steps"] == 60
    assert stopped["model_sha256"] == ended["model_sha256"]
    assert stopped["held_out"] == ended["held_out"]


def test_beside_newer_checkpoints_there_is_no_older_result(train, tmp_path, monkeypatch):
    """It goes when the run goes on, so that none is left where the run is killed before its end."""

    class Killed(BaseException):
        pass

    def kill(*arguments, **options):
        seen.append((tmp_path / "run" / "result.json").exists())
        raise Killed

    train(max_steps=5, tolerance=0.0)
    train(max_steps=9, signal=15, tolerance=0.0)
    seen = []
    monkeypatch.setattr(coordinator_module, "metrics_of", kill)
    with pytest.raises(Killed):
        train(max_steps=30, tolerance=0.0)
    assert seen == [False]
    assert not (tmp_path / "run" / "result.json").exists()
    monkeypatch.undo()
    assert result(train(max_steps=30, tolerance=0.0))["n_steps"] == 30


def test_whoever_finds_a_result_finds_the_model_that_it_names(train, tmp_path, monkeypatch):
    """Looked at before and after each file that is written."""
    real, looks = result_file.write_atomically, []

    def look():
        if (tmp_path / "run" / "result.json").exists():
            named = result(tmp_path / "run")["model_sha256"]
            looks.append(named == load_model(tmp_path / "run" / "model.safetensors").sha256)

    def write(path, *content):
        look()
        real(path, *content)
        look()

    for module in (result_file, coordinator_module):
        monkeypatch.setattr(module, "write_atomically", write)
    for steps in (3, 5, 9):
        train(max_steps=steps)
    assert looks
    assert all(looks)


def test_a_result_that_cannot_be_removed_or_written_is_an_error_on_every_rank(train, tmp_path):
    (tmp_path / "run" / "result.json").mkdir(parents=True)
    for error in on_ranks(3, lambda rank: train(cluster=rank, max_steps=3)):
        assert isinstance(error, OutputError)
        assert "result.json: cannot be removed: " in str(error)


def test_of_more_than_200_classes_there_is_no_matrix_but_all_else(tmp_path, train, data):
    generator = np.random.default_rng(2)
    np.savez(data, X=generator.standard_normal((900, 3)), y=np.arange(900) % 201)
    found = result(train(max_steps=1, valid=0.0))["evaluation"]
    assert found["confusion"] is None
    assert len(found["classes"]) == 201


def test_numbers_that_are_not_finite_are_null():
    assert metrics.finite({"a": [1.0, float("nan")], "b": float("inf"), "c": None, "d": True}) == {
        "a": [1.0, None],
        "b": None,
        "c": None,
        "d": True,
    }


# --- exit statuses ---


@pytest.mark.parametrize("words", [(), ("--l2-path", "1e-2:1e-3:2")], ids=["a run", "a path"])
def test_strict_tells_by_the_status_that_the_tolerance_was_not_reached(job, data, tmp_path, words):
    options = ["--data", data, *(words or ["--l2", 1e-3]), "--strict", "--out", "run"]
    short = job(2, "train", *options, "--max-steps", 2)
    assert short.status == 3, short.err
    assert "was not reached" in short.out
    assert short.sha256 == result(tmp_path / "run")["model_sha256"]
    assert not result(tmp_path / "run")["converged"]
    options[-1] = "other"
    assert job(2, "train", *options).status == 0
    assert result(tmp_path / "other")["converged"]


def test_strict_without_a_tolerance_is_refused():
    with pytest.raises(InputError, match="--strict asks for the --tolerance to be reached, and it is 0"):
        TrainConfig(solver=SolverConfig(tolerance=0.0), run=RunConfig(strict=True))


# --- paths ---


def test_a_path_has_a_result_for_each_run_and_one_for_the_whole(job, data, tmp_path):
    ended = job(2, "train", "--data", data, "--valid-fraction", 0.3, "--l2-path", "1e-1:1e-3:3", "--out", "run")
    assert ended.status == 0, ended.err
    folder = tmp_path / "run"
    whole = result(folder)
    assert list(whole) == [*NAMES.split(), "path"]
    chosen = result(folder / whole["path"]["folder"])
    different = {name for name in NAMES.split() if whole[name] != chosen[name]}
    assert different <= {"seconds"}
    assert whole["seconds"] > chosen["seconds"]
    assert whole["path"]["not_converged"] == []
    assert whole["path"]["l2"] in (0.1, 0.01, 0.001)
    assert len(list(folder.glob("path/*/result.json"))) == whole["path"]["n_runs"] == 3
    assert load_model(folder / "model.safetensors").sha256 == whole["model_sha256"] == ended.sha256


def test_a_path_that_is_stopped_has_an_interim_model_and_ends_with_the_final_one(job, data, tmp_path):
    """Each process takes one step, and the last of them only looks at what is there."""
    words = ["--data", data, "--valid-fraction", 0.3, "--l2-path", "1e-1:1e-2:2", "--solver", "trust-region"]
    whole = job(2, "train", *words, "--out", "whole")
    status, folders = 75, []
    while status == 75:
        ended = job(2, "train", *words, "--max-seconds", 1e-9, "--out", "run")
        status = ended.status
        found, model = result(tmp_path / "run"), load_model(tmp_path / "run" / "model.safetensors")
        assert found["model_sha256"] == model.sha256
        assert found["interim"] == model.interim == (status == 75) == (found["status"] == "interrupted")
        folders.append(found["path"]["folder"])
    assert status == 0, ended.err
    assert folders[0] == folders[-2] == "path/01-l2-1e-01"  # the second run has not ended, and so is not chosen
    assert ended.sha256 == whole.sha256


# --- who uses an interim model ---


def test_who_uses_an_interim_model_is_told(train, job, data):
    train(max_steps=9, signal=15)
    said = "is an interim model: its run was stopped early, and goes on when it is started again"
    for words in (["evaluate", "run"], ["predict", "run", "--out", "p.csv"], ["train", "--init", "run", "--out", "r"]):
        ended = job(2, *words, "--data", data)
        assert ended.status == 0, ended.err
        assert ended.err.count(said) == 1
