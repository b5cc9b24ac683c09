"""An embedded Ray's folder: nobody else gets in, and it leaves nothing behind, however the run ends."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from postmean.base.errors import ConfigError
from postmean.fleet.ray_folder import ray_folder
from postmean.fleet.ray_processes import processes_of
from tests.support.runs import finish, is_alive, postmean, start, wait_for_commits, wait_until

HOLD = """
import time
from postmean.fleet.ray_folder import ray_folder
with ray_folder() as folder:
    print(folder, flush=True)
    time.sleep(600)
"""
HOLD_WITH_A_PROCESS_OF_RAY = """
import os, subprocess, sys
from postmean.fleet.ray_folder import ray_folder
with ray_folder() as folder:
    os.makedirs(folder + "/logs")
    with open(folder + "/logs/worker.out", "w") as log:
        process = subprocess.Popen(["sleep", "600"], stdout=log, start_new_session=True)
    os.kill(process.pid, 19)  # frozen: it would not see that its parent dies
    print(folder, process.pid, flush=True)
    process.wait()
"""


def test_what_a_killed_run_left_is_removed_by_the_next_one_and_a_living_runs_is_not(ray_root: Path) -> None:
    runs = [subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    killed, living = (Path(run.stdout.readline().strip()).parent for run in runs)
    runs[0].kill()
    runs[0].wait()
    assert set(ray_root.iterdir()) == {killed, living}
    with ray_folder() as ours:
        assert set(ray_root.iterdir()) == {living, Path(ours).parent}
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
        assert list(ray_root.iterdir()) == [Path(folder).parent]
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
        assert Path(folder).parents[1] == Path("/tmp")
        assert list(long.iterdir()) == []


def test_a_place_where_others_may_rename_it_is_not_used(ray_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray_root.chmod(0o777)
    with ray_folder() as folder:
        assert Path(folder).parents[1] == Path("/tmp")
    ray_root.chmod(0o1777)
    with ray_folder() as folder:
        assert Path(folder).parents[1] == ray_root


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_cannot_rename_what_ray_opens_to_all(ray_root: Path) -> None:
    ray_root.chmod(0o1777)
    with ray_folder() as folder:
        sockets = Path(folder) / "session" / "sockets"
        sockets.mkdir(parents=True)
        for opened in (Path(folder), sockets.parent, sockets):
            opened.chmod(0o777)  # as Ray does
        steal = f"import os; os.setuid(65534); os.rename({str(sockets)!r}, {str(sockets) + '-mine'!r})"
        done = subprocess.run([sys.executable, "-c", steal], capture_output=True, text=True)
        assert "PermissionError" in done.stderr
        assert sockets.is_dir()


def test_what_a_killed_run_left_running_is_ended_by_the_next_one(ray_root: Path) -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", HOLD_WITH_A_PROCESS_OF_RAY], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert run.stdout is not None
    folder, pid = run.stdout.readline().split()
    assert processes_of(folder) == [int(pid)]
    with ray_folder():
        assert is_alive(int(pid)), "its run lives"
    run.kill()
    run.wait()
    with Path(folder).joinpath("logs", "worker.out").open() as log, ray_folder():  # whoever only reads is left alone
        assert log.readable()
        assert not is_alive(int(pid))
        assert not Path(folder).exists()


def test_without_locks_the_process_that_used_it_is_looked_for(ray_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    runs = [subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    killed, living = (Path(run.stdout.readline().strip()).parent for run in runs)
    runs[0].kill()
    runs[0].wait()
    monkeypatch.setattr(fcntl, "flock", no_locks)
    with ray_folder() as ours:
        assert set(ray_root.iterdir()) == {living, Path(ours).parent}, f"{killed} is gone"
    for damaged in ("", "x", "x 1", "x 1 y", " 1 1"):
        (living / "in-use").write_text(damaged)
        with ray_folder():
            assert living.exists()
    runs[1].kill()
    runs[1].wait()


def test_a_place_that_cannot_be_written_is_one_clear_line(ray_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (ray_root / "file").touch()
    monkeypatch.setenv("RAY_TMPDIR", str(ray_root / "file"))
    with pytest.raises(ConfigError, match=r"/file: cannot make Ray's folder there: .*: set RAY_TMPDIR"), ray_folder():
        pass
