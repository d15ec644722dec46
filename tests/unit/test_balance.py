"""When shards move: ranks simulated by their paces, with what is measured of them as noisy as machines are."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distsoftmax.cluster.assignment import initial_assignment, n_moved
from distsoftmax.cluster.balance import MEASUREMENT_SECONDS, RECENT, Balancer


class Machine:
    """A balancer, and ranks whose seconds it is told.

    Attributes
    ----------
    pace : ndarray, (n_ranks,)
        Seconds that each rank takes for a shard in a step.
    moves : list
        The steps after which shards moved.
    seconds_of_moves : float
    """

    def __init__(self, n_ranks, n_shards, *, seconds=0.02, noise=0.0, spikes=0.0, move_seconds=0.01, seed=0):
        self.costs = np.full(n_shards, 1000)
        self.assignment = initial_assignment("dynamic", self.costs, n_ranks)
        self.balancer = Balancer(self.costs, self.assignment)
        self.pace = np.full(n_ranks, seconds)
        self.noise, self.spikes, self.move_seconds = noise, spikes, move_seconds
        self.random = np.random.default_rng(seed)
        self.moves, self.seconds_of_moves, self.steps = [], 0.0, 0

    @property
    def loads(self):
        return np.array([len(of_rank) for of_rank in self.assignment])

    @property
    def to_ideal(self):
        """The time of a step, without noise, by that of the ideal."""
        return (self.loads * self.pace).max() / (self.costs.size / (1 / self.pace).sum())

    def run(self, steps, steps_left=math.inf, work=lambda step: 1.0):
        for _ in range(steps):
            self.steps += 1
            noisy = np.maximum(1 + self.noise * self.random.standard_normal(self.pace.size), 0.2)
            noisy *= np.where(self.random.random(self.pace.size) < self.spikes, 2.0, 1.0)
            self.balancer.note(self.loads * self.pace * noisy * work(self.steps))
            better = self.balancer.proposal(steps_left, self.move_seconds)
            if better is not None:
                self.seconds_of_moves += self.move_seconds * n_moved(self.assignment, better)[1]
                self.assignment = better
                self.moves.append(self.steps)
                self.balancer.moved(better)


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.1])
@pytest.mark.parametrize(
    ("n_ranks", "n_shards", "steps"), [(2, 16, 1000), (3, 64, 1000), (4, 64, 1000), (1000, 16000, 100)]
)
def test_nothing_moves_on_an_undisturbed_machine(n_ranks, n_shards, steps, noise):
    for seed in range(3 if n_ranks < 100 else 1):
        machine = Machine(n_ranks, n_shards, noise=noise, spikes=0.01, move_seconds=0.0, seed=seed)
        machine.run(steps)
        assert machine.moves == []


def test_nothing_moves_for_what_a_scheduler_does_to_steps_of_a_millisecond():
    machine = Machine(2, 16, seconds=0.001 / 8, noise=0.3, spikes=0.02, move_seconds=0.0)
    machine.run(5000)
    assert machine.moves == []


def test_short_steps_are_measured_together_and_a_short_run_not_at_all():
    machine = Machine(2, 16, seconds=0.001 / 8, move_seconds=0.0)
    machine.pace[1] *= 2
    steps = math.ceil(RECENT * MEASUREMENT_SECONDS / 0.002)
    machine.run(steps - 10)
    assert machine.moves == []
    machine.run(20)
    assert len(machine.moves) == 1


@pytest.mark.parametrize("n_outliers", [1, 2, 3])
def test_outliers_move_nothing(n_outliers):
    machine = Machine(2, 64, noise=0.01, move_seconds=0.0)
    machine.run(50)
    machine.pace[1] *= 10
    machine.run(n_outliers)
    machine.pace[1] /= 10
    machine.run(50)
    assert machine.moves == []


@pytest.mark.parametrize(("noise", "steps"), [(0.0, 30), (0.03, 150), (0.1, 400)])
@pytest.mark.parametrize("slower", [2, 4])
@pytest.mark.parametrize(("n_ranks", "n_shards"), [(2, 16), (2, 64), (3, 64), (4, 64), (5, 128)])
def test_a_slowed_rank_settles_near_the_ideal_within_five_rebalances(n_ranks, n_shards, slower, noise, steps):
    for seed in range(3):
        machine = Machine(n_ranks, n_shards, noise=noise, seed=seed)
        machine.run(100)
        machine.pace[1] *= slower
        before = machine.to_ideal
        assert before > 1.25
        machine.run(steps)
        assert machine.to_ideal <= 1.05
        assert 1 <= len(machine.moves) <= 5
        assert machine.moves[0] <= 100 + 4 * RECENT


def test_a_rank_that_is_slow_from_the_start_gives_shards_as_soon_as_enough_is_measured():
    machine = Machine(2, 64, noise=0.05)
    machine.pace[0] *= 3
    machine.run(2 * RECENT)
    assert machine.moves
    assert machine.moves[0] <= RECENT + 2
    assert machine.to_ideal < 1.06


def test_disturbances_that_come_and_go_are_followed():
    machine = Machine(3, 96, noise=0.03)
    for turn in range(6):
        machine.pace[turn % 3] *= 3
        machine.run(80)
        assert machine.to_ideal <= 1.05
        machine.pace[turn % 3] /= 3
        machine.run(80)
        assert machine.to_ideal <= 1.05
    assert len(machine.moves) <= 12 * 3


@pytest.mark.parametrize(("move_seconds", "length"), [(0.05, 20), (0.2, 20), (0.5, 20)])
def test_moves_for_disturbances_that_come_and_go_cost_no_more_than_waiting_has(move_seconds, length):
    machine = Machine(2, 64, seconds=0.005, move_seconds=move_seconds)
    machine.run(RECENT)
    lost = 0.0
    for turn in range(30):
        machine.pace[turn % 2] *= 2
        for _ in range(length):
            machine.run(1)
            lost += (machine.loads * machine.pace).max() - machine.costs.size / (1 / machine.pace).sum()
        machine.pace[turn % 2] /= 2
    assert machine.moves
    assert machine.seconds_of_moves <= lost


def test_nothing_moves_that_the_steps_left_do_not_pay_for():
    machine = Machine(2, 64, move_seconds=0.5)
    machine.pace[1] *= 2
    machine.run(200, steps_left=5)
    assert machine.moves == []
    machine.run(2 * RECENT, steps_left=1000)
    assert len(machine.moves) == 1


def test_steps_of_unequal_work_are_no_change_of_pace():
    """As those of a solver that tries several step lengths, or multiplies often with the hessian."""
    machine = Machine(3, 60, noise=0.05, move_seconds=0.0)
    machine.run(300, work=lambda step: (1, 2, 17)[step * 7 % 5 % 3])
    assert machine.moves == []
    machine.pace[2] *= 2
    machine.run(50, work=lambda step: (1, 2, 17)[step * 7 % 5 % 3])
    assert machine.to_ideal <= 1.05


def test_a_rank_without_shards_is_taken_for_a_usual_one_and_then_measured():
    machine = Machine(3, 60)
    machine.assignment = (tuple(range(30)), tuple(range(30, 60)), ())
    machine.balancer = Balancer(machine.costs, machine.assignment)
    machine.pace[2] *= 2
    machine.run(60)
    assert 1 <= len(machine.moves) <= 5
    assert machine.to_ideal <= 1.05


def test_a_rank_that_has_lost_all_its_shards_gets_some_again_once_it_is_well():
    machine = Machine(2, 16, noise=0.02)
    machine.run(20)
    machine.pace[1] *= 100
    machine.run(40)
    assert machine.loads.tolist() == [16, 0]
    machine.pace[1] /= 100
    machine.run(2000)
    assert machine.to_ideal <= 1.05


def test_a_thousand_unequal_ranks_with_stragglers_come_to_three_percent_of_the_ideal():
    machine = Machine(1024, 65536, noise=0.03, spikes=0.01)
    random = np.random.default_rng(1)
    machine.pace /= np.exp(0.3 * random.standard_normal(1024))
    machine.pace[random.permutation(1024)[:51]] *= 3
    assert machine.to_ideal > 3
    machine.run(100)
    assert machine.to_ideal <= 1.03
    assert len(machine.moves) <= 5


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 20), st.sampled_from([0.1, 1, 30]))
def test_whatever_is_measured_a_proposal_is_an_assignment_equal_on_all_ranks(seed, n_ranks, n_shards, spread):
    random = np.random.default_rng(seed)
    costs = random.integers(1, 100, n_shards)
    assignment = initial_assignment("dynamic", costs, n_ranks)
    replicas = [Balancer(costs, assignment) for _ in range(2)]
    seconds = np.exp(spread * random.standard_normal((30, n_ranks)))
    seconds[random.random((30, n_ranks)) < 0.1] = 0.0
    for of_step in seconds:
        for balancer in replicas:
            balancer.note(of_step)
        first, second = (balancer.proposal(math.inf, 0.0) for balancer in replicas)
        assert first == second
        if first is not None:
            assert sorted(shard for of_rank in first for shard in of_rank) == list(range(n_shards))
            assert n_moved(replicas[0].assignment, first)[0] > 0
            for balancer in replicas:
                balancer.moved(first)


def test_a_proposal_that_is_not_carried_out_comes_again():
    machine = Machine(2, 64)
    machine.pace[1] *= 2
    proposals = []
    for _ in range(40):
        machine.balancer.note(machine.loads * machine.pace)
        proposals.append(machine.balancer.proposal(math.inf, 0.01))
    wanted = [proposal for proposal in proposals if proposal is not None]
    assert len(wanted) >= 3
