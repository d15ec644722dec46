"""Shards that move from rank to rank in mid-run: neither the model nor a line of metrics changes by a bit."""

import json
import math
import random
import tempfile
import weakref
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from in_process import signals_with
from mortal_ranks import Killed, on_mortal_ranks
from ranks import on_ranks
from test_warm_data import KINDS, assert_same, load, shards_of, together, write_source

from distsoftmax import regularization_path
from distsoftmax.cluster.survival import surviving
from distsoftmax.config import DataConfig, ObjectiveConfig, RunConfig, SolverConfig, TrainConfig
from distsoftmax.coordinator.coordinator import Coordinator
from distsoftmax.data import moving
from distsoftmax.data.dataset import take_over
from distsoftmax.data.moving import in_proportion, move_shards, rounds
from distsoftmax.data.source import Source
from distsoftmax.data.spool import Spool
from distsoftmax.errors import OutputError
from distsoftmax.objective import preconditioners
from distsoftmax.session import Session, open_session
from distsoftmax.trainer import fit_and_save
from distsoftmax.training import balancing
from distsoftmax.training.signals import StopSignals

SHARDS = 11


def assignment_of(seed, n_shards, n_ranks):
    """Shards dealt out at random among some of the ranks, or all of them."""
    chance = random.Random(seed)
    takers = chance.sample(range(n_ranks), chance.randint(1, n_ranks))
    owners = [chance.choice(takers) for _ in range(n_shards)]
    return tuple(tuple(shard for shard in range(n_shards) if owners[shard] == rank) for rank in range(n_ranks))


# --- what a rank holds ---


def moves(datasets, wanted, config, warm=None):
    folders = warm if isinstance(warm, list) else [warm] * len(datasets)
    return together(
        on_ranks(
            len(datasets),
            lambda rank: move_shards(datasets[rank.rank], wanted, config, rank, warm=folders[rank.rank]),
        )
    )


@pytest.fixture
def readings(monkeypatch):
    """The shards that are read from here on."""
    seen, read = [], Source.read
    monkeypatch.setattr(Source, "read", lambda source, shard: seen.append(shard) or read(source, shard))
    return seen


@pytest.fixture
def config(tmp_path, request):
    return DataConfig(**write_source(tmp_path / "source", getattr(request, "param", "valid")), shards=SHARDS)


def held_by(datasets):
    return tuple(tuple(dataset.training.store.numbers) for dataset in datasets)


@pytest.mark.parametrize("config", KINDS, indirect=True)
def test_shards_arrive_as_they_were_each_is_held_once_and_nothing_is_read(config, readings):
    cold = datasets = load(config, 3)
    before = [shards_of([dataset], "training") for dataset in cold]
    readings.clear()
    for wanted in (*(assignment_of(seed, SHARDS, 3) for seed in range(3)), ((), tuple(range(SHARDS)), ())):
        datasets = moves(datasets, wanted, config)
        assert_same(datasets, cold)
        assert held_by(datasets) == wanted
    assert readings == []
    assert before == [shards_of([dataset], "training") for dataset in cold]  # the old ones stay


def test_held_out_samples_go_along_in_proportion(config):
    (_, few, many) = moves(load(config, 3), ((), (0, 1), tuple(range(2, SHARDS))), config)
    assert [len(list(dataset.held_out)) for dataset in (few, many)] == [2, 9]


@given(st.lists(st.integers(0, 4), max_size=30), st.lists(st.integers(0, 9), min_size=5, max_size=5).filter(any))
def test_as_few_shards_as_can_be_change_hands_for_a_proportion(holders, counts):
    receivers = in_proportion(np.array(holders, dtype=np.int64), counts)
    had, has = (np.bincount(of, minlength=5) for of in (np.array(holders, dtype=np.int64), receivers))
    assert np.abs(has - np.array(counts) * len(holders) / sum(counts)).max() < 1
    assert np.count_nonzero(receivers != holders) == np.maximum(has - had, 0).sum()


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=40))
def test_in_a_round_no_rank_sends_or_receives_more_than_one_shard_and_none_is_forgotten(ways):
    wanted = [moving.Move(shard, *way) for shard, way in enumerate(ways)]
    divided = list(rounds(wanted))
    for of_round in divided:
        for end in ("sender", "receiver"):
            ranks = [getattr(move, end) for move in of_round]
            assert len(set(ranks)) == len(ranks) > 0
    assert sorted((move for of_round in divided for move in of_round), key=lambda move: move.shard) == wanted


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def test_what_arrives_damaged_is_not_believed_but_read_again(config, readings, monkeypatch):
    cold = load(config, 2)
    wanted = (tuple(range(3)), tuple(range(3, SHARDS)))
    content_of = moving.content_of
    monkeypatch.setattr(
        moving,
        "content_of",
        lambda shard, digest: (
            [flipped(b"".join(content_of(shard, digest)))] if shard.number == 4 else content_of(shard, digest)
        ),
    )
    readings.clear()
    datasets = moves(cold, wanted, config)
    assert readings == [4, 4]  # of --data and of --valid
    assert held_by(datasets) == wanted
    assert_same(datasets, cold)


