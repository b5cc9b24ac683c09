"""The CPU cores that this process may use, which may be fewer than the machine has.

`taskset`, Slurm and cpusets limit the cores themselves (affinity); containers also limit the CPU time (the quota of a
cgroup). No other file asks the operating system for its cores.
"""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from postmean.base.cgroups import PROCESS, cgroups


def usable_cores(process: Path = PROCESS) -> int:
    """Cores that this process may use, at least 1: those of its affinity, but no more than whole cores of its quota.

    Args:
        process: folder with the process's `cgroup` and `mountinfo`.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else machine_cores()
    return max(1, math.floor(min([allowed, *_quotas(process)])))


def machine_cores() -> int:
    """Cores of the machine."""
    return os.cpu_count() or 1


def _quotas(process: Path) -> Iterator[float]:
    """The quota in cores of each cgroup that has one."""
    for version, folder in cgroups("cpu", process):
        with suppress(OSError, ValueError, ZeroDivisionError):  # the topmost cgroup has no such files
            yield _quota_v2(folder) if version == 2 else _quota_v1(folder)


def _quota_v2(folder: Path) -> float:
    quota, period = (folder / "cpu.max").read_text().split()
    return math.inf if quota == "max" else int(quota) / int(period)


def _quota_v1(folder: Path) -> float:
    quota = int((folder / "cpu.cfs_quota_us").read_text())
    return math.inf if quota < 0 else quota / int((folder / "cpu.cfs_period_us").read_text())
