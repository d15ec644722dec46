"""Several hosts by launch/hosts.sh, over ssh: the bits of one host, and one clear error. Linux, as root."""

import os

import chaos
import pytest
import two_nodes
from conftest import ROOT
from two_nodes import BLUE, GREEN, LOGIN, RED

pytestmark = [
    pytest.mark.launcher,
    pytest.mark.skipif(bool(two_nodes.missing()), reason=two_nodes.missing()),
    pytest.mark.skipif("VIRTUAL_ENV" not in os.environ, reason="launch/hosts.sh takes the environment that is active"),
]
DEADLINE = 110  # seconds for a case
RUN = [*chaos.COMMON, "--solver", "lbfgs", "--l2", 1e-3, "--max-steps", 80, "--out", "run"]


@pytest.fixture(scope="module")
def sha256(shared_mpirun, shared_folder):
    """The digest of the model of a run on one host."""
    chaos.write_samples(shared_folder)
    return shared_mpirun(1, "train", *RUN).sha256


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with two_nodes.Cluster(tmp_path_factory.mktemp("cluster"), (RED, BLUE, GREEN), bare=True) as cluster:
        yield cluster


@pytest.fixture
def hosts_sh(cluster, start):
    """Start the launch script on the machine to log in on, in a folder."""

    def hosts_sh(folder, *words):
        environment = {
            "PYTHONPATH": str(ROOT),
            "UCX_TLS": "tcp,self",  # MPICH's: it takes nodes of one kernel for one node, and tries to share memory
            "PRTE_MCA_rmaps_default_mapping_policy": "slot:oversubscribe",
        }
        words = cluster.command(ROOT / "launch" / "hosts.sh", *words, cwd=folder)
        return start(*words, env=environment, deadline=DEADLINE + 10)

    return hosts_sh


@pytest.mark.parametrize(
    ("hosts", "ranks", "rate"),
    [
        (["--hostfile", "hosts"], [[0, 1], [2], [3]], None),
        (["--hosts", f"{RED},{BLUE}:7,{GREEN}:1", "-n", 3], None, "100mbit"),
    ],
    ids=["host file", "list and 100 Mbit/s"],
)
def test_three_hosts_give_the_bits_of_one_at_any_rate(hosts, ranks, rate, hosts_sh, cluster, sha256, tmp_path):
    chaos.write_samples(tmp_path)
    (tmp_path / "hosts").write_text(f"{RED}:2\n{BLUE} slots=1\n{GREEN}:1  # the slow one\n")
    if rate:
        cluster.limit(rate)
    with cluster.ending_after(DEADLINE):
        process = hosts_sh(tmp_path, *hosts, *RUN)
        if ranks:
            process.wait_for(lambda: [list(node.ranks()) for node in cluster.nodes] == ranks, "all nodes had ranks")
        ended = process.wait()
    assert (ended.status, ended.all_sha256) == (0, [sha256]), ended
    assert f"6 shards on {4 if ranks else 3} ranks" in ended.out


def test_hosts_that_are_not_ready_are_named_before_anything_starts(hosts_sh, cluster, tmp_path):
    folder = tmp_path / "shared" / "work"
    folder.mkdir(parents=True)
    cluster.hide(BLUE, folder.parent)
    ended = hosts_sh(folder, "--hosts", f"{RED},{BLUE},violet,{LOGIN}", *RUN).wait()
    assert (ended.status, ended.out) == (2, "")
    blue, violet = ended.err.splitlines()
    assert blue.startswith(f"hosts: blue: has no folder {folder}, in which the job starts; share {folder} with it, or")
    assert violet.startswith("hosts: violet: cannot be reached: ssh: Could not resolve hostname violet")
    assert not (folder / "run").exists()


def test_data_that_a_host_does_not_see_are_one_error_that_names_it(hosts_sh, cluster, tmp_path):
    local = tmp_path / "local"
    local.mkdir()
    chaos.write_samples(local)
    cluster.hide(GREEN, local)
    words = ["local/samples.npz" if word == "samples.npz" else word for word in RUN]
    ended = hosts_sh(tmp_path, "--hosts", f"{RED}:1,{GREEN}:2", *words).wait()
    assert ended.status == 2
    (error,) = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert error.startswith("error: --data local/samples.npz: not all ranks see the same; put it on a file system that")
    assert f"  0      red    {tmp_path}  a file of " in ended.err
    assert f"  1-2    green  {tmp_path}  no such file" in ended.err
    assert not (tmp_path / "run").exists()
