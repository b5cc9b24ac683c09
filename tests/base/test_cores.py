"""Cores are those that a process may use: its affinity and the quotas of its cgroups, not the machine's."""

import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postmean.base.cores import usable_cores

ROOT = Path(__file__).parents[2]
ASK = "from postmean.base.cores import usable_cores; print(usable_cores())"
HERE = len(os.sched_getaffinity(0))


def process(folder: Path, cgroup: str, mounts: str) -> Path:
    """A folder like /proc/self."""
    (folder / "cgroup").write_text(cgroup)
    (folder / "mountinfo").write_text(mounts)
    return folder


def v2(folder: Path, levels: list[str], path: str, root: str = "/") -> Path:
    """A process in cgroup `path` of version 2; the levels from the mount point down have these cpu.max."""
    below = folder / "cgroup2"
    for number, limit in enumerate(levels):
        below = below / f"level{number}" if number else below
        below.mkdir(exist_ok=True)
        if limit:
            (below / "cpu.max").write_text(limit + "\n")
    mounts = (
        f"31 23 0:28 / / rw - ext4 /dev/vda rw\n32 31 0:29 {root} {folder}/cgroup2 rw shared:4 - cgroup2 cgroup2 rw\n"
    )
    return process(folder, f"4:memory:/else\n0::{path}\n", mounts)


@given(st.lists(st.none() | st.integers(1_000, 400_000), min_size=1, max_size=4))
def test_the_least_quota_from_the_process_up_counts_in_whole_cores(quotas: list[int | None]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        levels = ["max 100000" if quota is None else f"{quota} 100000" for quota in quotas]
        path = "/" + "/".join(f"level{number}" for number in range(1, len(levels)))
        least = min([quota / 100_000 for quota in quotas if quota is not None], default=math.inf)
        assert usable_cores(v2(Path(folder), levels, path)) == max(1, math.floor(min(HERE, least)))


def test_a_container_sees_its_own_group_as_the_root(tmp_path: Path) -> None:
    folder = v2(tmp_path, ["100000 100000"], "/docker/0123", root="/docker/0123")
    assert usable_cores(folder) == 1
    (tmp_path / "cgroup").write_text("0::/elsewhere\n")
    assert usable_cores(folder) == 1, "a path that is not mounted: the mount itself"


@pytest.mark.parametrize(("quota", "cores"), [("-1", HERE), ("100000", 1), ("50000", 1)])
def test_version_1_of_cgroups(tmp_path: Path, quota: str, cores: int) -> None:
    group = tmp_path / "cpu" / "slurm" / "job_7"
    group.mkdir(parents=True)
    (group / "cpu.cfs_quota_us").write_text(quota)
    (group / "cpu.cfs_period_us").write_text("100000")
    mounts = f"32 31 0:29 / {tmp_path}/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
    assert usable_cores(process(tmp_path, "3:cpu,cpuacct:/slurm/job_7\n0::/\n", mounts)) == cores


@pytest.mark.parametrize("limit", ["", "garbage", "1 0", "max"])
def test_what_cannot_be_read_limits_nothing(tmp_path: Path, limit: str) -> None:
    assert usable_cores(v2(tmp_path, [limit], "/")) == HERE
    assert usable_cores(tmp_path / "no proc") == HERE


def test_affinity_counts() -> None:
    one = min(os.sched_getaffinity(0))
    asked = subprocess.run(
        [sys.executable, "-c", f"import os; os.sched_setaffinity(0, [{one}]); {ASK}"], capture_output=True, text=True
    )
    assert asked.stdout == "1\n", asked.stderr


@pytest.fixture
def half_a_core() -> Iterator[Path]:
    """A real cgroup with a quota of half a core."""
    for mount, limit, value in (
        ("/sys/fs/cgroup", "cpu.max", "50000 100000"),
        ("/sys/fs/cgroup/cpu", "cpu.cfs_quota_us", "50000"),
        ("/sys/fs/cgroup/cpu,cpuacct", "cpu.cfs_quota_us", "50000"),
    ):
        group = Path(mount) / f"postmean-test-{os.getpid()}"
        try:
            group.mkdir()
            with (group / limit).open("r+") as file:  # where a cgroup can be made, the kernel has made the file
                file.write(value)
        except OSError:
            with suppress(OSError):
                group.rmdir()
            continue
        yield group
        group.rmdir()
        return
    pytest.skip("no cgroup with a quota can be made here")


@pytest.mark.skipif(HERE < 2, reason="needs two cores")
def test_a_real_quota_counts(half_a_core: Path) -> None:
    join = f"import os; open('{half_a_core}/cgroup.procs', 'w').write(str(os.getpid())); {ASK}"
    assert subprocess.run([sys.executable, "-c", join], capture_output=True, text=True).stdout == "1\n"


def test_nobody_else_asks_the_system_for_its_cores() -> None:
    files = [
        ROOT / "Makefile",
        *(path for top in ("pipeline", "training", "benchmarks") for path in (ROOT / top).rglob("*.py")),
    ]
    asking = [path.name for path in files if any(w in path.read_text() for w in ("cpu_count(", "sched_getaffinity"))]
    assert asking == ["cores.py"]
