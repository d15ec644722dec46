"""The monitor beside a real job, and within one."""

import json
import signal
import sys

import pytest


@pytest.mark.launcher
def test_a_run_is_seen_while_it_goes_on_and_after_it(start, run, tmp_path):
    training = start(
        "mpirun", "-n", 2, sys.executable, "-m", "distsoftmax.train", "--out", "run", "--tolerance", 0,
        "--solver", "gradient-descent", "--max-steps", 10**7, "--l2", 1e-9, "--learning-rate", 1e-6,
    )  # fmt: skip
    metrics = tmp_path / "run" / "metrics.jsonl"
    training.wait_for(lambda: metrics.exists() and metrics.read_bytes().count(b'"cluster"') >= 2, "a report came")
    seen = json.loads(run(sys.executable, "-m", "distsoftmax.monitor", "run", "--json").out)
    assert (seen["status"], seen["ranks_in_all"], seen["nodes_in_all"]) == ("running", 2, 1)
    assert seen["host"]
    assert [rank["shards"] for rank in seen["ranks"]] == [8, 8]
    assert 0 < seen["efficiency"] < 1
    training.popen.send_signal(signal.SIGUSR1)
    ended = training.wait()
    assert ended.status == 75, ended.err
    after = run(sys.executable, "-m", "distsoftmax.monitor", "run")
    assert (after.status, after.err) == (0, "")
    assert after.out.startswith("run: stopped; it goes on from step ")
    assert "computing " in after.out


@pytest.mark.launcher
def test_the_nodes_of_a_job_are_ranked_and_a_host_file_starts_the_next_one(mpirun, run, tmp_path):
    ended = mpirun(2, "monitor", "--nodes", "--seconds", 0.05, "--hostfile", "hosts", "--weights", "weights")
    assert ended.status == 0, ended.err
    assert ended.out.splitlines()[0].split()[:5] == ["node", "ranks", "cores", "speed", "weight"]
    node, weight = (tmp_path / "weights").read_text().splitlines()[1].split()
    assert float(weight) == 1.0
    assert (tmp_path / "hosts").read_text().startswith(node)
    again = run("mpirun", "--hostfile", "hosts", "-n", 1, "hostname")
    assert again.status == 0, again.err
