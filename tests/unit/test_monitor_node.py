"""What a process reads of its node, from files of /proc and /sys that are written here."""

import math
import os
import time
from types import SimpleNamespace

import psutil
import pytest

from distsoftmax.cluster.cores import own_grant
from distsoftmax.monitoring.node import NodeReader, core_seconds

TICK = os.sysconf("SC_CLK_TCK")
STAT = """cpu  100 0 50 900 10 3 2 20 0 0
cpu0 60 1 30 400 10 2 1 20 5 0
cpu3 40 0 20 500 0 1 1 0 0 0
intr 1 2 3
ctxt 1
"""
MEMORY = SimpleNamespace(total=2**34, available=2**33)


@pytest.fixture
def node(tmp_path, monkeypatch):
    """Write files of /proc and /sys below a folder, and return the reader of this node, whose memory is `MEMORY`."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: MEMORY)

    def node(files, cores=(0, 3)):
        for name, content in {"proc/stat": STAT, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return NodeReader(cores, tmp_path)

    return node


@pytest.mark.parametrize(
    ("cores", "busy", "stolen"), [((0,), 94, 20), ((3,), 62, 0), ((0, 3), 156, 20), ((0, 1, 2, 3), 156, 20)]
)
def test_a_core_is_busy_with_all_but_idling_waiting_and_what_was_stolen(cores, busy, stolen):
    assert core_seconds(STAT, cores) == (busy / TICK, stolen / TICK)


@pytest.mark.parametrize(
    "text", ["", "intr 1\n", "cpu  1 2 3 4\n", STAT.replace("cpu0", "cpu7").replace("cpu3", "cpu8")]
)
def test_a_core_of_which_nothing_is_told_is_not_known(text):
    assert all(math.isnan(seconds) for seconds in core_seconds(text, {0, 3}))


def test_an_old_kernel_tells_fewer_columns():
    assert core_seconds("cpu0 10 0 5 100\n", {0}) == (15 / TICK, 0)


@pytest.mark.parametrize("error", [psutil.Error(), OSError(), KeyError("MemTotal")])
def test_what_psutil_cannot_tell_is_not_known(tmp_path, monkeypatch, error):
    def unknown():
        raise error

    monkeypatch.setattr(psutil, "virtual_memory", unknown)
    reader = NodeReader((0,), tmp_path)
    assert math.isnan(reader.memory)
    assert math.isnan(reader.gauges().available)


def test_without_control_groups_and_sensors_all_cores_and_all_memory_count(node):
    reader = node({})
    assert (reader.n_cores, reader.memory) == (2.0, 2.0**34)
    gauges = reader.gauges()
    assert gauges.available == 2.0**33
    assert math.isnan(gauges.megahertz)
    assert math.isnan(gauges.celsius)
    assert math.isnan(reader.usage().throttled)


V2 = {
    "proc/self/cgroup": "0::/slurm/job_7\n",
    "sys/fs/cgroup/cpu.stat": "usage_usec 9\n",
    "sys/fs/cgroup/slurm/cpu.max": "max 100000\n",
    "sys/fs/cgroup/slurm/job_7/cpu.max": "50000 100000\n",
    "sys/fs/cgroup/slurm/job_7/cpu.stat": "usage_usec 9\nnr_throttled 3\nthrottled_usec 2500000\n",
    "sys/fs/cgroup/slurm/job_7/memory.max": f"{2**30}\n",
    "sys/fs/cgroup/slurm/job_7/memory.current": f"{3 * 2**28}\n",
    "sys/fs/cgroup/slurm/job_7/memory.stat": f"anon 5\ninactive_file {2**28}\n",
}
V1 = {
    "proc/self/cgroup": "5:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n1:name=systemd:/docker/x\n",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n",  # the container sees its own group as the top
    "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/cpu/cpu.stat": "nr_throttled 3\nthrottled_time 2500000000\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2**30}\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{3 * 2**28}\n",
    "sys/fs/cgroup/memory/memory.stat": f"total_inactive_file {2**28}\n",
}


@pytest.mark.parametrize("files", [V2, V1], ids=["version 2", "version 1"])
def test_a_control_group_limits_cores_and_memory_and_tells_how_long_it_held_back(node, files):
    reader = node(files)
    assert (reader.n_cores, reader.memory) == (0.5, 2.0**30)
    assert reader.gauges().available == 2**29
    assert reader.usage().throttled == pytest.approx(2.5)


@pytest.mark.parametrize(
    "files",
    [
        {"sys/fs/cgroup/cpu.max": "max 100000", "sys/fs/cgroup/memory.max": "max"},
        {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/memory/memory.limit_in_bytes": str(2**63 - 4096)},
        {"sys/fs/cgroup/cpu.max": "", "sys/fs/cgroup/memory.max": "what"},
    ],
)
def test_a_control_group_without_a_limit_limits_nothing(node, files):
    reader = node({"proc/self/cgroup": "4:cpu:/\n5:memory:/\n0::/\n", **files})
    assert (reader.n_cores, reader.memory) == (2.0, 2.0**34)


@pytest.mark.parametrize(
    "sensor",
    [
        {"sys/class/hwmon/hwmon0/name": "nvme\n", "sys/class/hwmon/hwmon0/temp1_input": "1000\n"}
        | {"sys/class/hwmon/hwmon1/name": "k10temp\n", "sys/class/hwmon/hwmon1/temp1_input": "61500\n"},
        {"sys/class/thermal/thermal_zone2/type": "x86_pkg_temp\n", "sys/class/thermal/thermal_zone2/temp": "61500\n"},
    ],
)
def test_frequency_and_temperature_are_those_of_the_processor(node, sensor):
    gauges = node({"sys/devices/system/cpu/cpu3/cpufreq/scaling_cur_freq": "2450000\n", **sensor}, cores=(3,)).gauges()
    assert (gauges.megahertz, gauges.celsius) == (2450.0, 61.5)


def test_without_proc_psutil_is_asked(tmp_path):
    reader = NodeReader((0,), tmp_path)
    assert reader.memory == psutil.virtual_memory().total
    assert reader.usage().busy > 0
    assert reader.resident() == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)


def test_on_this_machine_a_process_that_works_is_seen_to_work():
    reader = NodeReader(own_grant().cores)
    before, end = reader.usage(), time.process_time() + 0.1
    while time.process_time() < end:
        pass
    now = reader.usage()
    assert 0.1 <= now.own - before.own < 0.3
    assert math.isnan(now.busy) or now.busy >= before.busy
    assert 0 < reader.gauges().available <= reader.memory
    assert reader.resident() > 1 << 20
