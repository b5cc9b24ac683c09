"""A run's bytes depend only on its settings, not on actors, kills, interruptions or resumption."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from postmean.cli.main import run
from postmean.contract.plan import Plan
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

Expected = dict[str, dict[str, bytes]]
LONGEST_SOCKET = 107  # bytes of a path


def commits(files: dict[str, bytes]) -> int:
    return sum(path.startswith("commits/") for path in files)


def test_stopped_failed_and_resumed_with_other_actors_gives_the_bytes_of_one_replica(
    job: list[str], expected: Expected, ray_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One run, three commands: each checks another end of a command, because each start of Ray takes seconds.

    `test_generate_into_object_store.py` kills the command itself.
    """
    arguments = [*job, f"--out={tmp_path}", "--format=zarr"]
    shards = commits(expected["zarr"])

    # SIGTERM with 2 actors: one line, code 130, nothing half-written, nothing left running, nothing left of Ray's files
    stopped = start(*arguments)
    wait_for_commits(tmp_path, 3, stopped)
    assert [len(os.fsencode(path)) <= LONGEST_SOCKET for path in ray_root.rglob("plasma_store")] == [True]
    below = descendants(stopped.pid)
    stopped.send_signal(signal.SIGTERM)
    done = finish(stopped)
    assert done.returncode == 130
    assert done.stdout == ""
    assert_one_line(done.stderr, "interrupted: run the same command again to go on")
    files = files_of(tmp_path)
    assert 3 <= commits(files) < shards
    assert files.items() <= expected["zarr"].items()
    assert not any(map(is_alive, below))
    assert list(ray_root.iterdir()) == []

    # an actor of 2 with up to 3 shards each is killed, and a folder lies where a chunk of the last shard belongs
    obstacle = tmp_path / f"targets.zarr/ess/c.{shards - 1}/in-the-way"
    obstacle.mkdir(parents=True)
    running = start(*arguments, "--json", "--shards-at-a-time=3")
    wait_for_commits(tmp_path, commits(files) + 1, running)
    os.kill(actors_of(running)[0], signal.SIGKILL)
    done = finish(running)
    assert done.returncode == 3, done.stderr
    assert done.stdout == ""
    assert_one_line(
        done.stderr, f"1 of {shards} shards failed, first shard {shards - 1:06d}", f"targets.zarr/ess/c.{shards - 1}"
    )
    assert commits(files_of(tmp_path)) == shards - 1
    failure = json.loads((tmp_path / f"failures/{shards - 1:06d}.json").read_text())
    row = Plan.from_bytes(expected["zarr"]["plan.parquet"], "plan")[shards - 1]
    assert (failure["shard"], failure["first_tuple"], failure["last_tuple"]) == (
        shards - 1,
        row.first_tuple,
        row.last_tuple,
    )
    assert "Is a directory" in failure["cause"]

    # the failed shard with 1 actor, from this process
    obstacle.rmdir()
    obstacle.parent.rmdir()
    assert run("generate", [*arguments[1:], "--actors=1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["written"] == 1
    assert files_of(tmp_path) == expected["zarr"]
    assert list(ray_root.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("format", ["webdataset", "zarr"])
@pytest.mark.parametrize("actors", [1, 2, 3])
def test_shard_bytes_do_not_depend_on_actor_count(
    job: list[str], expected: Expected, tmp_path: Path, actors: int, format: str
) -> None:
    assert postmean(*job, f"--out={tmp_path}", f"--actors={actors}", f"--format={format}").returncode == 0
    assert files_of(tmp_path) == expected[format]


@pytest.mark.slow
def test_ctrl_c_at_a_terminal_reaches_all_processes_and_stops_the_command(
    job: list[str], expected: Expected, tmp_path: Path
) -> None:
    stopped = start(*job, f"--out={tmp_path}")
    wait_for_commits(tmp_path, 3, stopped)
    below = descendants(stopped.pid)
    os.killpg(stopped.pid, signal.SIGINT)
    done = finish(stopped)
    assert done.returncode == 130
    assert_one_line(done.stderr, "interrupted: run the same command again to go on")
    assert not any(map(is_alive, below))
    assert postmean(*job, f"--out={tmp_path}").returncode == 0
    assert files_of(tmp_path) == expected["webdataset"]


@pytest.mark.slow
@pytest.mark.parametrize("round", range(6))
def test_kills_at_any_moment_lose_nothing(job: list[str], expected: Expected, tmp_path: Path, round: int) -> None:
    """Actor, raylet and command are killed in turn, at different moments in each round."""
    for attempt in range(3):
        running = start(*job, f"--out={tmp_path}", "--attempts=9")
        time.sleep(3.0 + 0.7 * round + 1.1 * attempt)
        if running.poll() is not None:
            break
        victims = [actors_of(running)[:1], [running.pid], raylets_of(running.pid)][(round + attempt) % 3]
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        if running.pid not in victims:
            time.sleep(1.0)
        running.kill()
        running.communicate()
    done = postmean(*job, f"--out={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert files_of(tmp_path) == expected["webdataset"]


@pytest.mark.slow
@pytest.mark.parametrize("stderr", ["2>/dev/full", "2>&-", "2>&1 >/dev/null | true"])
def test_a_run_without_a_stderr_finishes(job: list[str], expected: Expected, tmp_path: Path, stderr: str) -> None:
    command = shlex.join([sys.executable, "-m", "postmean", *job, f"--out={tmp_path}"])
    subprocess.run(f"{command} {stderr}", shell=True, timeout=PATIENCE, stdout=subprocess.DEVNULL)  # noqa: S602
    assert files_of(tmp_path) == expected["webdataset"]


def raylets_of(pid: int) -> list[int]:
    return [child for child, title in descendants(pid).items() if "/raylet/raylet" in title]


@pytest.mark.slow
def test_nothing_of_ray_is_left_after_the_command_was_killed(job: list[str], tmp_path: Path) -> None:
    running = start(*job, f"--out={tmp_path}")
    wait_for_commits(tmp_path, 3, running)
    below = descendants(running.pid)
    running.kill()
    running.communicate()
    # Ray's two agents try to report the loss to the GCS for a minute before they end
    wait_until(lambda: not any(map(is_alive, below)), "all of Ray's processes end with the command")


@pytest.mark.slow
def test_after_a_lost_raylet_the_same_command_goes_on(job: list[str], expected: Expected, tmp_path: Path) -> None:
    running = start(*job, f"--out={tmp_path}")
    wait_for_commits(tmp_path, 3, running)
    for pid in raylets_of(running.pid):
        os.kill(pid, signal.SIGKILL)
    done = finish(running)
    assert done.returncode in (0, 3), done
    assert postmean(*job, f"--out={tmp_path}").returncode == 0
    assert files_of(tmp_path) == expected["webdataset"]
