"""The control groups of this process, by which Linux limits the cores and the memory of a container or a job."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def control_groups(root: Path) -> Iterator[Path]:
    """Yield the folders of this process's control groups, version 1 or 2, and of those around them: cgroups(7).

    Within a container the path that the kernel tells may lie outside of what is mounted: then the mount itself counts.
    """
    mount = root / "sys/fs/cgroup"
    for line in text_of(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            if controller in ("cpu", "memory", ""):
                top = mount / controller if controller else mount
                own = top / path.lstrip("/")
                while own != top:
                    if os.path.isdir(own):  # Path.is_dir raises where a folder above it is closed
                        yield own
                    own = own.parent
                if os.path.isdir(top):
                    yield top


def cores_granted(group: Path) -> float | None:
    """Return the cores whose time a control group may take at once; None for no limit."""
    quota, _, period = text_of(group / "cpu.max").strip().partition(" ")  # version 2
    if not quota:
        quota, period = (text_of(group / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
    if quota.isdecimal() and period.isdecimal() and int(quota) and int(period):
        return int(quota) / int(period)
    return None


def text_of(path: Path) -> str:
    """Return what a file says; nothing where it cannot be read."""
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
