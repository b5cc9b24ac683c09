"""The CPU cores that this process may use, which may be fewer than the machine has.

`taskset`, Slurm and cpusets limit the cores themselves (affinity); containers also limit the CPU time (the quota of a
cgroup). No other file asks the operating system for its cores.
"""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PROCESS = Path("/proc/self")


def usable_cores(process: Path = _PROCESS) -> int:
    """Cores that this process may use, at least 1: those of its affinity, but no more than whole cores of its quota.

    Args:
        process: folder with the process's `cgroup` and `mountinfo`.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.floor(min([allowed, *_quotas(process)])))


def _quotas(process: Path) -> Iterator[float]:
    """The quota in cores of each cgroup that the process is in, and of those above; nothing where there is none."""
    try:
        groups = [line.split(":", 2) for line in (process / "cgroup").read_text().splitlines()]
        mounts = [line.split() for line in (process / "mountinfo").read_text().splitlines()]
    except (OSError, UnicodeDecodeError):
        return  # not Linux, or /proc is hidden
    for mount in mounts:
        kind = mount[mount.index("-", 6) + 1]
        if kind == "cgroup2":
            path, quota = next((g[2] for g in groups if g[:2] == ["0", ""]), None), _quota_v2
        elif kind == "cgroup" and "cpu" in mount[-1].split(","):
            path, quota = next((g[2] for g in groups if "cpu" in g[1].split(",")), None), _quota_v1
        else:
            continue
        if path is not None:
            for folder in _levels(Path(mount[4]), mount[3], path):
                with suppress(OSError, ValueError, ZeroDivisionError):  # the topmost cgroup has no such files
                    yield quota(folder)


def _levels(mount: Path, root: str, path: str) -> Iterator[Path]:
    """Folders of a cgroup and of those above it, as far as they are mounted.

    Args:
        root: the cgroup that is mounted at `mount`. In a container it may be the process's own, or unrelated to `path`.
    """
    below = Path(path).relative_to(root) if Path(path).is_relative_to(root) else Path()
    folder = mount / below
    yield from (folder, *(above for above in folder.parents if above.is_relative_to(mount)))


def _quota_v2(folder: Path) -> float:
    quota, period = (folder / "cpu.max").read_text().split()
    return math.inf if quota == "max" else int(quota) / int(period)


def _quota_v1(folder: Path) -> float:
    quota = int((folder / "cpu.cfs_quota_us").read_text())
    return math.inf if quota < 0 else quota / int((folder / "cpu.cfs_period_us").read_text())
