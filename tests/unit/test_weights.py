"""The weights of --balance weighted, by a file of hosts or by a probe, and what ranks read by them."""

import os
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from in_process import trained
from ranks import on_ranks

from distsoftmax.cluster.assignment import weighted_runs
from distsoftmax.cluster.communicator import Alone
from distsoftmax.cluster.weights import choose_weights, probe, read_weights, weights_of_ranks
from distsoftmax.config import DataConfig, RunConfig, SolverConfig, TrainConfig
from distsoftmax.data.dataset import load_dataset
from distsoftmax.data.shards import shard_bounds
from distsoftmax.errors import InputError


@pytest.fixture
def write(tmp_path):
    def write(content):
        path = tmp_path / "weights.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def refusal(path, hosts=("a", "b", "b")):
    with pytest.raises(InputError) as caught:
        weights_of_ranks(path, hosts)
    return str(caught.value)


def test_the_ranks_of_a_host_share_its_weight(write):
    path = write("# of the old rack\na 1.5\n\n  b\t3   # twice as fast\n")
    assert weights_of_ranks(path, ["a", "b", "b"]) == ([1.5, 1.5, 1.5], "")
    assert weights_of_ranks(path, ["b", "a", "b", "b"]) == ([1.0, 1.5, 1.0, 1.0], "")


@pytest.mark.parametrize(
    ("in_file", "of_job", "is_same"),
    [
        ("node1", "node1.cluster.example", True),
        ("node1.cluster.example", "node1", True),
        ("node1.here", "node1.there", False),
        ("node1", "node11", False),
        ("node1", "node1", True),
    ],
)
def test_a_host_is_known_with_its_domain_or_without(write, in_file, of_job, is_same):
    path = write(f"{in_file} 2\n")
    if is_same:
        assert weights_of_ranks(path, [of_job]) == ([2.0], "")
    else:
        assert f"no line has the weight of {of_job}, and rank 0 runs there" in refusal(path, [of_job])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a 1\n", "no line has the weight of b, and ranks 1, 2 run there; add one, as in b 1"),
        ("a 1\nb 1\nc 1\nd 1\n", "line 3: no rank runs on c, d; the job has a, b. Correct the name, or take the line"),
        ("a 1\nb 0\n", "line 2: the weight of b is 0; it must be a number from 1e-06 to 1e+06"),
        ("a 1\nb -2\n", "line 2: the weight of b is -2; it must be a number"),
        ("a 1\nb nan\n", "line 2: the weight of b is nan; it must be a number"),
        ("a 1\nb inf\n", "line 2: the weight of b is inf; it must be a number"),
        ("a 1\nb fast\n", "line 2: the weight of b is fast; it must be a number"),
        ("a 1\nb\n", "line 2: 'b' is not a host and its weight; write them as in node1 2"),
        ("a 1\nb 1 2\n", "line 2: 'b 1 2' is not a host and its weight"),
        ("a 1\nb 1\n\na 2\n", "line 4: a has a weight in line 1 already; keep one of them"),
        ("# a 1\n", "holds no weights; write a host and its weight on each line"),
        ("", "holds no weights"),
        (b"a \xff\n", "is not text; write a host and its weight on each line"),
    ],
    ids=str,
)
def test_weights_that_do_not_fit_are_refused_with_the_line_and_the_remedy(write, content, message):
    path = write(content)
    text = refusal(path)
    assert message in text
    assert path in text
    assert "\n" not in text


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    text = refusal(str(tmp_path / "absent"))
    assert "absent: cannot be read: No such file or directory; name a file with a host" in text
    assert "(a column of sample weights is --weight)" in text


def test_a_job_that_is_started_again_may_lack_hosts(write):
    path = write("a 1\nb 2\ngone 1\n")
    weights, note = weights_of_ranks(path, ["a", "b", "b"], may_lack=True)
    assert weights == [1.0, 1.0, 1.0]
    assert "line 3: no rank runs on gone" in note


