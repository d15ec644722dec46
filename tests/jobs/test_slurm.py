"""launch/slurm.sbatch under a real Slurm: whatever happens to a job, its model has the bits of a plain run."""

import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

import pytest
import slurm
from conftest import OPEN_MPI, ROOT

pytestmark = [
    pytest.mark.skipif(OPEN_MPI, reason="once is enough, and Debian's Slurm starts the processes of MPICH alone"),
    pytest.mark.skipif(bool(slurm.missing()), reason=slurm.missing()),
]
DEADLINE = 90  # seconds for a job
TRAIN = ["--shards", 16, "--solver", "gradient-descent", "--learning-rate", 0.1, "--tolerance", 0, "--max-steps", 80]
TRAIN += ["--checkpoint-every", 5, "--evaluate-every", 0, "--out", "run"]
# a rank is slow from its 200th call of the kernel on, so that something can happen to it after 50 steps
SLOW = {"FAULT": "all:slow", "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "jobs" / "faults")])}
ON_BOTH = ["--nodes=2", "--ntasks-per-node=2"]


@pytest.fixture(scope="module")
def cluster():
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # a short path, for munged's socket
    try:
        with slurm.Slurm(folder) as cluster:
            yield cluster
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def sha256(shared_run):
    """The digest of the model of a plain run."""
    return shared_run(sys.executable, "-m", "distsoftmax.train", *TRAIN).sha256


class Job:
    """A job that was submitted from a folder, and its log."""

    def __init__(self, cluster, folder, number):
        self.number = number
        self._cluster = cluster
        self._folder = folder

    @property
    def log(self):
        path = self._folder / "log"
        return path.read_text() if path.exists() else ""

    @property
    def sha256(self):
        return re.findall(r"^model sha256 ([0-9a-f]{64})$", self.log, re.MULTILINE)

    def wait_for(self, condition, what):
        deadline = time.monotonic() + DEADLINE
        while not condition():
            state = self._cluster.state(self.number)
            assert time.monotonic() < deadline, f"{what}: not after {DEADLINE} s, the job is {state}\n{self.log}"
            time.sleep(0.1)

    def ended(self):
        """Wait for its end, and return its state."""
        self.wait_for(lambda: self._cluster.has_ended(self.number), "its end")
        return self._cluster.state(self.number)


@pytest.fixture
def submit(cluster, tmp_path):
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    jobs = []

    def submit(*arguments, options=ON_BOTH, **environment):
        script = ROOT / "launch" / "slurm.sbatch"
        options = ["--output=log", *options]
        number = cluster.submit(script, *arguments, cwd=tmp_path, environment=environment, options=options)
        jobs.append(number)
        return Job(cluster, tmp_path, number)

    yield submit
    for number in jobs:
        cluster.run("scancel", number)


@pytest.fixture
def in_the_middle(submit, tmp_path):
    """A job that has taken fifty steps of 80, and is slow from there on."""

    def in_the_middle(**environment):
        job = submit(*TRAIN, **SLOW, **environment)
        metrics = tmp_path / "run" / "metrics.jsonl"
        job.wait_for(lambda: metrics.exists() and metrics.read_bytes().count(b"\n") > 50, "its fiftieth step")
        return job

    return in_the_middle


def test_a_batch_job_trains_on_both_nodes(submit, sha256):
    job = submit(*TRAIN)
    assert job.ended() == "COMPLETED", job.log
    assert "16 shards on 4 ranks" in job.log
    assert job.sha256 == [sha256]


def test_a_killed_srun_is_started_again_when_its_ranks_have_ended(cluster, in_the_middle, sha256):
    job = in_the_middle(LAUNCHER="srun")
    cluster.processes_of(job.number, "srun")[0].kill()
    assert job.ended() == "COMPLETED", job.log
    assert "its launcher was killed by SIGKILL" in job.log
    assert re.search(r"resumed from .* after step [5-7]\d", job.log), job.log
    assert job.sha256 == [sha256]


def test_a_job_that_is_preempted_goes_on_when_the_nodes_are_free(cluster, in_the_middle, sha256):
    job = in_the_middle()
    cluster.run("srun", "--partition=urgent", "--nodes=2", "--exclusive", "true")
    cluster.start_again(job.number)
    assert job.ended() == "COMPLETED", job.log
    assert "stopped by" in job.log
    assert job.sha256 == [sha256]


def test_a_job_whose_time_is_nearly_up_goes_into_the_queue_again(cluster, in_the_middle, sha256):
    job = in_the_middle(LAUNCHER="srun")
    cluster.run("scancel", "--batch", "--signal=USR1", job.number)  # what --signal=B:USR1@120 makes Slurm do
    cluster.start_again(job.number)
    assert job.ended() == "COMPLETED", job.log
    assert "stopped by SIGUSR1" in job.log
    assert job.sha256 == [sha256]


def test_a_job_that_comes_no_further_stays_out_of_the_queue(cluster, submit):
    job = submit(*TRAIN, "--max-steps", 10_000, "--deadline", time.time() + 20, **SLOW)
    job.wait_for(lambda: "stopped by --deadline" in job.log, "its deadline")
    cluster.start_again(job.number)
    assert job.ended() == "FAILED", job.log
    assert "no further than where it was" in job.log


def test_a_job_that_is_cancelled_stays_so_and_can_be_resumed_by_hand(cluster, in_the_middle, run, sha256):
    job = in_the_middle()
    cluster.run("scancel", job.number)
    assert job.ended() == "CANCELLED", job.log
    job.wait_for(lambda: "go on with" in job.log, "its last words")
    again = run(sys.executable, "-m", "distsoftmax.train", "--config", "run/config.toml")
    assert "resumed from run/checkpoints/step-" in again.out
    assert again.sha256 == sha256


def test_a_job_goes_on_without_a_node_that_is_lost(cluster, in_the_middle, sha256):
    """Slurm would find it out after SlurmdTimeout, five minutes: by then the supervisor has tried the nodes itself."""
    job = in_the_middle()
    _, other = cluster.nodes_of(job.number)
    with cluster.lost(other):
        job.wait_for(lambda: "model sha256" in job.log, "its model")
    assert job.ended() == "COMPLETED", job.log  # for Slurm not before the node has answered
    assert f"the job goes on without them: {other}\n" in job.log
    assert "restart 2" not in job.log
    assert "16 shards on 2 ranks" in job.log
    assert job.sha256 == [sha256]


def test_each_task_of_an_array_has_options_of_its_own_and_a_rank_may_be_a_socket(submit, tmp_path):
    (tmp_path / "penalties").write_text("--l2 1e-2\n--l2 1e-3\n")
    job = submit(
        "--max-steps", 3, "--out", "run-%a", options=["--array=1-2", *ON_BOTH], EACH="penalties", RANKS_PER="socket"
    )
    assert job.ended() == "COMPLETED", job.log
    topology = [Path(f"/sys/devices/system/cpu/cpu{core}/topology") for core in os.sched_getaffinity(0)]
    n_sockets = len({(folder / "physical_package_id").read_text() for folder in topology})
    assert job.log.count(f" on {2 * n_sockets} ranks\n") == 2, job.log
    for task, l2 in ((1, 0.01), (2, 0.001)):
        folder = tmp_path / f"run-{task}"
        assert f"l2 = {l2}" in (folder / "config.toml").read_text()
        assert (folder / "model.safetensors").exists()
