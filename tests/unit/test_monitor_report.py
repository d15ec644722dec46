"""Reports on the cluster: what is made of the ranks' measures, how reports add up, and what stands in metrics.jsonl."""

import json
import math
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from in_process import signals_with
from ranks import on_ranks

from distsoftmax.cluster.communicator import Alone
from distsoftmax.cluster.cores import Grant
from distsoftmax.config import DataConfig, ObjectiveConfig, RunConfig, SolverConfig, TrainConfig
from distsoftmax.coordinator.coordinator import Coordinator
from distsoftmax.coordinator.metrics import MetricsFile
from distsoftmax.monitoring import reporter
from distsoftmax.monitoring.report import MOST_LISTED, ClusterReport, merged
from distsoftmax.monitoring.reporter import RECORD, Post, Reporter, Work, assemble
from distsoftmax.run_folder import TAIL_BYTES, last_metrics_step
from distsoftmax.session import open_session
from distsoftmax.trainer import fit_and_save

NAMES = set(RECORD.names)


def post(node="a", cores=(0, 1), threads=1, n_cores=None, memory=2.0**34):
    return Post(Grant(node, frozenset(cores)), float(n_cores or len(cores)), memory, threads)


def records(*ranks):
    """The records of ranks; what is not named is 0."""
    table = np.zeros(len(ranks), dtype=RECORD)
    for number, values in enumerate(ranks):
        assert set(values) <= NAMES
        for name, value in values.items():
            table[number][name] = value
    return table


def report(*compute, seconds=10.0, steps=100, node=lambda rank: "a"):
    """A report of ranks that compute so long and wait for the rest of the time."""
    told = [
        {"compute_seconds": own, "wait_seconds": seconds - own, "rows": 100, "shards": 4, "resident": 1e8}
        for own in compute
    ]
    for values in told:
        values |= {"load": 1.0, "available": 2.0**33}
    posts = [post(node(rank), cores=(rank,)) for rank in range(len(compute))]
    return assemble(posts, records(*told), seconds, steps)


def test_processor_time_that_no_rank_of_the_job_took_is_that_of_others():
    told = [
        {"own_seconds": 5.0, "busy_seconds": 16.0, "stolen_seconds": 2.0},
        {"own_seconds": 4.0, "busy_seconds": 16.0},
    ]
    shared = assemble([post(), post()], records(*told), 10.0, 1)
    assert [rank.others_share for rank in shared.ranks] == pytest.approx([0.35, 0.35])  # (16 - 9) / (2 cores * 10 s)
    assert [rank.steal_share for rank in shared.ranks] == pytest.approx([0.1, 0.0])
    assert shared.nodes[0].others_share == pytest.approx((0.45 + 0.35) / 2)


def test_ranks_on_cores_of_their_own_and_on_other_nodes_are_no_others_of_each_other():
    told = [{"own_seconds": 5.0, "busy_seconds": 8.0}, {"own_seconds": 4.0, "busy_seconds": 4.0}]
    for posts in ([post(cores=(0,)), post(cores=(1,))], [post("a", (0,)), post("b", (0,))]):
        ranks = assemble(posts, records(*told), 10.0, 1).ranks
        assert [rank.others_share for rank in ranks] == pytest.approx([0.3, 0.0])


def test_shares_are_not_told_of_a_time_too_short_for_the_kernels_clock_nor_of_what_is_not_known():
    told = [{"own_seconds": 0.1, "busy_seconds": 0.2, "throttled_seconds": math.nan, "celsius": math.nan}]
    short = assemble([post()], records(*told), 0.4, 1)
    assert (short.ranks[0].others_share, short.nodes[0].others_share) == (None, None)
    unknown = assemble([post(memory=math.nan)], records({"busy_seconds": math.nan, "resident": math.nan}), 10.0, 1)
    assert (unknown.ranks[0].others_share, unknown.ranks[0].rss_bytes) == (None, None)
    assert (unknown.nodes[0].memory_bytes, unknown.nodes[0].others_share) == (None, None)
    assert short.ranks[0].throttled_seconds is None
    assert short.nodes[0].temperature_celsius is None
    json.dumps(unknown.as_json(), allow_nan=False)


def test_a_node_has_the_cores_of_all_its_ranks_within_the_limit_of_a_control_group_that_they_share():
    bound = assemble([post(cores=(0,)), post(cores=(1,))], records({}, {}), 1.0, 0)
    assert bound.nodes[0].cores == 2
    limited = assemble([post(n_cores=1.5), post(n_cores=1.5)], records({}, {}), 1.0, 0)
    assert limited.nodes[0].cores == 1.5


def test_speed_is_rows_a_second_by_the_median():
    assert report(4.0, 8.0, 4.0).speeds() == {0: 1.0, 1: 0.5, 2: 1.0}
    assert report(0.0, 0.0).speeds() == {}


