import pytest

from distsoftmax.cluster.cores import Grant, own_grant, share


def grants(*ranks):
    return [Grant(node, frozenset(cores)) for node, cores in ranks]


@pytest.mark.parametrize(
    ("ranks", "expected"),
    [
        ([("a", range(8))], [8]),
        ([("a", range(8))] * 2, [4, 4]),
        ([("a", range(8))] * 3, [2, 2, 2]),
        ([("a", range(2))] * 5, [1] * 5),
        ([("a", range(4)), ("a", range(4, 8))], [4, 4]),  # bound to sockets
        ([("a", [0]), ("a", [1])], [1, 1]),  # bound to cores
        ([("a", range(8)), ("b", range(2)), ("b", range(2))], [8, 1, 1]),
    ],
)
def test_the_cores_of_a_node_are_shared_by_its_ranks(ranks, expected):
    assert [share(grants(*ranks), rank) for rank in range(len(ranks))] == expected


def test_a_process_knows_its_own_cores():
    assert len(own_grant().cores) >= 1
