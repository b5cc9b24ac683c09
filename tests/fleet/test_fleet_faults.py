"""Lasting faults: shards that fail or kill their process every time, frozen actors, full disks."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from postmean.cli.main import run
from tests.support.runs import actors_of, files_of, finish, postmean, start, wait_for_commits

Expected = dict[str, dict[str, bytes]]


def test_a_failure_of_a_shard_that_is_committed_after_all_is_taken_back(
    job: list[str], expected: Expected, tmp_path: Path
) -> None:
    """An actor may commit a shard and lose its connection before it reports that."""
    for path, data in expected["webdataset"].items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    (tmp_path / "failures").mkdir()
    (tmp_path / "failures" / "000003.json").write_text('{"shard": 3, "cause": "the actor cannot be reached"}')
    assert run(job[0], [*job[1:], f"--out={tmp_path}"]) == 0
    assert files_of(tmp_path) == expected["webdataset"]


@pytest.mark.slow
def test_a_frozen_actor_is_replaced_after_shard_seconds(job: list[str], expected: Expected, tmp_path: Path) -> None:
    running = start(*job, f"--out={tmp_path}", "--shard-seconds=5", "--attempts=5", "--json")
    wait_for_commits(tmp_path, 6, running)
    for actor in actors_of(running):  # one of them may still be loading
        os.kill(actor, signal.SIGSTOP)
    done = finish(running)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["retries"] >= 1
    assert files_of(tmp_path) == expected["webdataset"]


@pytest.mark.slow
def test_a_full_disk_stops_the_run_keeps_what_is_committed_and_resumes(
    job: list[str], expected: Expected, small_disk: Path
) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(600_000))
    out = small_disk / "run"
    done = postmean(*job, f"--out={out}")
    assert done.returncode == 3
    last = done.stderr.splitlines()[-1]
    assert "No space left on device: free space and run the same again" in last
    found = {path: data for path, data in files_of(out).items() if not path.startswith("failures/")}
    assert any(path.startswith("commits/") for path in found)
    assert found.items() <= expected["webdataset"].items()

    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    assert postmean(*job, f"--out={out}").returncode == 0
    assert files_of(out) == expected["webdataset"]


@pytest.mark.slow
def test_a_store_that_is_damaged_meanwhile_stops_the_run_and_mending_it_resumes(
    job: list[str], expected: Expected, tmp_path: Path, store
) -> None:
    """Every shard fails: the run gives up before all were tried, and names the cause."""
    copy = tmp_path / "store"
    shutil.copytree(store.path, copy)
    settings = [argument for argument in job if not argument.startswith("--store")]
    out = tmp_path / "run"
    running = start(*settings, f"--store={copy}", f"--out={out}")
    wait_for_commits(out, 3, running)
    # from now on, starting actors find a truncated store, and the actor that has mapped it dies of SIGBUS
    images = (copy / "images.npy").read_bytes()
    os.truncate(copy / "images.npy", 100)
    done = finish(running)
    assert done.returncode == 3
    assert "shards failed" in done.stderr.splitlines()[-1]
    failures = [json.loads(path.read_text()) for path in sorted((out / "failures").iterdir())]
    assert failures and any("images.npy" in f["cause"] or "process died" in f["cause"] for f in failures)
    assert postmean(*settings, f"--store={copy}", f"--out={out}").returncode == 2

    (copy / "images.npy").write_bytes(images)
    assert postmean(*settings, f"--store={copy}", f"--out={out}").returncode == 0
    assert files_of(out) == expected["webdataset"]
