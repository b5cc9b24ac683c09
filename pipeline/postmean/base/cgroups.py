"""The cgroups that this process is in: containers and schedulers limit CPU time and memory by them."""

from collections.abc import Iterator
from pathlib import Path

PROCESS = Path("/proc/self")


def cgroups(controller: str, process: Path = PROCESS) -> Iterator[tuple[int, Path]]:
    """(version, folder) of each cgroup of the process, and of those above it, as far as they are mounted.

    Args:
        controller: of version 1, `cpu` or `memory`; in version 2 a cgroup has all of them.
        process: folder with the process's `cgroup` and `mountinfo`.
    """
    try:
        groups = [line.split(":", 2) for line in (process / "cgroup").read_text().splitlines()]
        mounts = [line.split() for line in (process / "mountinfo").read_text().splitlines()]
    except (OSError, UnicodeDecodeError):
        return  # not Linux, or /proc is hidden
    for mount in mounts:
        kind = mount[mount.index("-", 6) + 1]
        if kind == "cgroup2":
            version, path = 2, next((g[2] for g in groups if g[:2] == ["0", ""]), None)
        elif kind == "cgroup" and controller in mount[-1].split(","):
            version, path = 1, next((g[2] for g in groups if controller in g[1].split(",")), None)
        else:
            continue
        if path is not None:
            yield from ((version, folder) for folder in _levels(Path(mount[4]), mount[3], path))


def _levels(mount: Path, root: str, path: str) -> Iterator[Path]:
    """Folders of a cgroup and of those above it, as far as they are mounted.

    Args:
        root: the cgroup that is mounted at `mount`. In a container it may be the process's own, or unrelated to `path`.
    """
    below = Path(path).relative_to(root) if Path(path).is_relative_to(root) else Path()
    folder = mount / below
    yield from (folder, *(above for above in folder.parents if above.is_relative_to(mount)))
