"""One driver at a time: leases are exclusive, expire, pass on, and reveal no secrets."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from postmean.base.errors import GenerationError, StorageError
from postmean.runs import lease as lease_module
from postmean.runs.lease import Holder, Lease, find_holder, is_at_work, refuse_if_held
from postmean.runs.status import read_status
from postmean.storage.object_store import ObjectStorage
from postmean.storage.open import open_storage
from postmean.storage.storage import Storage
from tests.support.faulty_proxy import faulty_proxy
from tests.support.runs import actors_of, finish, postmean, start, wait_until, without_progress

HOLD = """
import sys, time
from postmean.runs.lease import Lease
from postmean.storage.open import open_storage
with Lease(open_storage(sys.argv[1]), beat_seconds=0.2):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(params=["local", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return open_storage(str(tmp_path) if request.param == "local" else request.getfixturevalue("s3_url"))


def hold(storage: Storage) -> subprocess.Popen:
    """Another process that holds the lease."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, storage.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def write(storage: Storage, number: int, **changes: object) -> Holder:
    """Write a lease as a driver on another machine would."""
    elsewhere = {"host": "elsewhere", "machine": "ffff", "pid": 7, "token": "x"}
    holder = replace(Holder.this_process(), **(elsewhere | changes))  # type: ignore[arg-type]
    storage.put(f"leases/{number:06d}.json", json.dumps(vars(holder)).encode())
    return holder


def test_a_second_process_is_refused_until_the_first_ends(storage: Storage) -> None:
    first = hold(storage)
    with pytest.raises(GenerationError, match=rf"process {first.pid}, last heartbeat \d+ s ago.*expires in \d+ s$"):
        Lease(storage).__enter__()
    with pytest.raises(GenerationError, match="another `postmean generate` is at work there"):
        refuse_if_held(storage)
    first.communicate("\n", timeout=60)
    assert storage.list("leases") == []
    refuse_if_held(storage)
    with Lease(storage):
        assert find_holder(storage) is not None
    assert storage.list("leases") == []


def test_the_lease_of_a_killed_process_of_this_machine_is_free_at_once(storage: Storage) -> None:
    first = hold(storage)
    first.kill()
    first.wait()
    refuse_if_held(storage)
    with Lease(storage):
        assert storage.list("leases") == ["leases/000002.json"]


def test_a_later_process_of_the_same_number_is_not_the_holder(storage: Storage) -> None:
    write(storage, 1, **{**vars(Holder.this_process()), "process_started": 5})
    with Lease(storage):
        pass


def test_a_holder_elsewhere_has_until_its_lease_expires(storage: Storage) -> None:
    write(storage, 3, heartbeat=time.time() - 30)
    with pytest.raises(GenerationError, match=r"host elsewhere, process 7, last heartbeat 3\d s ago"):
        Lease(storage).__enter__()
    write(storage, 3, heartbeat=time.time() - 61)
    with Lease(storage, beat_seconds=0.1):
        assert storage.list("leases") == ["leases/000004.json"]


@pytest.fixture(params=[-3600.0, 3600.0], ids=["late", "early"])
def wrong_clock(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    """A run on another machine, whose clock is wrong, renews its lease."""
    storage = open_storage(tmp_path)
    stop = threading.Event()

    def renew() -> None:
        while not stop.wait(0.1):
            write(storage, 1, heartbeat=time.time() + request.param)

    thread = threading.Thread(target=renew)
    thread.start()
    wait_until(lambda: storage.list("leases") != [], "the first renewal")
    yield storage
    stop.set()
    thread.join()


def test_a_holder_whose_clock_is_wrong_is_not_robbed(wrong_clock: Storage) -> None:
    with pytest.raises(GenerationError, match=r"host elsewhere.* by this machine's clock\).* in 60 s$"):
        Lease(wrong_clock, beat_seconds=1.0).__enter__()


def test_a_run_whose_clock_is_wrong_is_seen_to_run(wrong_clock: Storage) -> None:
    seen = read_status(wrong_clock)
    assert seen.state == "running"
    assert seen.holder is not None and seen.holder.endswith(" by this machine's clock")


@pytest.mark.parametrize("off", [-3600.0, 3600.0])
def test_a_killed_holder_whose_clock_was_wrong_is_not_at_work(tmp_path: Path, off: float) -> None:
    storage = open_storage(tmp_path)
    holder = write(storage, 1, heartbeat=time.time() + off)
    assert not is_at_work(storage, holder, beat_seconds=0.1)
    with Lease(storage, beat_seconds=0.1):
        pass


def test_a_holder_that_ends_while_it_is_looked_at_is_not_at_work(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    holder = write(storage, 1, heartbeat=0.0)
    storage.delete("leases/000001.json")
    assert not is_at_work(storage, holder, beat_seconds=0.1)


def test_a_lease_is_renewed_and_calls_back(storage: Storage) -> None:
    beats: list[int] = []
    with Lease(storage, lambda: beats.append(1), beat_seconds=0.05) as lease:
        before = find_holder(storage)
        assert before is not None
        wait_until(lambda: len(beats) >= 3, "three beats")
        after = find_holder(storage)
        assert after is not None and after.heartbeat > before.heartbeat
        assert replace(after, heartbeat=0.0) == replace(before, heartbeat=0.0)
        lease.check()


def is_lost(lease: Lease) -> bool:
    """Whether the driver has noticed that the other one holds the lease."""
    try:
        lease.check()
    except GenerationError as error:
        assert "took over (host elsewhere, process 7" in str(error)
        return True
    return False


def test_a_driver_whose_lease_was_taken_stops_and_leaves_the_other_one_alone(storage: Storage) -> None:
    with Lease(storage, beat_seconds=0.05) as lease:
        write(storage, 2)
        wait_until(lambda: is_lost(lease), "the driver notices")
    assert find_holder(storage) is not None
    assert "leases/000002.json" in storage.list("leases")


def test_a_driver_whose_lease_another_holds_under_the_same_number_stops_and_leaves_it_there(storage: Storage) -> None:
    """As on storage that does not create exclusively."""
    with Lease(storage, beat_seconds=0.05) as lease:
        write(storage, 1)
        wait_until(lambda: is_lost(lease), "the driver notices")
    holder = find_holder(storage)
    assert holder is not None and holder.token == "x"


def test_a_lease_that_another_wrote_over_at_once_was_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = open_storage(tmp_path)
    create = storage.create

    def create_late(path: str, data: bytes) -> bool:
        created = create(path, data)
        write(storage, 1)
        return created

    monkeypatch.setattr(storage, "create", create_late)
    with pytest.raises(GenerationError, match="another `postmean generate` is at work there"):
        Lease(storage).__enter__()


@pytest.mark.parametrize("number", [10**6, 10**12, 10**13, 10**40])
def test_numbers_of_any_length_count(storage: Storage, number: int) -> None:
    write(storage, 999_999, heartbeat=0.0)
    write(storage, number)
    storage.put(f"leases/0{number}.json", b"not a lease's name")
    with pytest.raises(GenerationError, match="host elsewhere"):
        refuse_if_held(storage)
    write(storage, number, heartbeat=0.0)
    with Lease(storage, beat_seconds=0.1):
        assert f"leases/{number + 1}.json" in storage.list("leases")


def test_a_damaged_host_is_described_in_one_line(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    write(storage, 1, host="evil\n\x1b[2J" + "x" * 1000)
    with pytest.raises(GenerationError) as refusal:
        refuse_if_held(storage)
    assert str(refusal.value).isprintable() and len(str(refusal.value)) < 500


def test_of_competing_drivers_one_takes_an_abandoned_lease(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    write(storage, 1, heartbeat=0.0)
    won: list[Lease] = []
    refused: list[str] = []
    ready = threading.Barrier(6)

    def compete() -> None:
        mine = Lease(open_storage(storage.url), beat_seconds=0.05)
        ready.wait()
        try:
            won.append(mine.__enter__())
        except GenerationError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=compete) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (len(won), len(refused)) == (1, 5)
    won[0].__exit__(None)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"host": 1}', b"\x80\x04"])
def test_a_damaged_lease_is_no_lease(tmp_path: Path, content: bytes) -> None:
    storage = open_storage(tmp_path)
    storage.put("leases/000001.json", content)
    storage.put("leases/README", b"")
    refuse_if_held(storage)
    with Lease(storage):
        assert "leases/000002.json" in storage.list("leases")


def test_a_store_that_stops_answering_ends_the_run(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTMEAN_STORAGE_DEADLINE", "0.5")
    storage = open_storage(s3_url)
    with Lease(storage, beat_seconds=0.05) as lease:
        lease.check()
        monkeypatch.setattr(storage, "put", lambda *_: (_ for _ in ()).throw(StorageError("no success")))

        def raises() -> bool:
            try:
                lease.check()
            except StorageError:
                return True
            return False

        wait_until(raises, "the driver notices")


def test_a_store_that_is_away_does_not_keep_a_driver_from_its_end(
    s3_url: str, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone: list[str] = []
    monkeypatch.setattr(lease_module, "_LEAVE_SECONDS", 0.5)
    with faulty_proxy(s3_server, lambda _: "503" if gone else None) as (endpoint, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        storage = ObjectStorage(s3_url, seconds=24 * 3600)
        lease = Lease(storage)
        lease.__enter__()
        gone.append("now")
        end = threading.Thread(target=lease.__exit__, args=(None,), daemon=True)
        end.start()
        wait_until(lambda: not end.is_alive(), "the end, though the store is tried for a day")
        gone.clear()
        wait_until(lambda: storage.list("leases") == [], "the store is back in time: the lease is removed after all")


def test_a_lease_holds_no_secret(s3_url: str) -> None:
    with Lease(open_storage(s3_url)):
        data = open_storage(s3_url).get("leases/000001.json")
    assert set(json.loads(data)) == {"token", "host", "pid", "machine", "process_started", "heartbeat"}
    assert b"AKIA" not in data


def test_expiry_is_longer_than_many_beats() -> None:
    assert lease_module.EXPIRES_SECONDS >= 10 * lease_module._BEAT_SECONDS


@pytest.mark.slow
def test_two_commands_on_one_output_one_works_and_one_says_why_not(
    job: list[str], expected: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    """Also what `postmean status` says meanwhile, after a kill, and at the end."""
    assert postmean("status", tmp_path).stdout == f"{tmp_path}: nothing there\n"
    first = start(*job, f"--out={tmp_path}", "--actors=1")
    wait_until(lambda: len(list(tmp_path.glob("commits/*.json"))) >= 2, "two commits")
    wait_until(lambda: (tmp_path / "status.json").exists() or first.poll() is not None, "the first status")
    actors = actors_of(first)
    for actor in actors:  # the driver keeps running, but cannot finish before the second command starts
        os.kill(actor, signal.SIGSTOP)
    second = postmean(*job, f"--out={tmp_path}")
    running = status(tmp_path)
    for actor in actors:
        os.kill(actor, signal.SIGCONT)
    first.kill()
    first.communicate()
    assert second.returncode == 3
    said = without_progress(second.stderr)
    assert said.count("\n") == 1
    assert (
        f"another `postmean generate` is at work there (host {Holder.this_process().host}, process {first.pid}" in said
    )
    assert running["state"] == "running"
    assert str(first.pid) in running["holder"]

    stopped = status(tmp_path)
    assert stopped["state"] == "stopped"
    assert 0 < stopped["shards_done"] < stopped["shards"]
    assert stopped["records_per_second"] is None
    text = postmean("status", tmp_path).stdout
    assert text.startswith(f"{tmp_path}: stopped: run the same `postmean generate` again to go on\n")

    taken = finish(start(*job, f"--out={tmp_path}"))  # at once: the holder is dead
    assert taken.returncode == 0, taken.stderr
    finished = status(tmp_path)
    assert finished["state"] == "finished"
    assert finished["shards_done"] == finished["shards"]
    assert finished["tuples_ready"] == finished["tuples"]
    assert finished["holder"] is None
    shards = [len(data) for path, data in expected["webdataset"].items() if path.startswith("shards/")]
    assert finished["bytes"] == sum(shards)
    assert postmean("status", tmp_path).stdout.startswith(f"{tmp_path}: finished\n")


def status(out: Path) -> dict:
    done = postmean("status", out, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
