"""`postmean index s3://…` by a fleet, at a real object-store server: killed, resumed on another node; same bytes."""

import os
import shutil
import signal
from pathlib import Path

import pytest

from postmean.storage.open import open_storage
from tests.support.runs import finish, index, postmean, start, wait_until
from tests.support.stores import digits_store

pytestmark = pytest.mark.slow

ARGUMENTS = ("--flips", "--nearest=30", "--block-images=32", "--index=ivf4-sq8")
PARTS = "index/self-join-flips.parts"


def test_a_killed_index_goes_on_on_another_node_with_the_bytes_of_one_in_a_folder(
    seaweed_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_root: Path
) -> None:
    local = digits_store(tmp_path / "store", 300).path
    storage = open_storage(seaweed_url)
    for path in sorted(local.iterdir()):
        storage.put(path.name, path.read_bytes())
    assert index([str(local), "--flips", "--nearest=30", "--index=ivf4-sq8"]) == 0

    monkeypatch.setenv("POSTMEAN_STORE_CACHE", str(tmp_path / "one"))
    running = start("index", seaweed_url, *ARGUMENTS, "--actors=2")

    def has_begun() -> bool:
        assert running.poll() is None, running.communicate()
        return len(storage.list(f"{PARTS}/commits")) >= 5

    wait_until(has_begun, "5 parts")
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    done = storage.list(f"{PARTS}/commits")
    assert "stopped: run the same `postmean index` again to go on" in postmean("status", seaweed_url).stdout

    shutil.rmtree(tmp_path / "one")
    monkeypatch.setenv("POSTMEAN_STORE_CACHE", str(tmp_path / "other"))
    before = {path: storage.get(path) for path in done}
    again = start("index", seaweed_url, *ARGUMENTS, "--actors=2")
    wait_until(lambda: again.poll() is not None or len(storage.list(f"{PARTS}/commits")) > len(done), "more parts")
    kept = {path: storage.get(path) for path in storage.list(f"{PARTS}/commits") if path in before}
    ended = finish(again)
    assert ended.returncode == 0, ended.stderr
    assert all(before[path] == data for path, data in kept.items())
    expected = {f"index/{path.name}": path.read_bytes() for path in (local / "index").iterdir()}
    assert {path: storage.get(path) for path in storage.list("index")} == expected
    assert postmean("index", seaweed_url, *ARGUMENTS).returncode == 0  # nothing is left to do
    assert {path: storage.get(path) for path in storage.list("index")} == expected
