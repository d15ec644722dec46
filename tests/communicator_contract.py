"""What every `Communicator` does: one suite for all of them. Each check is run on every rank of a job."""

import numpy as np
import pytest

from distsoftmax.errors import InputError, OutputError


def values_are_gathered_in_the_order_of_the_ranks(cluster):
    assert cluster.allgather(f"rank {cluster.rank}") == [f"rank {rank}" for rank in range(cluster.size)]


def each_rank_receives_what_every_rank_gives_it(cluster):
    received = cluster.alltoall([bytes([cluster.rank, rank]) * (5 * rank) for rank in range(cluster.size)])
    assert received == [bytes([rank, cluster.rank]) * (5 * cluster.rank) for rank in range(cluster.size)]


def the_value_of_rank_0_is_broadcast(cluster):
    assert cluster.broadcast({"from": cluster.rank}) == {"from": 0}


def bytes_of_any_rank_are_broadcast(cluster):
    for root in (0, cluster.size - 1):
        for size in (0, 1, 100_000):
            content = bytes(range(256)) * (size // 256) + b"!" * (size % 256)
            for other in (None, b"", b"other"):
                assert cluster.broadcast_bytes(content if cluster.rank == root else other, root) == content


def integers_are_summed_without_rounding(cluster):
    values = np.array([[2**53 + 1, -3], [cluster.rank, 2**60 // cluster.size]])
    cluster.sum_integers(values)
    size = cluster.size
    assert values.tolist() == [[size * (2**53 + 1), -3 * size], [size * (size - 1) // 2, size * (2**60 // size)]]


def the_largest_of_each_number_is_found(cluster):
    for dtype in (np.float64, np.int64):
        values = np.array([cluster.rank, -cluster.rank, 7], dtype=dtype)
        cluster.maximum(values)
        assert values.tolist() == [cluster.size - 1, 0, 7]


def records_are_gathered_with_all_their_fields(cluster):
    record = np.array(
        (cluster.rank, cluster.rank == 0, 0.5), dtype=[("a", np.uint32), ("b", np.bool_), ("c", np.float64)]
    )
    records = cluster.gather_records(record)
    assert records.tolist() == [(rank, rank == 0, 0.5) for rank in range(cluster.size)]
    records["a"] = 9
    assert int(record["a"]) == cluster.rank


def contents_arrive_on_rank_0_in_the_order_of_the_ranks(cluster):
    contents = list(cluster.in_rank_order(b"!" * cluster.rank))
    assert contents == ([b"!" * rank for rank in range(cluster.size)] if cluster.rank == 0 else [])


def contents_are_gathered_in_the_order_of_the_ranks(cluster):
    assert cluster.allgather_bytes(b"!" * cluster.rank) == [b"!" * rank for rank in range(cluster.size)]


def the_texts_of_all_ranks_are_united(cluster):
    own = {"everywhere", f"rank {cluster.rank}", "\0\ud800é"}
    assert cluster.union(own) == {"everywhere", "\0\ud800é", *(f"rank {rank}" for rank in range(cluster.size))}


def an_error_on_one_rank_is_raised_on_all(cluster):
    for where in (0, cluster.size - 1):
        with pytest.raises(OutputError, match="the disk is full") as raised, cluster.agreement():
            if cluster.rank == where:
                raise OutputError("the disk is full")
        assert raised.value.agreed


def of_two_errors_the_first_ranks_is_raised_on_all(cluster):
    with pytest.raises(InputError, match="^rank 0$"), cluster.agreement():
        raise InputError(f"rank {cluster.rank}")


def no_error_is_no_error(cluster):
    with cluster.agreement():
        pass
    cluster.barrier()


def every_collective_call_is_counted(cluster):
    """Where there are others to wait for; `agreement` and `leave` are made of these calls."""
    for collective in (
        lambda: cluster.allgather(0),
        lambda: cluster.alltoall([b"0"] * cluster.size),
        lambda: cluster.broadcast(0),
        lambda: cluster.broadcast_bytes(b"0"),
        lambda: cluster.sum_integers(np.zeros(1, dtype=np.int64)),
        lambda: cluster.maximum(np.zeros(1)),
        lambda: cluster.gather_records(np.array((1,), dtype=[("a", np.int64)])),
        lambda: list(cluster.in_rank_order(b"0")),
        cluster.barrier,
    ):
        before = cluster.communication_seconds
        collective()
        assert cluster.communication_seconds > before or cluster.size == 1


CHECKS = [
    values_are_gathered_in_the_order_of_the_ranks,
    each_rank_receives_what_every_rank_gives_it,
    the_value_of_rank_0_is_broadcast,
    bytes_of_any_rank_are_broadcast,
    integers_are_summed_without_rounding,
    the_largest_of_each_number_is_found,
    records_are_gathered_with_all_their_fields,
    contents_arrive_on_rank_0_in_the_order_of_the_ranks,
    contents_are_gathered_in_the_order_of_the_ranks,
    the_texts_of_all_ranks_are_united,
    an_error_on_one_rank_is_raised_on_all,
    of_two_errors_the_first_ranks_is_raised_on_all,
    no_error_is_no_error,
    every_collective_call_is_counted,
]