@settings(max_examples=20)
@given(st.dictionaries(st.from_regex(r"[a-z][a-z0-9.-]{0,8}", fullmatch=True), st.floats(1e-6, 1e6), min_size=1))
def test_a_file_reads_back(tmp_path_factory, weights):
    path = tmp_path_factory.getbasetemp() / "weights.txt"
    path.write_text("".join(f"{host} {weight!r}\n" for host, weight in weights.items()))
    assert {host: line.weight for host, line in read_weights(str(path)).items()} == weights


def test_only_the_weighted_policy_has_weights():
    for balance in ("contiguous", "round-robin", "dynamic"):
        assert choose_weights(RunConfig(balance=balance), 1, Alone()) is None


def test_every_rank_learns_the_same_weights_of_the_file_that_rank_0_reads(write):
    config = RunConfig(balance="weighted", weights=write(f"{os.uname().nodename} 6\n"))
    for weights in on_ranks(3, lambda rank: choose_weights(config, 1, rank)):
        assert weights.tolist() == [2.0, 2.0, 2.0]
    config = RunConfig(balance="weighted", weights=write("elsewhere 6\n"))
    for error in on_ranks(2, lambda rank: choose_weights(config, 1, rank)):
        assert isinstance(error, InputError)
        assert error.agreed


def test_a_probe_measures_every_rank_in_a_tenth_of_a_second():
    first, *others = on_ranks(3, lambda rank: choose_weights(RunConfig(balance="weighted"), 1, rank))
    assert first.shape == (3,)
    assert (first > 0).all()
    assert all((weights == first).all() for weights in others)
    start = time.process_time()
    assert probe(2) > 0
    assert time.process_time() - start < 1


def shards_of(datasets):
    return [dataset.training.store.numbers for dataset in datasets]


def test_ranks_read_by_weight_what_they_read_without_from_every_start(table, tmp_path):
    config = DataConfig(data=(str(table),), label="kind", valid=(str(table),), shards=11)
    weights = np.array([1.0, 4.0, 0.8])
    expected = [list(run) for run in weighted_runs(np.diff(shard_bounds(300, 11)), weights)]
    even = on_ranks(3, lambda rank: load_dataset(config, True, rank))
    assert shards_of(even) != expected
    for _ in range(2):  # the second start finds the samples in scratch
        datasets = on_ranks(3, lambda rank: load_dataset(config, True, rank, warm=tmp_path, weights=weights))
        assert shards_of(datasets) == expected
        assert [dataset.stores[1].numbers for dataset in datasets] == expected
        for dataset in datasets:
            assert np.array_equal(dataset.shard_digests, even[0].shard_digests)
            assert np.array_equal(dataset.held_out_digests, even[0].held_out_digests)


def test_no_policy_changes_a_bit_of_the_model(table, tmp_path, write):
    digests = set()
    for number, options in enumerate(
        [
            {"balance": "contiguous"},
            {"balance": "weighted", "weights": write(f"{os.uname().nodename} 2\n")},
            {"balance": "weighted"},
            {"balance": "dynamic"},
        ]
    ):
        config = TrainConfig(
            data=DataConfig(data=(str(table),), label="kind", shards=7),
            solver=SolverConfig(max_steps=3),
            run=RunConfig(out=str(tmp_path / str(number)), timeout=0, **options),
        )
        digests.update(on_ranks(3, lambda rank, config=config: trained(config, rank)))
    assert len(digests) == 1
    assert all(isinstance(digest, str) for digest in digests)


def test_a_resume_may_change_the_policy(table, tmp_path):
    steps = [("dynamic", 2, 3), ("weighted", 4, 2), ("contiguous", 6, 1)]
    for balance, max_steps, ranks in steps:
        config = TrainConfig(
            data=DataConfig(data=(str(table),), label="kind", shards=7),
            solver=SolverConfig(max_steps=max_steps),
            run=RunConfig(out=str(tmp_path / "run"), timeout=0, balance=balance),
        )
        resumed = on_ranks(ranks, lambda rank, config=config: trained(config, rank))
        assert all(isinstance(digest, str) for digest in resumed), resumed
    whole = TrainConfig(data=config.data, solver=config.solver, run=RunConfig(out=str(tmp_path / "whole"), timeout=0))
    assert trained(whole, Alone()) == resumed[0]
