"""An embedded Ray leaves no files behind, however the run ends."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from postmean.base.errors import ConfigError
from postmean.fleet.ray_folder import ray_folder
from tests.support.runs import finish, postmean, start, wait_for_commits, wait_until

HOLD = """
import time
from postmean.fleet.ray_folder import ray_folder
with ray_folder() as folder:
    print(folder, flush=True)
    time.sleep(600)
"""


def test_what_a_killed_run_left_is_removed_by_the_next_one_and_a_living_runs_is_not(ray_root: Path) -> None:
    runs = [subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    killed, living = (Path(run.stdout.readline().strip()) for run in runs)
    runs[0].kill()
    runs[0].wait()
    assert set(ray_root.iterdir()) == {killed, living}
    with ray_folder() as ours:
        assert set(ray_root.iterdir()) == {living, Path(ours)}
    runs[1].terminate()
    runs[1].wait()


@pytest.mark.slow
def test_nothing_is_left_of_a_run_that_fails(job: list[str], ray_root: Path, tmp_path: Path) -> None:
    (tmp_path / "shards" / "000007.tar" / "in the way").mkdir(parents=True)
    assert postmean(*job, f"--out={tmp_path}").returncode == 3
    assert list(ray_root.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_of_a_run_that_is_stopped_while_ray_starts(
    job: list[str], ray_root: Path, tmp_path: Path, signal_: signal.Signals
) -> None:
    stopped = start(*job, f"--out={tmp_path}")
    wait_until(lambda: any(ray_root.rglob("gcs_server*")), "Ray starts")
    stopped.send_signal(signal_)
    assert finish(stopped).returncode != 0
    assert list(ray_root.iterdir()) == []


@pytest.mark.slow
def test_nothing_is_left_after_ctrl_c_at_a_terminal(job: list[str], ray_root: Path, tmp_path: Path) -> None:
    """At a terminal, Ctrl-C reaches all of Ray's processes too."""
    stopped = start(*job, f"--out={tmp_path}")
    wait_for_commits(tmp_path, 3, stopped)
    os.killpg(stopped.pid, signal.SIGINT)
    assert finish(stopped).returncode == 130
    assert list(ray_root.iterdir()) == []


def test_the_folder_goes_with_all_that_is_in_it_also_after_an_error(ray_root: Path) -> None:
    with pytest.raises(KeyboardInterrupt), ray_folder() as folder:
        assert [str(path) for path in ray_root.iterdir()] == [folder]
        (Path(folder) / "session" / "sockets").mkdir(parents=True)
        (Path(folder) / "session" / "sockets" / "plasma_store").touch()
        (Path(folder) / "session_latest").symlink_to("session")
        raise KeyboardInterrupt
    assert list(ray_root.iterdir()) == []


@pytest.mark.parametrize("variable", ["RAY_TMPDIR", "TMPDIR"])
def test_a_path_too_long_for_sockets_is_not_used(
    variable: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    long = tmp_path / ("a" * 60)
    long.mkdir()
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", None)  # else Python keeps the earlier folder
    monkeypatch.setenv(variable, str(long))
    with ray_folder() as folder:
        assert Path(folder).parent == Path("/tmp")
        assert list(long.iterdir()) == []


def test_a_place_that_cannot_be_written_is_one_clear_line(ray_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (ray_root / "file").touch()
    monkeypatch.setenv("RAY_TMPDIR", str(ray_root / "file"))
    with pytest.raises(ConfigError, match=r"/file: cannot make Ray's folder there: .*: set RAY_TMPDIR"), ray_folder():
        pass
