"""The nodes of an allocation: measured by threads that stand for ranks, ranked, and told to mpirun."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ranks import on_ranks

from distsoftmax.cluster.cores import Grant
from distsoftmax.cluster.weights import weights_of_ranks
from distsoftmax.errors import InputError
from distsoftmax.monitoring import allocation
from distsoftmax.monitoring.allocation import Measured, NodesConfig, as_lines, command, host_file, ranked, weights_file


def measured(node, speed, *, cores=(0, 1), busy=0.0, n_cores=None):
    return Measured(
        grant=Grant(node, frozenset(cores)), threads=1, n_cores=float(n_cores or len(cores)), speed=speed, copied=1e9,
        busy_share=busy, load=1.0, available=2.0**33,
    )  # fmt: skip


def test_the_quickest_node_comes_first_and_a_weight_is_that_of_all_its_ranks_together():
    nodes = ranked([measured("a", 50.0), measured("b", 90.0), measured("b", 110.0)], {})
    assert [(node.node, node.ranks, node.speed, node.weight) for node in nodes] == [
        ("b", 2, 1.0, 1.0),
        ("a", 1, 0.5, 0.25),
    ]
    assert weights_file(nodes).splitlines()[1:] == ["b 1.000", "a 0.250"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(1.0, 10.0)), min_size=1, max_size=12))
def test_training_takes_the_file_of_weights_and_gives_each_rank_the_speed_of_its_node(tmp_path_factory, ranks):
    nodes = ranked([measured(node, speed) for node, speed in ranks], {})
    path = tmp_path_factory.mktemp("weights") / "weights"
    path.write_text(weights_file(nodes))
    weights, note = weights_of_ranks(str(path), [node for node, _ in ranks])
    assert note == ""
    speeds = {node.node: node.speed for node in nodes}
    ratios = [weight / speeds[node] for weight, (node, _) in zip(weights, ranks, strict=True)]
    assert max(ratios) < 1.1 * min(ratios)  # three decimal places are written


@pytest.mark.parametrize(
    ("ranks", "slots"),
    [
        ([{"cores": range(8)}], 8),
        ([{"cores": range(8), "busy": 0.5}], 4),
        ([{"cores": range(8), "busy": 1.0}], 1),
        ([{"cores": range(8), "busy": math.nan}], 8),
        ([{"cores": range(8), "n_cores": 2.5}] * 2, 2),
        ([{"cores": (0,)}, {"cores": (1,)}, {"cores": (2,)}], 3),
        ([{"cores": (0,), "busy": 1.0}, {"cores": (1,)}], 1),
    ],
)
def test_a_host_has_a_slot_for_each_core_that_nobody_takes(ranks, slots):
    nodes = ranked([measured("a", 1.0, **rank) for rank in ranks], {})
    assert host_file(nodes, open_mpi=False) == f"a:{slots}\n"
    assert host_file(nodes, open_mpi=True) == f"a slots={slots}\n"


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.floats(1.0, 1e9)), min_size=1, max_size=30))
def test_weights_lie_between_0_and_1_and_every_node_has_one(ranks):
    nodes = ranked([measured(node, speed) for node, speed in ranks], {})
    assert {node.node for node in nodes} == {node for node, _ in ranks}
    assert max(node.weight for node in nodes) == nodes[0].speed == 1.0
    assert all(0 < node.weight <= 1 and 0 < node.speed <= 1 for node in nodes)
    table = as_lines(nodes, [measured(node, speed) for node, speed in ranks], 1e-5)
    assert all(len(line) <= 80 for line in table)


def test_what_a_node_does_not_tell_is_a_dash():
    nodes = ranked([measured("a", 1.0, busy=math.nan)], {})
    assert as_lines(nodes, [measured("a", 1.0)], 0.0)[1].split()[6] == "-"


def test_ranks_measure_together_and_rank_0_says_what_comes_of_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(allocation, "BUSY_SECONDS", 0.01)
    hosts, weights = tmp_path / "hosts", tmp_path / "weights"
    config = NodesConfig(nodes=True, seconds=0.02, hostfile=str(hosts), hostfile_format="openmpi", weights=str(weights))
    assert on_ranks(3, lambda cluster: command(config, cluster)) == [0, 0, 0]
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 4
    assert out[1].split()[1] == "3"
    assert hosts.read_text().split()[1].startswith("slots=")
    assert float(weights.read_text().splitlines()[1].split()[1]) == 1.0


def test_ranks_of_other_nodes_are_asked_how_quick_the_network_is():
    rates = on_ranks(3, lambda cluster: allocation._rates(["a", "b", "b"], cluster))
    assert all(list(of_rank) == ["b"] and of_rank["b"] > 0 for of_rank in rates)


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(allocation, "_measure", lambda *_: pytest.fail("measured"))
    config = NodesConfig(nodes=True, hostfile=str(tmp_path / "nowhere" / "hosts"))
    for outcome in on_ranks(2, lambda cluster: command(config, cluster)):
        assert isinstance(outcome, InputError)
        assert "its folder does not exist; make it, or name another file" in str(outcome)


@pytest.mark.parametrize("options", [{}, {"nodes": True, "seconds": 0.0}, {"nodes": True, "seconds": 1e3}])
def test_a_call_that_measures_nothing_is_refused(options):
    with pytest.raises(InputError):
        NodesConfig(**options)
