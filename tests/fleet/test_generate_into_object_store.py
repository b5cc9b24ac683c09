"""`postmean generate --out s3://...`: the same bytes as in a folder, whatever dies or fails."""

import json
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from postmean.cli.main import run
from postmean.contract.image_store import ImageStore
from postmean.shards.run_folder import RunFolder
from postmean.storage.open import open_storage
from postmean.storage.storage import Storage
from postmean.training.stream.stream import TargetStream
from tests.fleet.conftest import config
from tests.support.faulty_proxy import faulty_proxy, share_of
from tests.support.runs import (
    assert_one_line,
    descendants,
    finish,
    is_alive,
    make_by_hand,
    start,
    wait_until,
)
from tests.support.s3_objects import listings, requests_of

Expected = dict[str, dict[str, bytes]]
SECRETS = (b"AKIATHEKEYOFTHETESTS", b"the/secret+of/the/tests")
OF_DRIVERS = ("config.json", "status.json", "leases")


def objects(url: str) -> dict[str, bytes]:
    """Every object of a run except the status of drivers."""
    storage = open_storage(url)
    return {path: storage.get(path) for path in storage.list("") if not path.startswith(OF_DRIVERS)}


def in_this_process(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit code, output and errors of a command that needs no fleet."""
    code = run(arguments[0], arguments[1:])
    said = capsys.readouterr()
    return code, said.out, said.err


def status(url: str, capsys: pytest.CaptureFixture[str]) -> dict:
    code, said, _ = in_this_process(["status", url, "--json"], capsys)
    assert code == 0
    return json.loads(said)


def wait_for_commits(storage: Storage, count: int, process: subprocess.Popen) -> None:
    def reached() -> bool:
        assert process.poll() is None, process.communicate()
        time.sleep(0.5)  # the server runs in this process and has other clients
        return len(storage.list("commits")) >= count

    wait_until(reached, f"{count} commits")


def commits(expected: Expected) -> int:
    return sum(path.startswith("commits/") for path in expected["webdataset"])


def test_a_run_watched_contested_killed_and_resumed_has_the_bytes_of_a_folder(
    job: list[str],
    expected: Expected,
    store: ImageStore,
    s3_url: str,
    s3_server: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    storage = open_storage(s3_url)
    assert in_this_process(["status", s3_url], capsys) == (0, f"{s3_url}: nothing there\n", "")

    # while a driver runs, `status` says so and a second one is refused
    first = start(*job, f"--out={s3_url}", "--actors=2", "--shards-at-a-time=2")
    wait_for_commits(storage, 3, first)
    code, _, said = in_this_process([*job, f"--out={s3_url}"], capsys)
    running = status(s3_url, capsys)

    # SIGKILL of the command: raylet, GCS and actors go with it
    below = descendants(first.pid)
    assert any("EstimatorActor" in title for title in below.values())
    first.kill()
    first.communicate()
    essential = [pid for pid, title in below.items() if "Agent" not in title]
    wait_until(lambda: not any(map(is_alive, essential)), "Ray's processes end with the command")
    assert code == 3
    assert_one_line(said, "another `postmean generate` is at work there (host ", f"process {first.pid}, last heartbeat")
    assert running["state"] == "running"
    assert f"process {first.pid}" in running["holder"]

    # the driver was killed, so its lease is free at once
    assert 0 < (RunFolder(storage).committed() > 0).sum() < commits(expected)
    stopped = status(s3_url, capsys)
    assert stopped["state"] == "stopped"
    assert 3 <= stopped["shards_done"] < stopped["shards"] == commits(expected)
    assert stopped["records_per_second"] is None
    assert (
        f"{s3_url}: stopped: run the same `postmean generate` again" in in_this_process(["status", s3_url], capsys)[1]
    )
    with requests_of(s3_server, monkeypatch) as made:
        code, *resumed = in_this_process([*job, f"--out={s3_url}", "--actors=1", "--json"], capsys)
    assert code == 0, resumed
    assert 0 < json.loads(resumed[0])["written"] < commits(expected)
    assert listings(made, "commits") == 1
    assert objects(s3_url) == expected["webdataset"]

    finished = status(s3_url, capsys)
    assert (finished["state"], finished["holder"]) == ("finished", None)
    assert finished["tuples_ready"] == finished["tuples"]
    assert finished["bytes"] == sum(len(data) for path, data in objects(s3_url).items() if path.startswith("shards/"))
    code, verified, said = in_this_process(["verify", s3_url, f"--store={store.path}", "--json"], capsys)
    assert (code, json.loads(verified)["problems"]) == (0, [])

    for path, data in expected["webdataset"].items():
        open_storage(tmp_path).put(path, data)
    streams = [TargetStream.open(where, store, batch_size=1000) for where in (s3_url, tmp_path)]
    batches = list(zip(*streams, strict=True))
    assert len(batches) == 12
    for from_store, from_folder in batches:
        assert (from_store.mean == from_folder.mean).all()
        assert (from_store.z == from_folder.z).all()

    everything = {path: storage.get(path) for path in storage.list("")}
    assert json.loads(everything["config.json"])["out"] == s3_url
    shown = "".join([*resumed, verified, said]).encode()
    assert not any(secret in data for data in (*everything.values(), shown) for secret in SECRETS)


@pytest.mark.parametrize("format", ["webdataset", pytest.param("zarr", marks=pytest.mark.slow)])
def test_faults_of_the_store_change_no_byte(
    store: ImageStore,
    expected: Expected,
    s3_url: str,
    s3_server: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    format: str,
) -> None:
    """Three of ten requests fail in some way while a run is begun, written and read back."""
    small = replace(config(store.path, tmp_path, format), tuples=1000)  # type: ignore[arg-type]
    make_by_hand(small)
    plain = {path: data for path, data in objects(str(tmp_path)).items()}
    faults = ("503", "503 after", "429", "reset", "reset after", "cut")
    with faulty_proxy(s3_server, share_of(0.3, faults)) as (endpoint, injected):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        made = make_by_hand(replace(small, out=s3_url))
        assert made.committed().all()
        batches = list(TargetStream.open(s3_url, store, batch_size=250))
        assert injected.total() - injected["none"] > 5
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    assert objects(s3_url) == plain
    for ours, theirs in zip(batches, TargetStream.open(tmp_path, store, batch_size=250), strict=True):
        assert (ours.mean == theirs.mean).all()


@pytest.mark.slow
def test_a_fleet_behind_a_failing_network_gives_the_same_bytes(
    job: list[str], expected: Expected, s3_url: str, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faulty_proxy(s3_server, share_of(0.2), slow_seconds=1) as (endpoint, injected):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        done = finish(start(*job, f"--out={s3_url}"))
        assert done.returncode == 0, done.stderr
        assert injected.total() - injected["none"] > 20
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    assert objects(s3_url) == expected["webdataset"]


@pytest.mark.slow
def test_a_store_that_goes_away_ends_the_run_in_one_line_and_its_return_resumes_it(
    job: list[str], expected: Expected, s3_url: str, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone: list[str] = []
    monkeypatch.setenv("POSTMEAN_STORAGE_DEADLINE", "5")
    with faulty_proxy(s3_server, lambda _: "503" if gone else None) as (endpoint, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        running = start(*job, f"--out={s3_url}")
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
        storage = open_storage(s3_url)
        wait_for_commits(storage, 3, running)
        gone.append("now")
        done = finish(running)
        assert done.returncode == 3
        assert_one_line(done.stderr, "no success within 5 s (last: 503 SlowDown)", "run the same command again")
        assert 3 <= len(storage.list("commits")) < len(RunFolder(storage).read_plan())
    assert finish(start(*job, f"--out={s3_url}")).returncode == 0
    assert objects(s3_url) == expected["webdataset"]


@pytest.mark.slow
def test_a_run_can_be_stopped_while_its_store_is_away(
    job: list[str], expected: Expected, s3_url: str, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone: list[str] = []
    monkeypatch.setenv("POSTMEAN_STORAGE_DEADLINE", str(24 * 3600))
    with faulty_proxy(s3_server, lambda _: "503" if gone else None) as (endpoint, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        running = start(*job, f"--out={s3_url}")
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
        wait_for_commits(open_storage(s3_url), 3, running)
        gone.append("now")
        running.send_signal(signal.SIGTERM)
        done = finish(running)
    assert done.returncode == 130
    assert_one_line(done.stderr, "interrupted: run the same command again to go on")
    assert finish(start(*job, f"--out={s3_url}")).returncode == 0  # at once: the holder of the lease is gone
    assert objects(s3_url) == expected["webdataset"]


def refuse_all(job: list[str], url: str) -> list[list[str]]:
    """Every command that reads or writes a run."""
    return [[*job, f"--out={url}"], ["status", url], ["verify", url, next(a for a in job if a.startswith("--store"))]]


def test_no_bucket_is_one_line(job: list[str], s3_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in refuse_all(job, "s3://no-such-bucket-here/run"):
        code, _, said = in_this_process(arguments, capsys)
        assert code == 3
        assert said == (
            f"postmean {arguments[0]}: s3://no-such-bucket-here: no such bucket: "
            "make it, or correct the name in the URL\n"
        )


def test_a_store_that_cannot_be_reached_is_one_line_at_the_deadline(
    job: list[str], s3_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("POSTMEAN_STORAGE_DEADLINE", "0.5")
    for arguments in refuse_all(job, s3_url):
        code, _, said = in_this_process(arguments, capsys)
        assert code == 3
        assert_one_line(said, f"postmean {arguments[0]}: {s3_url}/", "no success within 0.5 s (last: no connection)")
