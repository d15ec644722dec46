"""Ranks die in the midst of training, at any of their collective calls: the survivors end with the same bits."""

import json
import random
import signal
import zlib
from functools import partial

import numpy as np
import pytest
from in_process import signals_with, trained
from mortal_ranks import Killed, on_mortal_ranks

from distsoftmax.cluster.survival import surviving
from distsoftmax.config import DataConfig, ObjectiveConfig, RunConfig, SolverConfig, TrainConfig
from distsoftmax.coordinator.checkpoint import checkpoint_paths, load_checkpoint
from distsoftmax.coordinator.coordinator import Coordinator
from distsoftmax.errors import RanksLost
from distsoftmax.session import open_session
from distsoftmax.trainer import fit_and_save
from distsoftmax.training.result import Interruption

RANKS = 3
SOLVERS = {
    "gradient-descent": {"solver": "gradient-descent", "max_steps": 6},
    "patience": {"solver": "gradient-descent", "max_steps": 12, "learning_rate": 3.0, "patience": 2},
    "lbfgs": {"solver": "lbfgs", "max_steps": 6},
    "trust-region": {"solver": "trust-region", "max_steps": 4},
    "sgd": {"solver": "sgd", "epochs": 2, "batch": 20},
}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    generator = np.random.default_rng(3)
    features = generator.standard_normal((120, 4))
    classes = (features @ [2, -1, 1, 0] + generator.logistic(size=120) > 0).astype(int)
    path = tmp_path_factory.mktemp("data") / "table.npz"
    np.savez(path, X=features, y=classes)
    return str(path)


def configuration(table, folder, solver):
    return TrainConfig(
        data=DataConfig(data=(table,), valid_fraction=0.3, shards=5),
        objective=ObjectiveConfig(l2=1e-3),
        solver=SolverConfig(**{"tolerance": 0.0, **SOLVERS[solver]}),
        run=RunConfig(out=str(folder), progress="never", threads=1, evaluate_every=2, checkpoint_every=2),
    )


def training(table, folder, solver):
    """A function that trains on a rank, and returns the model's digest."""
    return partial(trained, configuration(table, folder, solver))


@pytest.fixture(scope="module")
def whole(table, tmp_path_factory):
    """What a run without losses comes to: the model's digest, the metrics, and the calls that each rank makes."""
    known = {}

    def whole(solver):
        if solver not in known:
            folder = tmp_path_factory.mktemp("whole")
            outcomes, calls = on_mortal_ranks(RANKS, training(table, folder, solver), {})
            assert len(set(outcomes)) == 1, outcomes
            known[solver] = outcomes[0], metrics(folder), calls
        return known[solver]

    return whole


def metrics(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    timed = ("time", "seconds", "samples_per_second", "compute_seconds", "communication_seconds", "cluster")
    return [{name: value for name, value in line.items() if not name.endswith(timed)} for line in lines]


@pytest.mark.sweep(30)
@pytest.mark.parametrize("number", range(600))
def test_ranks_that_die_at_any_call_change_neither_the_model_nor_a_line_of_metrics(table, whole, tmp_path, number):
    chance = random.Random(number)
    solver = chance.choice(list(SOLVERS))
    sha256, lines, calls = whole(solver)
    dead = chance.sample(range(RANKS), chance.choice([1, 1, 2]))
    dooms = {rank: (chance.randint(1, calls[rank]), chance.random() < 0.5) for rank in dead}
    outcomes, _ = on_mortal_ranks(
        RANKS,
        training(table, tmp_path, solver),
        dooms,
        hears=lambda rank: ("well", "lost", "wrong")[zlib.crc32(f"{number} {rank}".encode()) % 3],
    )
    died = {rank for rank, outcome in enumerate(outcomes) if isinstance(outcome, Killed)}
    assert died == set(dead), outcomes
    assert {outcome for rank, outcome in enumerate(outcomes) if rank not in died} == {sha256}
    assert metrics(tmp_path) == lines
    for path in checkpoint_paths(tmp_path / "checkpoints"):
        load_checkpoint(path)


def test_a_signal_that_comes_with_a_loss_is_obeyed_after_the_repair_by_a_save(table, tmp_path):
    config = configuration(table, tmp_path, "gradient-descent")

    def train(cluster):
        signals = signals_with(0)
        with surviving(cluster, lambda: Coordinator(config, cluster)) as coordinator:
            session = surviving(cluster, lambda: open_session(config, cluster, signals, coordinator))
            signals.received = signal.SIGTERM
            if cluster.rank == 2:
                cluster.job.dooms[2] = cluster.n_calls + 1, False
            return fit_and_save(config, coordinator, session)[0]

    outcomes, _ = on_mortal_ranks(RANKS, train, {})
    assert outcomes[:2] == 2 * [Interruption(0, signal.SIGTERM)]
    assert [path.name for path in checkpoint_paths(tmp_path / "checkpoints")] == ["step-0000000000.safetensors"]


def test_calls_that_fail_although_no_rank_is_lost_end_the_job():
    def fail():
        raise RanksLost("seen, but not there").on_all_ranks()

    outcomes, _ = on_mortal_ranks(2, lambda cluster: surviving(cluster, fail), {})
    assert all(isinstance(outcome, RanksLost) for outcome in outcomes)
