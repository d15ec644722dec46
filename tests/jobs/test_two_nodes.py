"""A rank, a node, or its network is lost: the run ends in the bits of one to which nothing happened. Linux, as root."""

import sys
import time

import chaos
import pytest
import two_nodes
from conftest import OPEN_MPI, ROOT
from two_nodes import BLUE, RED

pytestmark = [
    pytest.mark.launcher,
    pytest.mark.skipif(bool(two_nodes.missing()), reason=two_nodes.missing()),
]
TIMEOUT = 4  # seconds without progress that the watchdog allows
LONG_TIMEOUT = 60  # before it is over mpirun's ssh finds out that a node has no network
DEADLINE = 110  # seconds for a case
RUN = [*chaos.COMMON, "--solver", "gradient-descent", "--learning-rate", 0.1, "--momentum", 0.9, "--max-steps", 150]
RUN += ["--checkpoint-every", 50, "--out", "run"]
HOSTS = ["--host", f"{RED}:2,{BLUE}:2", "-n", 4]
LAUNCHERS = {"mpirun": ["mpirun"], "ulfm": ["mpirun", "--with-ft", "ulfm"]} if OPEN_MPI else {"mpirun": ["mpirun"]}
ENVIRONMENT = {
    "PYTHONPATH": str(ROOT),
    "UCX_TLS": "tcp,self",  # MPICH's: it takes nodes of one kernel for one node, and tries to share memory
    "PRTE_MCA_rmaps_default_mapping_policy": "slot:oversubscribe",
}
launchers = pytest.mark.parametrize("launcher", LAUNCHERS)


@pytest.fixture(scope="module")
def undisturbed(shared_mpirun, shared_folder):
    """The folder of the run in which nothing happened, and the model's digest."""
    chaos.write_samples(shared_folder)
    return shared_folder / "run", shared_mpirun(1, "train", *RUN).sha256


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "cluster").mkdir()
    with two_nodes.Cluster(tmp_path / "cluster") as cluster:
        yield cluster


@pytest.fixture
def survives(cluster, start, undisturbed, tmp_path):
    """Start a run on both nodes, let something happen to them, and see it end; return what it said."""

    def survives(launcher, happens, *options):
        chaos.write_samples(tmp_path)
        train = [sys.executable, "-m", "distsoftmax.train", *RUN, "--timeout", TIMEOUT, *options]
        supervise = [sys.executable, "-m", "distsoftmax.supervise", "--max-restarts", 3, "--"]
        words = cluster.command(*supervise, *LAUNCHERS[launcher], *HOSTS, *train, cwd=tmp_path)
        process, metrics = start(*words, deadline=DEADLINE + 10), tmp_path / "run" / "metrics.jsonl"
        with cluster.ending_after(DEADLINE):
            process.wait_for(lambda: n_lines(metrics) > 20, "it took its first steps")
            assert [list(node.ranks()) for node in cluster.nodes] == [[0, 1], [2, 3]]
            happens()
            seconds = longest_pause(metrics, process)
            ended = process.wait()
            end = time.monotonic()
            while cluster.ranks():  # those of a node without network end after their --timeout
                assert time.monotonic() - end < LONG_TIMEOUT
                time.sleep(0.1)
        story = f"the longest time without a step was {seconds:.1f} s\n{ended.out}\n{ended.err}"
        print(story)
        folder, sha256 = undisturbed
        assert (ended.status, ended.all_sha256) == (0, [sha256]), story
        assert chaos.metrics(tmp_path / "run") == chaos.metrics(folder), story
        return ended

    return survives


@pytest.mark.sweep(1)
@launchers
@pytest.mark.parametrize("rank", [0, 3])
def test_a_rank_that_is_killed_on_either_node_is_done_without_or_costs_a_restart(rank, launcher, survives, cluster):
    ended = survives(launcher, lambda: cluster.ranks()[rank].kill())
    assert "do not answer" not in ended.err


@pytest.mark.sweep(1)
@launchers
@pytest.mark.parametrize("name", [RED, BLUE])
@pytest.mark.parametrize(("loss", "timeout"), [("node", TIMEOUT), ("network", TIMEOUT), ("network", LONG_TIMEOUT)])
def test_a_node_that_is_lost_costs_a_restart_on_the_other(loss, timeout, name, launcher, survives, cluster):
    lose = cluster[name].lose if loss == "node" else lambda: cluster.pull_the_cable(name)
    ended = survives(launcher, lose, "--timeout", timeout)
    assert f"the job goes on without them: {name}\n" in ended.err
    assert "6 shards on 2 ranks" in ended.out
    if loss == "network":  # with the newest state, which both nodes have kept
        assert "resumed from /dev/shm/" in ended.out


def longest_pause(metrics, process):
    """Return the longest time without a step, in seconds, until the process has ended."""
    n, since, longest = n_lines(metrics), time.monotonic(), 0.0
    while process.popen.poll() is None:
        now = time.monotonic()
        if n_lines(metrics) != n:
            n, longest, since = n_lines(metrics), max(longest, now - since), now
        time.sleep(0.02)
    return longest


def n_lines(path):
    try:
        return path.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0
