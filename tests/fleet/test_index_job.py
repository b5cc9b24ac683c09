"""`postmean index` by real processes: the same bytes with any actors, after kills, and what `status` says meanwhile."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from postmean.cli.main import run
from tests.support.runs import actors_of, finish, index, postmean, start, wait_until
from tests.support.stores import digits_store

ARGUMENTS = ("--flips", "--nearest=30", "--block-images=32", "--index=ivf4-sq8")
"""300 images in 10 blocks: 55 units of pairs, 10 of rows, one that trains, one that adds."""
UNITS = 67


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return digits_store(tmp_path_factory.mktemp("plain") / "store", 300).path


@pytest.fixture
def store(plain: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(plain, tmp_path / "store"))


@pytest.fixture(scope="module")
def expected(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one unit in memory gives."""
    whole = Path(shutil.copytree(plain, tmp_path_factory.mktemp("whole") / "store"))
    assert index([str(whole), "--flips", "--nearest=30", "--index=ivf4-sq8"]) == 0
    return files(whole)


def files(store: Path) -> dict[str, bytes]:
    return {str(p.relative_to(store)): p.read_bytes() for p in (store / "index").rglob("*") if p.is_file()}


def parts(store: Path) -> int:
    return len(list((store / "index" / "self-join-flips.parts" / "commits").glob("*.json")))


def wait_for_parts(store: Path, count: int, running: subprocess.Popen) -> None:
    def holds() -> bool:
        assert running.poll() is None, running.communicate()
        return parts(store) >= count

    wait_until(holds, f"{count} parts")


def kill(running: subprocess.Popen) -> None:
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()


def test_killed_with_actors_and_resumed_without_gives_the_bytes_of_one_unit(
    store: Path, expected: dict[str, bytes], ray_root: Path, capsys: pytest.CaptureFixture[str]
):
    def status(*flags: str) -> str:
        capsys.readouterr()
        assert run("status", [str(store), *flags]) == 0
        return capsys.readouterr().out

    running = start("index", store, *ARGUMENTS, "--actors=2")
    wait_for_parts(store, 5, running)
    os.kill(running.pid, signal.SIGSTOP)
    shown = json.loads(status("--json"))
    assert not shown["indexes"] and shown["being_made"][0]["state"] == "running"
    assert run("index", [str(store), *ARGUMENTS]) == 3
    assert "another `postmean index` is at work there" in capsys.readouterr().err
    kill(running)
    done = parts(store)
    assert 5 <= done < UNITS
    stopped = status()
    assert "stopped: run the same `postmean index` again to go on" in stopped and f"of {UNITS}" in stopped
    assert run("index", [str(store), *ARGUMENTS]) == 0
    assert files(store) == expected
    assert status().splitlines() == [f"{store}: indexed: ivf4-sq8-flips.faiss, self-join-flips.npz"]


@pytest.mark.slow
def test_three_actors_of_which_one_is_killed_give_the_same_bytes(
    store: Path, expected: dict[str, bytes], ray_root: Path
):
    running = start("index", store, *ARGUMENTS, "--actors=3", "--attempts=9")
    wait_for_parts(store, 3, running)
    os.kill(actors_of(running)[0], signal.SIGKILL)
    done = finish(running)
    assert done.returncode == 0, done.stderr
    assert files(store) == expected


@pytest.mark.slow
def test_a_unit_that_fails_is_reported_with_its_cause_and_made_by_the_next_call(
    store: Path, expected: dict[str, bytes], ray_root: Path
):
    commits = store / "index" / "self-join-flips.parts" / "commits"
    commits.mkdir(parents=True)
    (commits / "pairs-000007.json").mkdir()  # its commit record cannot be written
    done = postmean("index", store, *ARGUMENTS, "--actors=1")
    assert done.returncode == 3
    assert "1 of 67 units of the index failed, first pairs-000007: " in done.stderr.splitlines()[-1]
    status = json.loads(postmean("status", store, "--json").stdout)["being_made"][0]
    assert status["state"] == "stopped" and list(status["failures"]) == ["pairs-000007"]
    (commits / "pairs-000007.json").rmdir()
    assert postmean("index", store, *ARGUMENTS).returncode == 0
    assert files(store) == expected
