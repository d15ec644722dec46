"""The loop in process: how a run ends, what it writes, and how it goes on. No MPI; `tests/jobs` has whole commands."""

import json
import math
import re
from datetime import datetime, timezone

import numpy as np
import pytest
from in_process import signals_with
from ranks import on_ranks

from distsoftmax.cluster.communicator import Alone
from distsoftmax.cluster.control import TimeUp
from distsoftmax.config import DataConfig, ObjectiveConfig, RunConfig, SolverConfig, TrainConfig
from distsoftmax.coordinator.coordinator import Coordinator
from distsoftmax.errors import InputError, Interrupted, OutputError
from distsoftmax.session import open_session
from distsoftmax.trainer import fit_and_save
from distsoftmax.training.result import Interruption


@pytest.fixture
def table(tmp_path):
    generator = np.random.default_rng(3)
    features = generator.standard_normal((90, 4))
    classes = (features @ [2, -1, 1, 0] + generator.logistic(size=90) > 0).astype(int)
    np.savez(tmp_path / "table.npz", X=features, y=classes)
    return str(tmp_path / "table.npz")


@pytest.fixture
def train(table, tmp_path):
    """Train on a cluster of one process, or on the one given; return what `fit` does."""

    def train(out, *, cluster=None, signal=0, run=None, valid=0.3, **solver):
        config = TrainConfig(
            data=DataConfig(data=(table,), valid_fraction=valid, shards=4),
            objective=ObjectiveConfig(l2=1e-3),
            solver=SolverConfig(**{"solver": "gradient-descent", "tolerance": 0.0, **solver}),
            run=RunConfig(out=str(tmp_path / out), progress="never", threads=1, **(run or {})),
        )
        cluster = cluster or Alone()
        with Coordinator(config, cluster) as coordinator:
            session = open_session(config, cluster, signals_with(0), coordinator)
            session.signals.received = signal
            return fit_and_save(config, coordinator, session)[0]

    return train


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def steps_saved(folder):
    return sorted(int(path.stem.split("-")[1]) for path in (folder / "checkpoints").iterdir())


def test_a_signal_on_one_rank_ends_the_reading_on_all(table, tmp_path):
    config = TrainConfig(data=DataConfig(data=(table,), shards=9), run=RunConfig(out=str(tmp_path / "out")))

    def work(rank):
        with Coordinator(config, rank) as coordinator:
            return open_session(config, rank, signals_with(15 if rank.rank == 1 else 0), coordinator)

    for ended in on_ranks(3, work):
        assert isinstance(ended, Interrupted)
        assert (ended.exit_status, ended.agreed) == (75, True)
        assert (
            str(ended) == "stopped by SIGTERM while the data were read; nothing was saved: the same command starts anew"
        )
    assert not (tmp_path / "out").exists()


def test_a_signal_saves_scores_the_held_out_samples_and_the_run_goes_on_with_the_same_bits(train, tmp_path):
    whole = train("whole", max_steps=12)
    train("cut", max_steps=5, run={"evaluate_every": 0})
    ended = train("cut", max_steps=12, signal=15, run={"evaluate_every": 0})
    assert ended == Interruption(5, 15)
    assert "held_out_log_loss" in lines(tmp_path / "cut")[-1]
    assert "model_step" not in lines(tmp_path / "cut")[-1]
    assert steps_saved(tmp_path / "cut") == [5]
    resumed = train("cut", max_steps=12)
    assert resumed.parameters.tobytes() == whole.parameters.tobytes()
    assert [line["step"] for line in lines(tmp_path / "cut")] == list(range(13))


def test_a_run_that_ends_by_itself_has_a_result_though_a_signal_came_with_its_last_step(train):
    assert train("run", max_steps=0, signal=15).reason == "the limit of 0 steps is reached"


def test_however_little_time_there_is_a_process_takes_a_step(train):
    ended = [train("run", max_steps=9, max_seconds=1e-9) for _ in range(3)]
    assert ended == [Interruption(n, 0, TimeUp.MAX_SECONDS) for n in (1, 2, 3)]


@pytest.mark.parametrize(
    ("every", "measured"), [(0, [10]), (1, list(range(11))), (3, [0, 3, 6, 9, 10]), (5, [0, 5, 10])]
)
def test_held_out_samples_are_looked_at_as_often_as_asked_and_at_the_end(train, tmp_path, every, measured):
    train("run", max_steps=10, run={"evaluate_every": every})
    assert [line["step"] for line in lines(tmp_path / "run") if "held_out_accuracy" in line] == measured


def test_the_last_line_of_metrics_says_what_the_result_does(train, tmp_path):
    result = train("run", max_steps=7, patience=2, run={"evaluate_every": 2})
    last = lines(tmp_path / "run")[-1]
    assert (last["step"], last["model_step"]) == (7, result.step)
    assert (last["objective"], last["certified_gap"]) == (result.objective, result.gap)


def test_each_line_of_metrics_has_the_time_of_day(train, tmp_path):
    before = datetime.now(timezone.utc).replace(microsecond=0)
    train("run", max_steps=5)
    times = [line["time"] for line in lines(tmp_path / "run")]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text) for text in times)
    moments = [datetime.fromisoformat(text.replace("Z", "+00:00")) for text in times]
    assert before <= moments[0]
    assert moments == sorted(moments)


def test_ranks_agree_and_rank_0_alone_writes(train, tmp_path):
    alone = train("alone", max_steps=8)
    results = on_ranks(3, lambda rank: train("together", cluster=rank, max_steps=8))
    assert {result.parameters.tobytes() for result in results} == {alone.parameters.tobytes()}
    assert [line["step"] for line in lines(tmp_path / "together")] == list(range(9))


def test_a_save_that_fails_ends_every_rank_after_the_next_control_message(train, tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise OutputError("the disk is full")

    monkeypatch.setattr("distsoftmax.coordinator.coordinator.save_checkpoint", fail)
    run = {"checkpoint_every": 3}
    outcomes = on_ranks(3, lambda rank: train("run", cluster=rank, max_steps=50, run=run))
    assert [str(error) for error in outcomes] == ["the disk is full"] * 3
    assert lines(tmp_path / "run")[-1]["step"] < 50  # the first save is due before the first step


def test_a_run_that_was_resumed_without_its_first_model_still_knows_it(train, tmp_path):
    train("model", max_steps=3)
    start = tmp_path / "model" / "model.safetensors"
    train("run", init=str(start), max_steps=2)
    content = start.read_bytes()
    start.unlink()
    train("run", init=str(start), max_steps=4)
    start.write_bytes(content)
    assert train("run", init=str(start), max_steps=6).n_steps == 6
    train("model", max_steps=5)
    with pytest.raises(InputError, match="--init was a model with sha256 .* now it is a model with sha256"):
        train("run", init=str(start), max_steps=8)


def test_without_held_out_samples_none_are_scored(train, tmp_path):
    result = train("run", max_steps=4, valid=0.0)
    assert result.held_out is None
    assert not any("held_out_accuracy" in line for line in lines(tmp_path / "run"))
    assert all(math.isfinite(line["objective"]) for line in lines(tmp_path / "run"))
