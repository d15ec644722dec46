import math

import pytest

from distsoftmax.cluster.communicator import Alone
from distsoftmax.cluster.cores import Grant, choose_threads, limit_of_node, own_grant, share


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


@pytest.mark.parametrize(
    ("limit", "cores", "n_ranks", "expected"),
    [
        (4.0, range(64), 4, 1),  # a container of 4 cores on a large node
        (16.0, range(64), 3, 5),
        (2.5, range(64), 1, 2),
        (0.5, range(64), 2, 1),
        (16.0, range(8), 1, 8),
    ],
)
def test_a_limit_of_the_node_is_shared_by_its_ranks(limit, cores, n_ranks, expected):
    ranks = [Grant("a", frozenset(cores), limit)] * n_ranks + [Grant("b", frozenset(cores))]
    assert [share(ranks, rank) for rank in range(n_ranks)] == [expected] * n_ranks
    assert share(ranks, n_ranks) == len(cores)


@pytest.mark.parametrize(
    ("environment", "files", "expected"),
    [
        ({}, {}, math.inf),
        ({"SLURM_JOB_CPUS_PER_NODE": "16(x4)"}, {}, 16),
        ({"SLURM_JOB_CPUS_PER_NODE": "8,24(x2)"}, {}, 24),
        ({"SLURM_JOB_CPUS_PER_NODE": "what"}, {}, math.inf),
        ({}, {"cpu.max": "max 100000\n"}, math.inf),
        ({}, {"cpu.max": "400000 100000\n"}, 4),
        ({"SLURM_JOB_CPUS_PER_NODE": "2"}, {"cpu.max": "400000 100000\n"}, 2),
    ],
)
def test_slurm_and_control_groups_limit_the_cores_of_a_node(environment, files, expected, tmp_path):
    for name, text in {
        "proc/self/cgroup": "0::/\n",
        **{f"sys/fs/cgroup/{name}": files[name] for name in files},
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert limit_of_node(environment, tmp_path) == expected


def test_a_process_knows_what_it_was_granted(monkeypatch):
    assert len(own_grant().cores) >= 1
    monkeypatch.setenv("SLURM_JOB_CPUS_PER_NODE", "1(x2)")
    assert own_grant().limit <= 1
    assert choose_threads("auto", Alone()) == 1
    assert choose_threads(3, Alone()) == 3
