"""The memory that this process may use, which may be less than the machine has."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from postmean.base.cgroups import PROCESS, cgroups

_FILES = {1: ("memory.limit_in_bytes", "memory.usage_in_bytes"), 2: ("memory.max", "memory.current")}


def usable_memory(process: Path = PROCESS, meminfo: Path = Path("/proc/meminfo")) -> tuple[int, int] | None:
    """Bytes that this process and its children may have in all, and that are free now; None where nobody says.

    Args:
        process: folder with the process's `cgroup` and `mountinfo`.
    """
    try:
        pairs = (line.split()[:2] for line in meminfo.read_text().splitlines())
        kilobytes = {name.rstrip(":"): int(value) for name, value in pairs}
        total, free = kilobytes["MemTotal"] * 1024, kilobytes["MemAvailable"] * 1024
    except (OSError, ValueError, KeyError):
        return None
    limits = [(total, free), *_limits(process)]
    return min(limit for limit, _ in limits), max(0, min(left for _, left in limits))


def _limits(process: Path) -> Iterator[tuple[int, int]]:
    """(limit, what is left of it) of each cgroup that has a limit. Pages of files that may be dropped count as used."""
    for version, folder in cgroups("memory", process):
        with suppress(OSError, ValueError):  # "max" is no number: no limit
            limit, used = (int((folder / name).read_text()) for name in _FILES[version])
            yield limit, limit - used