def test_the_bytes_that_ranks_hold_go_with_the_shards(config):
    cold = load(config, 2)
    sizes = [dataset.bytes_held for dataset in cold]
    datasets = moves(cold, ((), tuple(range(SHARDS))), config)
    assert [dataset.bytes_held for dataset in datasets] == [0, sum(sizes)]


@pytest.mark.parametrize("config", ["table", "valid"], indirect=True)
def test_a_memory_bound_holds_and_the_rest_goes_to_scratch(config, tmp_path):
    bounded = DataConfig(**{**vars(config), "memory": "2500", "shards": 40, "scratch": str(tmp_path)})
    cold = load(bounded, 3)
    wanted = ((), tuple(range(40)), ())
    datasets = moves(cold, wanted, bounded)
    assert datasets[1].bytes_held <= 2500
    assert [dataset.bytes_held for dataset in datasets[::2]] == [0, 0]
    total = sum(dataset.bytes_held + dataset.bytes_spooled for dataset in cold)
    assert datasets[1].bytes_held + datasets[1].bytes_spooled == total
    for portion in ("training", "held_out"):
        assert shards_of(datasets, portion) == shards_of(cold, portion)
    back = moves(datasets, tuple(held_by(cold)), bounded)
    assert held_by(back) == held_by(cold)
    assert all(dataset.bytes_held <= 2500 for dataset in back)


def test_on_one_node_with_warm_scratch_nothing_travels(config, tmp_path, readings, monkeypatch):
    warm = tmp_path / "warm"
    warm.mkdir()
    cold = load(config, 3, warm)
    readings.clear()
    monkeypatch.setattr(moving, "content_of", None)  # nothing is made ready to be sent
    datasets = moves(cold, assignment_of(1, SHARDS, 3), config, warm)
    assert_same(datasets, cold)
    assert readings == []


def test_what_comes_from_another_node_is_kept_there_for_a_restart(config, tmp_path, readings):
    nodes = [tmp_path / "node0", tmp_path / "node1"]
    for folder in nodes:
        folder.mkdir()
    cold = load(config, 2, nodes)
    readings.clear()
    datasets = moves(cold, ((), tuple(range(SHARDS))), config, nodes)
    assert_same(datasets, cold)
    assert_same(load(config, 1, nodes[1]), cold)
    assert readings == []


@given(st.lists(st.integers(0, 2), min_size=4, max_size=4), st.integers(0, 3))
@settings(max_examples=12)
def test_survivors_of_which_some_hold_what_was_before_a_move_and_some_what_was_after_hold_each_shard_once(
    several, which, lost
):
    config, *stages = several
    ranks = [rank for rank in range(4) if rank != lost]
    left = [stages[which[rank]][rank] for rank in ranks]
    taken = together(on_ranks(3, lambda rank: take_over(left[rank.rank], config, rank)))
    assert_same(taken, stages[0])
    kept = [set(before.training.store.numbers) for before in left]
    now = [set(after.training.store.numbers) for after in taken]
    for rank, own in enumerate(kept):  # the first holder keeps a shard
        assert now[rank] >= own.difference(*kept[:rank])


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """The options of a source, and what four ranks hold of it before, between and after two moves."""
    config = DataConfig(**write_source(tmp_path_factory.mktemp("several") / "source", "valid"), shards=SHARDS)
    first = load(config, 4)
    second = moves(first, assignment_of(5, SHARDS, 4), config)
    return config, first, second, moves(second, assignment_of(6, SHARDS, 4), config)


