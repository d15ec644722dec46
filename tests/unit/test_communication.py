"""What the ranks say to each other in a step, as the README states it, and the model of what that takes."""

import itertools

import numpy as np
import pytest
from benchmarks.communication import SOLVERS, Call, CountingCommunicator, allreduces, configuration, write_samples
from benchmarks.network_model import Network, Problem, fitted, message_bytes
from in_process import trained

from distsoftmax.cluster.control import MESSAGE
from distsoftmax.monitoring.reporter import Reporter
from distsoftmax.objective import preconditioners

SHAPE = (600, 7, 4)  # rows, features, classes
GRADIENT = Call("sum_integers", message_bytes(*SHAPE[1:]))
CONTROL = Call("gather_records", MESSAGE.itemsize)


@pytest.fixture
def steps_of(tmp_path, monkeypatch):
    """Train by a solver, and return the calls of each step; reports on the nodes, which come by the clock, aside."""
    monkeypatch.setattr(Reporter, "is_due", lambda reporter, step: False)
    monkeypatch.setattr(preconditioners, "LARGEST_HESSIAN", 0)  # with the hessian itself runs end before six steps

    def steps_of(name):
        write_samples(tmp_path / "samples.npz", SHAPE)
        cluster = CountingCommunicator()
        trained(configuration(tmp_path / "samples.npz", tmp_path / "run", name, steps=6), cluster)
        steps = list(cluster.steps())
        assert len(steps) >= 4
        return steps

    return steps_of


@pytest.mark.parametrize("name", [name for name in SOLVERS if "trust" not in name and "sgd" not in name])
def test_a_step_is_one_allreduce_of_the_gradient_and_one_control_message(name, steps_of):
    for calls in steps_of(name)[3:]:  # the first may look for a step length, and measure what bounds the rounding
        assert calls == [CONTROL, GRADIENT]


def test_a_step_of_the_trust_region_adds_one_allreduce_for_each_product_with_the_hessian(steps_of):
    for calls in steps_of("trust-region")[2:]:
        assert calls == [CONTROL, *[GRADIENT] * (len(calls) - 1)]
        assert len(calls) > 2


def test_a_mini_batch_is_one_allreduce_and_an_epoch_one_more(steps_of):
    steps = steps_of("sgd, a mini-batch")
    for calls in steps:
        assert calls[:2] == [CONTROL, GRADIENT]
    n_sums = [allreduces(calls)[0] for calls in steps]
    assert set(n_sums) <= {1, 2}
    assert n_sums.count(2) <= 2 + 1  # of two epochs, and before the first


def test_the_message_is_an_integer_a_parameter_and_three_more():
    assert message_bytes(784, 10) == 8 * (10 * 785 + 3)


NETWORK = Network("of round numbers", latency=1e-5, byte_seconds=1e-9)


@pytest.mark.parametrize(
    ("n_ranks", "n_bytes", "seconds"),
    [
        (1, 10**6, 0.0),
        (2, 0, 1e-5),
        (2, 10**6, 1e-5 + 1e-3),
        (3, 100, 2e-5 + 2e-7),
        (8, 100, 3 * (1e-5 + 1e-7)),  # recursive doubling
        (8, 10**8, 6e-5 + 2 * 7 / 8 * 0.1),  # Rabenseifner's
    ],
)
def test_an_allreduce_takes_the_quicker_of_two_algorithms(n_ranks, n_bytes, seconds):
    assert NETWORK.allreduce(n_ranks, n_bytes) == pytest.approx(seconds, rel=1e-12)


def test_a_rate_is_in_bits_a_second():
    assert Network.of_rate("", 0.0, 1e8).allreduce(2, 10**6) == pytest.approx(0.08)


def test_without_messages_the_efficiency_is_that_of_the_shards():
    free = Network("free", 0.0, 0.0)
    assert Problem("even", 10.0, 8).efficiency(4096, free) == 1.0
    dealt = Problem("dealt", 10.0, 8, n_shards=6)
    assert [dealt.efficiency(n, free) for n in (1, 2, 3, 4, 6, 12)] == pytest.approx([1, 1, 1, 0.75, 1, 0.5])


def test_efficiency_falls_with_the_ranks_and_most_ranks_is_where_it_crosses():
    problem = Problem("", seconds=1.0, n_bytes=62_824)
    efficiencies = [problem.efficiency(n_ranks, NETWORK) for n_ranks in range(1, 600)]
    assert all(after <= before + 1e-12 for before, after in itertools.pairwise(efficiencies))
    most = problem.most_ranks(NETWORK, 0.9, 4096)
    assert problem.efficiency(most, NETWORK) >= 0.9 > problem.efficiency(most + 1, NETWORK)
    assert problem.most_ranks(NETWORK, 0.9, 10) == 10


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_a_fit_finds_the_network_that_the_times_came_from(noise):
    sizes = [8, 1000, 30_000, 10**6, 3 * 10**7]
    factors = 1 + noise * np.array([1, -1, 1, -1, 1])
    seconds = [NETWORK.latency + NETWORK.byte_seconds * size for size in sizes] * factors
    network = fitted("", sizes, seconds)
    assert network.latency == pytest.approx(NETWORK.latency, rel=2 * noise + 1e-9)
    assert network.byte_seconds == pytest.approx(NETWORK.byte_seconds, rel=2 * noise + 1e-9)
