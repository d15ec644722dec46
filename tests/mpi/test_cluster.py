import numpy as np
import pytest
from communicator_contract import CHECKS

from distsoftmax.arithmetic import library
from distsoftmax.cluster.assignment import owned_shards
from distsoftmax.cluster.control import Lap, commit
from distsoftmax.cluster.exact_sum import ShardSum, exact_sum
from distsoftmax.cluster.startup import load_core
from distsoftmax.errors import CoreError, InputError, ReplicaMismatch

pytestmark = pytest.mark.mpi


def partials(n_shards, shape):
    generator = np.random.default_rng(5)
    return generator.standard_normal((n_shards, *shape)) * 10.0 ** generator.uniform(-200, 200, (n_shards, *shape))


@pytest.mark.parametrize("n_shards", [1, 2, 7, 64])
def test_an_exact_sum_has_the_same_bits_on_any_number_of_ranks(cluster, alone, n_shards):
    values = partials(n_shards, (3, 4))
    own = [ShardSum(shard, values[shard]) for shard in owned_shards(cluster.rank, cluster.size, n_shards)]
    together = exact_sum(own, (3, 4), n_shards, cluster)
    by_one = exact_sum([ShardSum(shard, partial) for shard, partial in enumerate(values)], (3, 4), n_shards, alone)
    assert together.tobytes() == by_one.tobytes()


def test_a_shard_that_is_not_finite_is_named_on_every_rank(cluster):
    own = [ShardSum(cluster.rank, np.array(np.nan if cluster.rank == cluster.size - 1 else 1.0))]
    with pytest.raises(InputError, match=f"shard {cluster.size - 1}:") as raised:
        exact_sum(own, (), cluster.size, cluster)
    assert raised.value.agreed


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_ranks_of_a_job_keep_the_contract_of_communicators(cluster, check):
    check(cluster)


def message(cluster, parameters, **changes):
    out_of_time = changes.pop("out_of_time", False)
    lap = Lap(seconds=2.0, compute_seconds=1.0 + cluster.rank, communication_seconds=0.5, out_of_time=out_of_time)
    return commit(cluster, parameters, lap, **changes)


def test_what_is_larger_than_a_message_arrives_whole(cluster, monkeypatch):
    monkeypatch.setattr("distsoftmax.cluster.mpi.LARGEST_MESSAGE", 3)
    for content in (b"", b"!", b"0123456789"):
        assert cluster.broadcast_bytes(content) == content
        assert cluster.alltoall([content] * cluster.size) == [content] * cluster.size
        received = list(cluster.in_rank_order(content))
        assert received == ([content] * cluster.size if cluster.rank == 0 else [])


def test_a_signal_on_any_rank_is_known_to_all(cluster):
    for rank in range(cluster.size):
        assert message(cluster, np.ones(3), signal=15 if cluster.rank == rank else 0).signal == 15
    assert message(cluster, np.ones(3)).signal == 0


def test_a_clock_that_has_run_out_on_any_rank_ends_the_run_on_all(cluster):
    for rank in range(cluster.size):
        verdict = message(cluster, np.ones(3), out_of_time=cluster.rank == rank)
        assert verdict.interrupted
        assert not verdict.signal
    assert not message(cluster, np.ones(3)).interrupted


def test_a_failure_of_rank_0_is_known_to_all(cluster):
    assert message(cluster, np.ones(3), failed=cluster.rank == 0).failed


def test_the_seconds_of_each_rank_are_known_to_all(cluster):
    verdict = message(cluster, np.ones(3))
    assert list(verdict.compute_seconds) == [1.0 + rank for rank in range(cluster.size)]


@pytest.mark.mpi(min_size=2)
def test_a_replica_off_by_one_bit_is_an_error_on_every_rank(cluster):
    parameters = np.ones((4, 5))
    odd = cluster.size - 1
    if cluster.rank == odd:
        parameters[2, 3] = np.nextafter(1.0, 2.0)
    with pytest.raises(ReplicaMismatch, match=f"rank {odd}"):
        message(cluster, parameters)


@pytest.mark.mpi(min_size=2)
def test_ranks_of_unequal_instruction_sets_just_run(cluster, monkeypatch):
    if cluster.rank == 1:
        monkeypatch.setattr(library, "describe", lambda: "arithmetic 1 on another processor")
    load_core(cluster)


@pytest.mark.mpi(min_size=2)
def test_ranks_of_unequal_arithmetic_versions_are_refused_on_each(cluster, monkeypatch):
    library.core()  # of the one version; later the number alone is another
    if cluster.rank == 1:
        monkeypatch.setattr(library, "VERSION", library.VERSION + 1)
    with pytest.raises(CoreError, match=r"rank [01] computes with .*one version of distsoftmax on all nodes"):
        load_core(cluster)
