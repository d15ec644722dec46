"""What a process can tell of the node it runs on: cores, memory, load, and who else takes its processor time.

From psutil and, of single cores, control groups and sensors, from /proc and /sys (Linux). What a system does not tell
is NaN.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import psutil

from distsoftmax.cluster.control_groups import control_groups, cores_granted, text_of

NAN = math.nan
ROOT = Path("/")
CORE_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "x86_pkg_temp")  # names that drivers give theirs


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Processor time so far, in seconds.

    Attributes
    ----------
    own : float
        Of this process, on all its threads.
    busy, stolen : float
        Of the cores it may use: all work done there, its own included; and what a hypervisor gave to other machines.
    throttled : float
        For which a limit of its control group has kept it from running.
    """

    own: float
    busy: float
    stolen: float
    throttled: float


@dataclass(frozen=True, kw_only=True)
class Gauges:
    """What a node shows at a moment.

    Attributes
    ----------
    load : float
        Processes that run or wait to, a mean of the last minute.
    available : float
        Bytes of memory that may still be taken, within the limit of the control group.
    megahertz, celsius : float
        Of a core that this process may use; the processor's temperature.
    """

    load: float
    available: float
    megahertz: float
    celsius: float


UNKNOWN = Gauges(load=NAN, available=NAN, megahertz=NAN, celsius=NAN)


class NodeReader:
    """Reads the state of this node. Not collective.

    Parameters
    ----------
    cores : collection of int
        Those that this process may use.
    root : Path, optional
        Where /proc and /sys lie.

    Attributes
    ----------
    n_cores : float
        How many it may use, and no more than the limit of its control group.
    memory : float
        Bytes of the node, and no more than that limit.
    """

    def __init__(self, cores: Collection[int], root: Path = ROOT) -> None:
        self._cores = frozenset(cores)
        self._root = root
        self._groups = list(control_groups(root))
        self.n_cores = min([float(len(cores)), *filter(None, map(cores_granted, self._groups))])
        self._memory_limits = [(limit, group) for group in self._groups if (limit := _memory_limit(group)) is not None]
        self.memory = min([_memory()[0], *(limit for limit, _ in self._memory_limits)])
        self._frequency = root / f"sys/devices/system/cpu/cpu{min(cores, default=0)}/cpufreq/scaling_cur_freq"
        self._sensor = _sensor(root)

    def usage(self) -> Usage:
        """Return the processor time so far."""
        text = text_of(self._root / "proc/stat")
        busy, stolen = core_seconds(text, self._cores) if text else _core_seconds_elsewhere()
        throttled = [seconds for group in self._groups if (seconds := _throttled(group)) is not None]
        return Usage(own=time.process_time(), busy=busy, stolen=stolen, throttled=max(throttled, default=NAN))

    def gauges(self) -> Gauges:
        """Return what the node shows now."""
        free = [limit - used for limit, group in self._memory_limits if (used := _memory_used(group)) is not None]
        return Gauges(
            load=_load(),
            available=max(min([_memory()[1], *free]), 0.0),  # in this order NaN stays
            megahertz=_number(self._frequency) / 1e3,
            celsius=NAN if self._sensor is None else _number(self._sensor) / 1e3,
        )

    def resident(self) -> float:
        """Return the bytes of memory that this process occupies."""
        try:
            return float(psutil.Process().memory_info().rss)
        except (OSError, psutil.Error):
            return NAN


def core_seconds(text: str, cores: Collection[int]) -> tuple[float, float]:
    r"""Return for how long cores have been busy, and for how long others had them, as /proc/stat says: proc(5).

    Examples
    --------
    >>> core_seconds("cpu  0 0 0 0\ncpu0 100 0 50 900 10 0 0 20 0 0\ncpu1 7 0 0 0 0 0 0 0", {0}) == (
    ...     150 / os.sysconf("SC_CLK_TCK"), 20 / os.sysconf("SC_CLK_TCK"))
    True
    """
    busy = stolen = 0
    is_known = False
    for line in text.splitlines():
        name, *words = line.split()
        if not name.startswith("cpu"):
            break  # they come first, and the line of interrupts is long
        if name[3:].isdecimal() and int(name[3:]) in cores:
            counts = [int(word) for word in words[:8]] + [0] * (8 - len(words))
            user, nice, system, _idle, _waiting, interrupts, soft_interrupts, steal = counts
            busy += user + nice + system + interrupts + soft_interrupts
            stolen += steal
            is_known = True
    tick = os.sysconf("SC_CLK_TCK")
    return (busy / tick, stolen / tick) if is_known else (NAN, NAN)


def _memory_limit(group: Path) -> float | None:
    text = (text_of(group / "memory.max") or text_of(group / "memory.limit_in_bytes")).strip()
    return float(text) if text.isdecimal() and int(text) < 1 << 60 else None  # version 1 writes 2^63 for none


def _memory_used(group: Path) -> float | None:
    """Return what is taken of a limit, without files that are kept only as long as nobody needs the room."""
    used = (text_of(group / "memory.current") or text_of(group / "memory.usage_in_bytes")).strip()
    counts = dict(line.split(" ", 1) for line in text_of(group / "memory.stat").splitlines() if " " in line)
    files = counts.get("total_inactive_file", counts.get("inactive_file", "0"))
    return float(int(used) - int(files)) if used.isdecimal() and files.isdecimal() else None


def _throttled(group: Path) -> float | None:
    counts = dict(line.split(" ", 1) for line in text_of(group / "cpu.stat").splitlines() if " " in line)
    for name, unit in (("throttled_usec", 1e-6), ("throttled_time", 1e-9)):
        if counts.get(name, "").isdecimal():
            return int(counts[name]) * unit
    return None


def _sensor(root: Path) -> Path | None:
    """Return the file of a temperature of the processor, in thousandths of a degree."""
    for pattern, name, reading in (
        ("sys/class/hwmon/hwmon*", "name", "temp1_input"),
        ("sys/class/thermal/thermal_zone*", "type", "temp"),
    ):
        for folder in sorted(root.glob(pattern)):
            if text_of(folder / name).strip() in CORE_SENSORS and text_of(folder / reading):
                return folder / reading
    return None


def _core_seconds_elsewhere() -> tuple[float, float]:
    """Return for how long the machine's cores have been busy, where there is no /proc; nobody steals there."""
    try:
        times = psutil.cpu_times()
    except (OSError, psutil.Error):
        return NAN, NAN
    return times.user + times.system + getattr(times, "nice", 0.0), 0.0


def _memory() -> tuple[float, float]:
    """Return the bytes of memory of the node, and those that may still be taken."""
    try:
        memory = psutil.virtual_memory()
    except (OSError, KeyError, psutil.Error):  # KeyError: of a /proc/meminfo that does not tell all
        return NAN, NAN
    return float(memory.total), float(memory.available)


def _load() -> float:
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):  # without /proc/loadavg
        return NAN


def _number(path: Path) -> float:
    text = text_of(path).strip()
    return float(text) if text.lstrip("-").isdecimal() else NAN