@given(st.lists(st.floats(0.001, 9.0), min_size=1, max_size=8), st.integers(1, 3))
def test_a_report_is_read_back_from_its_json(compute, n_nodes):
    written = report(*compute, node=lambda rank: f"n{rank % n_nodes}")
    content = json.loads(json.dumps(written.as_json(), allow_nan=False))
    again = ClusterReport.from_json(content)
    assert again.as_json() == written.as_json()
    assert ClusterReport.from_json({**content, "of_a_later_version": 1}) == again


@pytest.mark.parametrize(
    "content", [None, 3, [], {}, {"ranks": [], "nodes": []}, {"ranks": [{}], "nodes": [{}]}, {"ranks": 7, "nodes": "x"}]
)
def test_what_is_no_report_is_none(content):
    assert ClusterReport.from_json(content) is None
    whole = report(1.0, 2.0).as_json()
    for name in whole:
        assert ClusterReport.from_json({key: value for key, value in whole.items() if key != name}) is None
        assert ClusterReport.from_json({**whole, name: None}) is None


@pytest.mark.parametrize("n_nodes", [1, 64, 4096])
def test_a_report_of_4096_ranks_is_short_and_lists_the_slowest(n_nodes, tmp_path):
    compute = np.random.default_rng(0).permutation(np.linspace(1.0, 5.0, 4096))
    many = report(*compute, node=lambda rank: f"a-node-with-a-long-name-{rank % n_nodes:04}.example.org")
    assert len(json.dumps(many.as_json())) < TAIL_BYTES / 2  # so that the last whole line is found at a file's end
    assert (many.n_ranks, many.n_nodes) == (4096, n_nodes)
    assert {rank.rank for rank in many.ranks} == set(np.argsort(compute)[-MOST_LISTED:])
    assert many.mean_compute_seconds == pytest.approx(3.0)
    assert many.slowest_rank == np.argmax(compute)
    metrics = MetricsFile(tmp_path / "metrics.jsonl", 0)
    for step in range(3):
        metrics.write({"step": step, "cluster": many.as_json()})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 3, "cluster": many.as_json()})[:-1])  # cut short by a crash
    assert last_metrics_step(tmp_path / "metrics.jsonl") == 2


@given(st.lists(st.lists(st.floats(0.001, 9.0), min_size=3, max_size=3), min_size=1, max_size=5))
def test_reports_on_the_same_ranks_add_up(rounds):
    whole = None
    for compute in rounds:
        whole = merged(whole, report(*compute))
    assert (whole.seconds, whole.steps) == (10.0 * len(rounds), 100 * len(rounds))
    assert [rank.compute_seconds for rank in whole.ranks] == pytest.approx(
        list(map(math.fsum, zip(*rounds, strict=True)))
    )
    assert whole.mean_compute_seconds == pytest.approx(math.fsum(math.fsum(compute) / 3 for compute in rounds))
    assert whole.least_wait_seconds == pytest.approx(math.fsum(10.0 - max(compute) for compute in rounds))


def test_shares_of_two_reports_are_means_over_their_time():
    first, second = report(4.0, seconds=10.0), report(4.0, seconds=30.0)
    first = replace(first, ranks=(replace(first.ranks[0], others_share=0.8),))
    second = replace(second, ranks=(replace(second.ranks[0], others_share=0.0),))
    assert merged(first, second).ranks[0].others_share == pytest.approx(0.2)


def test_a_report_on_another_number_of_ranks_begins_anew():
    assert merged(report(1.0, 2.0), report(1.0)) == report(1.0)


def test_of_many_ranks_those_stay_listed_that_are_slow_for_long():
    compute = np.linspace(1.0, 2.0, 100)
    first, second = report(*compute), report(*np.roll(compute, 10))
    whole = merged(first, second)
    assert [rank.rank for rank in whole.ranks] == list(range(78, 100))
    assert whole.mean_compute_seconds == pytest.approx(3.0)


# --- gathered by ranks ---


def work(rank, seconds):
    return Work(
        shards=4, rows=100, moved_shards=0, compute_seconds=seconds * (rank + 1), read_seconds=1.0, save_seconds=0.0
    )


def test_a_report_has_what_came_since_the_last_one_and_only_rank_0_has_it():
    def run(cluster):
        own = Reporter(cluster, 1, every=1)
        cluster.step = 0
        first = own.report(work(cluster.rank, 1.0))
        cluster.step = 7
        return first, own.report(work(cluster.rank, 1.5))

    (first, second), *others = on_ranks(3, run)
    assert others == [(None, None)] * 2
    assert [rank.compute_seconds for rank in first.ranks] == [1.0, 2.0, 3.0]
    assert [rank.compute_seconds for rank in second.ranks] == [0.5, 1.0, 1.5]
    assert [rank.read_seconds for rank in second.ranks] == [0.0] * 3
    assert (first.steps, second.steps) == (0, 7)
    assert second.nodes[0].ranks == 3