# --- whole runs ---

RUNS = {  # the data, the objective, the solver, and more
    "accelerated": ("dense", {}, {"solver": "gradient-descent"}, {}),
    "momentum": ("fraction", {}, {"solver": "gradient-descent", "learning_rate": 0.1, "momentum": 0.9}, {}),
    "patience": ("valid", {"l2": 1e-3}, {"solver": "gradient-descent", "learning_rate": 3.0, "patience": 2}, {}),
    "lbfgs": ("table", {"l2": 1e-3}, {"solver": "lbfgs"}, {}),
    "proximal": ("sparse", {"l1": 1e-3, "group": 1e-3}, {"solver": "lbfgs"}, {}),
    "trust-region": ("valid", {"l2": 1e-3}, {"solver": "trust-region"}, {}),
    "trust-region of sparse rows": ("sparse-valid", {"l2": 1e-3}, {"solver": "trust-region"}, {}),
    "sgd": ("table", {}, {"solver": "sgd", "epochs": 2, "batch": 13, "momentum": 0.5, "average": True}, {}),
    "sgd of sparse rows": ("svmlight", {}, {"solver": "sgd", "epochs": 2, "batch": 20}, {}),
    "certified": ("uint8", {"l2": 1e-2}, {"solver": "lbfgs", "tolerance": 1e-6, "max_steps": 40}, {}),
    "scratch": ("valid", {"l2": 1e-3}, {"solver": "lbfgs"}, {"memory": "2500", "shards": 40}),
    "path": ("fraction", {"l2_path": "1e-1:1e-3:3"}, {"solver": "lbfgs", "max_steps": 4}, {}),
}
seeds = st.dictionaries(st.integers(0, 7), st.integers(0, 2**20), max_size=4)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    return {kind: write_source(folder / kind, kind) for kind, *_ in RUNS.values()}


def configuration(sources, run, folder, threads=1):
    kind, objective, solver, data = RUNS[run]
    return TrainConfig(
        data=DataConfig(**{"shards": SHARDS, **sources[kind], **data}),
        objective=ObjectiveConfig(**objective),
        solver=SolverConfig(**{"tolerance": 0.0, "max_steps": 8, **solver}),
        run=RunConfig(out=str(folder), progress="never", threads=threads, evaluate_every=2, balance="dynamic"),
    )


def policy(schedule):
    """What stands for `Balancer`: proposes assignments, each at its step; for a number the one drawn by it."""

    class Scheduled:
        def __init__(self, costs, assignment):
            self.assignment, self.step = assignment, -1
            assert sorted(shard for of_rank in assignment for shard in of_rank) == list(range(len(costs)))
            assert (costs > 0).all()

        def note(self, compute_seconds):
            self.step += 1
            assert compute_seconds.shape == (len(self.assignment),)

        def proposal(self, steps_left, seconds_per_shard, seconds_left):
            assert steps_left > 0 < seconds_per_shard
            if self.step not in schedule:
                return None
            n_shards = sum(map(len, self.assignment))
            wanted = schedule[self.step]
            if isinstance(wanted, int):
                wanted = assignment_of(wanted, n_shards, len(self.assignment))
            return wanted if wanted != self.assignment else None

        def moved(self, assignment):
            self.assignment = assignment

    return Scheduled


def trained(config, cluster, sessions=None):
    """Train, whichever ranks are lost, and return the model's digest; None of a path."""
    if config.objective.l2_path is not None:
        assert regularization_path.train_path(config, cluster) == 0
        return None
    with surviving(cluster, lambda: Coordinator(config, cluster)) as own:
        session = surviving(cluster, lambda: open_session(config, cluster, signals_with(0), own))
        if sessions is not None:
            sessions.append(session)
        return fit_and_save(config, own, session)[1]


def metrics(folder):
    """The lines of all runs in a folder, but for the times; and the models."""
    timed, found = ("time", "seconds", "samples_per_second", "cluster"), {}
    for path in sorted(folder.rglob("metrics.jsonl")):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        found[str(path.relative_to(folder))] = [
            {name: value for name, value in line.items() if not name.endswith(timed)} for line in lines
        ]
    for path in sorted(folder.rglob("*.safetensors")):
        if "checkpoints" not in path.parts:
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found


