"""A raylet or GCS that freezes keeps no command from its end, holds no lease, and is not left running."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.runs import (
    PATIENCE,
    actors_of,
    assert_one_line,
    descendants,
    files_of,
    finish,
    is_alive,
    postmean,
    start,
    wait_for_commits,
    wait_until,
)

pytestmark = pytest.mark.slow
Expected = dict[str, dict[str, bytes]]
TITLES = {"raylet": ("/raylet/raylet",), "gcs": ("gcs_server",), "both": ("/raylet/raylet", "gcs_server")}


def freeze(running: subprocess.Popen, victim: str) -> list[int]:
    """Freeze these processes; returns all of Ray's."""
    below = descendants(running.pid)
    for pid, title in below.items():
        if any(part in title for part in TITLES[victim]):
            os.kill(pid, signal.SIGSTOP)
    return list(below)


@pytest.mark.parametrize("victim", TITLES)
def test_a_run_ends_by_itself_and_leaves_nothing(
    job: list[str], expected: Expected, ray_root: Path, tmp_path: Path, victim: str
) -> None:
    running = start(*job, f"--out={tmp_path}")
    wait_for_commits(tmp_path, 3, running)
    below = freeze(running, victim)
    done = finish(running)
    assert done.returncode in (0, 3), done.stderr
    assert not any(map(is_alive, below))
    assert list(ray_root.iterdir()) == []
    assert postmean(*job, f"--out={tmp_path}").returncode == 0
    assert files_of(tmp_path) == expected["webdataset"]


@pytest.mark.parametrize("victim", ["raylet", "gcs"])
def test_a_signal_ends_a_run_whose_ray_froze_as_it_started(
    job: list[str], ray_root: Path, tmp_path: Path, victim: str
) -> None:
    running = start(*job, f"--out={tmp_path}")
    title = TITLES[victim][0]
    wait_until(lambda: any(title in name for name in descendants(running.pid).values()), f"{victim} runs")
    below = freeze(running, victim)
    time.sleep(3)
    below += descendants(running.pid)
    running.send_signal(signal.SIGTERM)
    done = finish(running)
    assert done.returncode == 130
    assert_one_line(done.stderr, "interrupted: run the same command again to go on")
    assert not any(map(is_alive, below))
    assert list(ray_root.iterdir()) == []


def test_a_second_signal_ends_all_at_once_and_the_next_driver_need_not_wait(
    job: list[str], expected: Expected, ray_root: Path, tmp_path: Path
) -> None:
    running = start(*job, f"--out={tmp_path}")
    wait_for_commits(tmp_path, 3, running)
    below = freeze(running, "both")
    for pid in actors_of(running)[:1]:
        os.kill(pid, signal.SIGSTOP)
    running.send_signal(signal.SIGHUP)
    time.sleep(1.5)
    assert running.poll() is None
    running.send_signal(signal.SIGTERM)
    _, err = running.communicate(timeout=PATIENCE)
    assert running.returncode == 130
    assert "ended at once (a second signal): run the same command again to go on" in err
    wait_until(lambda: not any(map(is_alive, below)), "all of Ray's processes are gone")
    assert list(ray_root.iterdir()) == []
    done = postmean(*job, f"--out={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert files_of(tmp_path) == expected["webdataset"]