def test_a_rank_waits_no_longer_than_the_first_report_lasts_where_rank_0_is_late():
    def run(cluster):
        allgather = cluster.allgather

        def timed(value):
            start = time.monotonic()
            values = allgather(value)
            cluster.communication_seconds += time.monotonic() - start
            return values

        cluster.allgather = timed
        if cluster.rank == 0:
            time.sleep(0.5)
        own = Reporter(cluster, 1, every=1)
        cluster.step = 0
        return own.report(work(cluster.rank, 0.0))

    first = on_ranks(3, run)[0]
    assert all(rank.wait_seconds <= first.seconds < 0.5 for rank in first.ranks)


def test_a_counter_that_was_started_again_counts_from_there():
    own = Reporter(Alone(), 1, every=1)
    own.report(work(0, 5.0))
    assert own.report(work(0, 2.0)).ranks[0].compute_seconds == 2.0


def test_a_report_is_due_on_rank_0_with_a_line_of_metrics_and_not_too_often(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    own = Reporter(Alone(), 1, every=5)
    assert [own.is_due(step) for step in (0, 3, 5)] == [True, False, True]
    times = []
    for _ in range(600):
        now[0] += 0.1
        if own.is_due(0):
            times.append(now[0] - 1000)
            own.report(work(0, 1.0))
    assert times[:4] == pytest.approx([0.1, 1.1, 3.1, 7.1])
    assert np.diff(times[3:]) == pytest.approx(reporter.REPORT_SECONDS, abs=0.11)
    assert on_ranks(2, lambda cluster: Reporter(cluster, 1, every=1).is_due(0)) == [True, False]


# --- in a training ---


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Train on so many ranks; return the model's digest and the lines of metrics."""
    generator = np.random.default_rng(3)
    np.savez(tmp_path / "table.npz", X=generator.standard_normal((90, 4)), y=np.arange(90) % 3)

    def train(out, ranks=1, max_steps=6, first_seconds=0.0, **run):
        monkeypatch.setattr(reporter, "FIRST_SECONDS", first_seconds)
        config = TrainConfig(
            data=DataConfig(data=(str(tmp_path / "table.npz"),), shards=8),
            objective=ObjectiveConfig(l2=1e-3),
            solver=SolverConfig(solver="gradient-descent", tolerance=0.0, max_steps=max_steps),
            run=RunConfig(out=str(tmp_path / out), progress="never", threads=1, **run),
        )

        def work(cluster):
            with Coordinator(config, cluster) as coordinator:
                return fit_and_save(config, coordinator, open_session(config, cluster, signals_with(0), coordinator))[1]

        outcomes = on_ranks(ranks, work) if ranks > 1 else [work(Alone())]
        assert len(set(outcomes)) == 1, outcomes
        return outcomes[0], [json.loads(line) for line in (tmp_path / out / "metrics.jsonl").read_text().splitlines()]

    return train


def test_reports_stand_in_the_lines_of_steps_and_change_no_bit(train):
    sha256, lines = train("often", ranks=3)
    assert [line["step"] for line in lines] == list(range(7))
    reports = [ClusterReport.from_json(line["cluster"]) for line in lines]
    assert [item.steps for item in reports] == [0] + [1] * 6
    assert [rank.shards for rank in reports[-1].ranks] == [2, 3, 3]
    assert [rank.rows for rank in reports[-1].ranks] == [22, 34, 34]
    assert all(rank.read_seconds > 0 for rank in reports[0].ranks)
    assert not any(rank.read_seconds for rank in reports[1].ranks)
    seldom, rare = train("seldom", ranks=2, first_seconds=math.inf)
    assert [line["step"] for line in rare if "cluster" in line] == [0, 6]
    assert sha256 == seldom


def test_a_resumed_run_has_each_step_once_and_a_report_at_its_new_start(train):
    train("run", ranks=2, max_steps=3, first_seconds=math.inf)
    _, lines = train("run", ranks=3, max_steps=6, first_seconds=math.inf)
    assert [line["step"] for line in lines] == list(range(7))
    assert [line["step"] for line in lines if "cluster" in line] == [0, 3, 6]
    assert [line["cluster"]["n_ranks"] for line in lines if "cluster" in line] == [2, 3, 3]


def test_reports_come_with_the_lines_that_are_written_anyway(train):
    _, lines = train("run", max_steps=7, metrics_every=3, evaluate_every=0)
    assert [line["step"] for line in lines] == [0, 3, 6, 7]
    assert [line["cluster"]["steps"] for line in lines] == [0, 3, 3, 1]