@pytest.fixture(autouse=True, scope="module")
def no_signals():
    """No thread but the main one may set handlers."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(regularization_path, "StopSignals", lambda cluster: signals_with(0))
        patched.setattr(StopSignals, "ignore", lambda signals: None)
        yield


@pytest.fixture(autouse=True, scope="module")
def many_steps():
    """A preconditioner that is fitted seldom: with the hessian itself runs end before most moves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preconditioners, "CALLS", 1)
        patch.setattr(preconditioners, "FEWEST_ROWS", 0)
        yield


@pytest.fixture(scope="module")
def whole(sources, tmp_path_factory):
    """What a run on one rank comes to, where no shard can move."""
    known = {}

    def whole(run):
        if run not in known:
            folder = tmp_path_factory.mktemp("whole")
            (sha256,) = together(on_ranks(1, lambda rank: trained(configuration(sources, run, folder), rank)))
            known[run] = sha256, metrics(folder)
        return known[run]

    return whole


@settings(max_examples=24)
@given(st.sampled_from(sorted(RUNS)), st.integers(2, 5), st.integers(1, 2), seeds)
@example("sgd", 3, 1, {0: 1, 1: 2, 4: 3, 11: 5})
@example("path", 2, 1, {0: 1, 2: 4, 3: 9})
def test_no_schedule_of_moves_changes_the_model_or_a_line_of_metrics(sources, whole, run, ranks, threads, schedule):
    expected = whole(run)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        patched.setattr(balancing, "Balancer", policy(schedule))
        patched.setattr(balancing, "LEAST_WAVES", 0)
        config = configuration(sources, run, Path(folder), threads)
        digests = together(on_ranks(ranks, lambda rank: trained(config, rank)))
        assert set(digests) == {expected[0]}
        assert metrics(Path(folder)) == expected[1]


@pytest.mark.parametrize(("threads", "shards", "moves"), [(1, 16, True), (2, 16, False), (2, 32, True)])
def test_shards_move_only_where_one_more_is_a_small_part_of_what_a_thread_does(tmp_path, threads, shards, moves):
    """Threads take whole shards: 17 for 16 threads would take them twice as long as 16."""
    config = DataConfig(**write_source(tmp_path, "valid"), shards=shards)
    datasets = load(config, 2)
    verdict = SimpleNamespace(compute_seconds=np.array([0.4, 0.1]), seconds_left=math.inf)

    def proposals(rank):
        watched = balancing.Balancing(datasets[rank.rank], rank, threads)
        return [watched.look(verdict, 1000) for _ in range(50)]

    first, second = together(on_ranks(2, proposals))
    assert first == second
    assert any(first) == moves


@pytest.mark.parametrize("run", ["lbfgs", "sgd", "sgd of sparse rows", "trust-region", "proximal"])
def test_what_was_given_away_leaves_the_memory_of_a_run_that_goes_on(sources, whole, tmp_path, monkeypatch, run):
    (_, expected), held, rebalance = whole(run), {}, Session.rebalance

    def watched(session, verdict, step, most_steps):
        store, rank = session.dataset.training.store, session.cluster.rank
        if step == 3:
            held[rank] = [weakref.ref(shard.training.features) for shard in store]
        rebalance(session, verdict, step, most_steps)
        if step == 5:
            assert store.numbers == list(range(SHARDS)) * rank
            held[rank] = [reference() is not None for reference in held[rank]]

    monkeypatch.setattr(Session, "rebalance", watched)
    monkeypatch.setattr(balancing, "Balancer", policy({3: ((), tuple(range(SHARDS)))}))
    together(on_ranks(2, lambda rank: trained(configuration(sources, run, tmp_path), rank)))
    assert held == {0: [False] * 5, 1: [True] * 6}
    assert metrics(tmp_path) == expected


def test_where_scratch_has_no_room_shards_stay_and_the_run_goes_on(sources, whole, tmp_path, monkeypatch, capsys):
    (sha256, expected), rebalance = whole("scratch"), Session.rebalance

    def full(spool, array):
        raise OutputError("--scratch: is full")

    def without_room(session, verdict, step, most_steps):
        if step == 2:
            monkeypatch.setattr(Spool, "keep", full)
        rebalance(session, verdict, step, most_steps)

    monkeypatch.setattr(Session, "rebalance", without_room)
    monkeypatch.setattr(balancing, "Balancer", policy({2: ((), tuple(range(40))), 4: ((), tuple(range(40)))}))
    sessions = []
    digests = together(on_ranks(2, lambda rank: trained(configuration(sources, "scratch", tmp_path), rank, sessions)))
    assert set(digests) == {sha256}
    assert metrics(tmp_path) == expected
    assert sorted(len(session.dataset.training.store.numbers) for session in sessions) == [20, 20]
    assert capsys.readouterr().out.count("note: shards stay where they are: --scratch: is full") == 1


