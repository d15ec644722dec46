"""A run of which every rank died goes on from the state in memory, which is believed only where it fits the folder."""

import json
import os
import shutil
from functools import partial

import numpy as np
import pytest
from in_process import keep_every_step_in, trained
from mortal_ranks import Killed, on_mortal_ranks
from sklearn.datasets import load_wine

from distsoftmax.config import DataConfig, ObjectiveConfig, RunConfig, SolverConfig, TrainConfig

STEPS = 20


@pytest.fixture
def memory(tmp_path, monkeypatch):
    """A folder that stands for the file system in memory."""
    keep_every_step_in(tmp_path / "memory", monkeypatch)
    return tmp_path / "memory"


@pytest.fixture
def train(tmp_path, memory):
    """Train on two ranks, which both die in a call where one is given; return what comes of it."""
    samples, classes = load_wine(return_X_y=True)
    np.savez(tmp_path / "wine.npz", X=samples, y=classes)

    def train(out, dies_in=None, l2=1e-2, warm=True):
        config = TrainConfig(
            data=DataConfig(data=(str(tmp_path / "wine.npz"),), shards=4, scratch=str(tmp_path)),
            objective=ObjectiveConfig(l2=l2),
            solver=SolverConfig(solver="gradient-descent", max_steps=STEPS, tolerance=0),
            run=RunConfig(out=str(tmp_path / out), progress="never", threads=1, warm=warm),
        )

        dooms = {} if dies_in is None else dict.fromkeys(range(2), (dies_in, False))
        outcomes, calls = on_mortal_ranks(2, partial(trained, config), dooms)
        if dies_in is None:
            assert outcomes[0] == outcomes[1], outcomes
        else:
            assert all(isinstance(outcome, Killed) for outcome in outcomes), outcomes
        return outcomes[0], calls[0]

    return train


def steps(folder):
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def kept(memory):
    (path,) = memory.glob("distsoftmax-*/*/state.safetensors")
    return path


def test_a_run_of_which_every_rank_died_goes_on_from_the_state_in_memory(train, memory, tmp_path, capsys):
    whole, calls = train("whole")
    train("run", dies_in=calls * 3 // 4)
    assert not list((tmp_path / "run" / "checkpoints").iterdir())
    assert kept(memory).exists()
    assert train("run")[0] == whole
    assert "state.safetensors, after step" in capsys.readouterr().out
    assert steps(tmp_path / "run") == list(range(STEPS + 1))


def test_nothing_is_left_in_memory_or_scratch_when_a_run_has_ended(train, memory, tmp_path):
    train("run")
    assert not list(memory.iterdir())
    assert not list(tmp_path.glob("distsoftmax-*"))


def test_without_warm_nothing_is_kept(train, memory):
    train("run", warm=False)
    assert not list(memory.iterdir())


@pytest.fixture
def died(train):
    """The model of a whole run; another one has died at three quarters of it, in the folder run."""
    whole, calls = train("whole")
    train("run", dies_in=calls * 3 // 4)
    return whole


def test_a_folder_made_anew_starts_anew(train, died, tmp_path, capsys):
    shutil.rmtree(tmp_path / "run")
    assert train("run")[0] == died
    assert "resumed" not in capsys.readouterr().out
    assert steps(tmp_path / "run") == list(range(STEPS + 1))


def test_a_state_that_is_ahead_of_the_lines_of_metrics_is_not_believed(train, died, tmp_path, capsys):
    metrics = tmp_path / "run" / "metrics.jsonl"
    metrics.write_text("".join(metrics.read_text().splitlines(keepends=True)[:3]))
    assert train("run")[0] == died
    assert "resumed" not in capsys.readouterr().out
    assert steps(tmp_path / "run") == list(range(STEPS + 1))


def test_the_state_of_a_run_with_other_options_is_not_believed(train, died, tmp_path, capsys):
    (other, _) = train("run", l2=1e-1)
    assert other != died
    assert "resumed" not in capsys.readouterr().out


@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: b"", lambda content: b"\0" * 100])
def test_a_damaged_state_is_as_good_as_none(train, died, memory, capsys, damage):
    path = kept(memory)
    path.write_bytes(damage(path.read_bytes()))
    assert train("run")[0] == died
    assert "resumed" not in capsys.readouterr().out


def test_a_memory_that_takes_nothing_costs_nothing(train, memory):
    whole, _ = train("whole", warm=False)
    memory.chmod(0o500)
    (memory / f"distsoftmax-{os.geteuid()}").write_text("in the way")
    assert train("run")[0] == whole
