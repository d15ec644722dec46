"""When a run goes on from the state that is kept in memory of it, and when not."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from in_process import keep_every_step_in

from distsoftmax import regularization_path, trainer
from distsoftmax.cluster.communicator import Alone
from distsoftmax.config import DataConfig, ObjectiveConfig, RunConfig, SolverConfig, TrainConfig


class Crash(Exception):
    """What ends a run without order."""


def crashing(n_commits):
    """The exchange of a step's control message, which fails after so many."""
    commit, left = trainer.commit, [n_commits]

    def crash_at_last(*arguments, **options):
        left[0] -= 1
        if left[0] < 0:
            raise Crash
        return commit(*arguments, **options)

    return crash_at_last


@pytest.fixture
def in_memory(tmp_path, monkeypatch):
    keep_every_step_in(tmp_path / "memory", monkeypatch)
    signals = SimpleNamespace(received=0, check=lambda what: None, ignore=lambda: None)
    for module in (trainer, regularization_path):
        monkeypatch.setattr(module, "StopSignals", lambda cluster: signals)


@pytest.mark.parametrize(
    ("words", "removed", "goes_on"),
    [({}, False, True), ({"resume": "never"}, False, False), ({"metrics_every": 10}, True, False)],
    ids=["auto", "never", "folder removed"],
)
def test_the_state_in_memory_is_used_where_the_run_is_to_go_on_and_its_folder_is_there(
    tmp_path, in_memory, monkeypatch, capsys, words, removed, goes_on
):
    generator = np.random.default_rng(3)
    features = generator.standard_normal((60, 4))
    np.savez(tmp_path / "table.npz", X=features, y=(features[:, 0] > 0).astype(int))
    config = TrainConfig(
        data=DataConfig(data=(str(tmp_path / "table.npz"),), shards=2, scratch=str(tmp_path)),
        objective=ObjectiveConfig(l2=1e-2),
        solver=SolverConfig(solver="gradient-descent", max_steps=5, tolerance=0.0),
        run=RunConfig(out=str(tmp_path / "run"), progress="never", threads=1, warm=True, **words),
    )
    with monkeypatch.context() as patched:
        patched.setattr(trainer, "commit", crashing(4))
        with pytest.raises(Crash):
            trainer.train(config, Alone())
    if removed:
        shutil.rmtree(tmp_path / "run")
    capsys.readouterr()
    assert trainer.train(config, Alone()) == 0
    assert ("state.safetensors, after step 3" in capsys.readouterr().out) == goes_on
    steps = [json.loads(line)["step"] for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert steps[0] == 0


def test_a_path_that_crashed_goes_on_from_the_state_in_memory_of_the_run_it_was_in(
    tmp_path, in_memory, monkeypatch, capsys
):
    generator = np.random.default_rng(3)
    features = generator.standard_normal((60, 4))
    np.savez(tmp_path / "table.npz", X=features, y=(features[:, 0] > 0).astype(int))
    config = TrainConfig(
        data=DataConfig(data=(str(tmp_path / "table.npz"),), shards=2, scratch=str(tmp_path)),
        objective=ObjectiveConfig(l2_path="1e-1:1e-3:2"),
        solver=SolverConfig(solver="gradient-descent", max_steps=5, tolerance=0.0),
        run=RunConfig(out=str(tmp_path / "run"), progress="never", threads=1, warm=True),
    )
    with monkeypatch.context() as patched:
        patched.setattr(trainer, "commit", crashing(6 + 4))  # in the second run, after its step 3
        with pytest.raises(Crash):
            regularization_path.train_path(config, Alone())
    capsys.readouterr()
    assert regularization_path.train_path(config, Alone()) == 0
    resumed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("resumed from")]
    assert "/state.safetensors, after step 3" in resumed[-1]