def test_a_round_robin_start_changes_nothing_but_who_holds_what(sources, whole, tmp_path):
    config = configuration(sources, "lbfgs", tmp_path)
    config = TrainConfig(**{**vars(config), "run": RunConfig(**{**vars(config.run), "balance": "round-robin"})})
    sessions = []
    digests = together(on_ranks(3, lambda rank: trained(config, rank, sessions)))
    assert set(digests) == {whole("lbfgs")[0]}
    assert sorted(session.dataset.training.store.numbers for session in sessions) == [
        list(range(rank, SHARDS, 3)) for rank in range(3)
    ]


# --- ranks that die while shards move ---

MORTAL = 3
SCHEDULE = {1: 4, 2: 5, 4: 6}  # among them moves from and to every rank


def mortal_training(config, sessions):
    """A function that trains on a rank; its session is put into `sessions`, by the number it had at the start."""

    def train(cluster):
        own = []
        try:
            return trained(config, cluster, own)
        finally:
            sessions[cluster.own] = own[-1] if own else None

    return train


@pytest.fixture(scope="module")
def calls_of_moves(sources, tmp_path_factory):
    """For each rank the numbers of its collective calls in which shards move, when nobody dies."""
    known = {}

    def calls_of_moves(run):
        if run not in known:
            during = {rank: [] for rank in range(MORTAL)}
            move = Session.rebalance

            def rebalance(session, *arguments):
                first = session.cluster.n_calls + 1
                move(session, *arguments)
                during[session.cluster.own] += range(first, session.cluster.n_calls + 1)

            config = configuration(sources, run, tmp_path_factory.mktemp("calls"))
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(balancing, "Balancer", policy(SCHEDULE))
                patched.setattr(Session, "rebalance", rebalance)
                outcomes, _ = on_mortal_ranks(MORTAL, mortal_training(config, {}), {})
            assert len(set(outcomes)) == 1, outcomes
            assert len({len(numbers) for numbers in during.values()}) == 1
            assert len(during[0]) > 20
            known[run] = during
        return known[run]

    return calls_of_moves


@pytest.mark.sweep(25)
@pytest.mark.parametrize("number", range(400))
def test_a_rank_that_dies_while_shards_move_leaves_each_shard_with_one_and_the_bits_as_they_were(
    sources, whole, calls_of_moves, tmp_path, monkeypatch, number
):
    chance = random.Random(number)
    run = chance.choice(["patience", "lbfgs", "sgd", "trust-region of sparse rows"])
    during = calls_of_moves(run)
    dead = chance.sample(range(MORTAL), chance.choice([1, 1, 1, 2]))
    dooms = {rank: (chance.choice(during[rank]), chance.random() < 0.5) for rank in dead}
    monkeypatch.setattr(balancing, "Balancer", policy(SCHEDULE))
    sessions = {}
    outcomes, _ = on_mortal_ranks(
        MORTAL,
        mortal_training(configuration(sources, run, tmp_path), sessions),
        dooms,
        hears=lambda rank: ("well", "lost", "wrong")[zlib.crc32(f"{number} {rank}".encode()) % 3],
    )
    died = {rank for rank, outcome in enumerate(outcomes) if isinstance(outcome, Killed)}
    assert died == set(dead), outcomes
    assert {outcome for rank, outcome in enumerate(outcomes) if rank not in died} == {whole(run)[0]}
    assert metrics(tmp_path) == whole(run)[1]
    left = [sessions[rank].dataset for rank in range(MORTAL) if rank not in died]
    assert sorted(number for dataset in left for number in dataset.training.store.numbers) == list(range(SHARDS))
    if len(left[0].stores) > 1:
        numbers = sorted(number for dataset in left for number in dataset.stores[1].numbers)
        assert numbers == list(range(left[0].held_out_digests.size))
