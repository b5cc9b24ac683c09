"""A trainer that fails or is interrupted while waiting for targets ends at once, and reports that it is unfinished."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from postmean.cli.main import run as postmean
from postmean.contract.image_store import ImageStore
from postmean.contract.manifest import Manifest
from postmean.runs.live_connections import Limits
from postmean.runs.live_server import LiveServer
from postmean.runs.live_shards import LiveShards
from postmean.shards.positions import Position, read_positions
from postmean.shards.run_folder import RunFolder
from postmean.storage.open import open_storage
from postmean.training.stream.stream import TargetStream
from tests.support.exact_runs import commit_exact_shard, make_run
from tests.support.runs import assert_one_line, finish, free_port, start, wait_until
from tests.support.stores import digits_store

T = TypeVar("T")
Begun = tuple[RunFolder, Manifest]
BATCH, READY = 16, 64
"""Tuples of the first shard, the only one that is ever committed."""
PATIENCE = 120
"""Seconds after which a test gives up; the trainers would wait for an hour."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    return digits_store(tmp_path_factory.mktemp("ends") / "store", 60)


@pytest.fixture
def begun(store: ImageStore, tmp_path: Path) -> Begun:
    """A run with only its first shard committed."""
    manifest = make_run(tmp_path / "run", store, 640, records_per_shard=READY, commit=False)
    run = RunFolder(open_storage(str(tmp_path / "run")))
    commit_exact_shard(run, store, manifest, 0, None)
    return run, manifest


def command(store: ImageStore, out: Path, *more: object) -> list[str]:
    place = ["--targets", str(out.parent / "run"), "--store", str(store.path), "--out", str(out), "--device", "cpu"]
    small = ["--batch-size", str(BATCH), "--steps", "40", "--network.channels", "16", "--follow-seconds", "3600"]
    return ["train", "edm-digits", *place, *small, *map(str, more)]


def position(run: RunFolder) -> Position | None:
    return next(iter(read_positions(run.storage).values()), None)


def has_taken_all(run: RunFolder) -> bool:
    told = position(run)
    return told is not None and told.next_tuple == READY


def ends(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return finish(process)


def returns(call: Callable[[], T]) -> T:
    """The result of the call; the test fails, instead of hanging, if it does not return."""
    returned: list[T] = []
    thread = threading.Thread(target=lambda: returned.append(call()), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return returned[0]


@pytest.mark.slow
def test_an_interrupted_trainer_that_waits_ends_and_tells_how_far_it_came(
    begun: Begun, store: ImageStore, tmp_path: Path
) -> None:
    run, _ = begun
    process = start(*command(store, tmp_path / "out"))
    wait_until(lambda: has_taken_all(run) or process.poll() is not None, "it waits for the second shard")
    process.send_signal(signal.SIGINT)
    done = ends(process)
    assert done.returncode == 130
    assert_one_line(done.stderr, "interrupted")
    assert position(run) == Position(next_tuple=READY, batch_size=BATCH, resume_tuple=0, finished=False)


@pytest.mark.slow
def test_a_trainer_keeps_its_folder_until_it_is_told_to_stop_or_killed(
    begun: Begun, store: ImageStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = begun
    arguments = command(store, tmp_path / "out")
    for number, ending in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 128 + signal.SIGTERM)):
        process = start(*arguments)
        wait_until(lambda p=process: has_taken_all(run) or p.poll() is not None, "it waits for the second shard")
        assert postmean("train", arguments[1:]) == 2
        assert_one_line(
            capsys.readouterr().err, "another `postmean train` is at work there (host", f"process {process.pid}"
        )
        process.send_signal(number)
        done = ends(process)
        assert done.returncode == ending
        for told in run.storage.list("trainers"):
            run.storage.delete(told)  # the next one is waited for by its own position
    assert_one_line(done.stderr, "stopped by SIGTERM at step 4, saved as", "run the same command again")
    assert postmean("train", [*arguments[1:], "--steps", "4"]) == 0
    assert "already trained for 4 steps" in capsys.readouterr().out


def test_a_trainer_that_fails_while_the_next_shard_is_awaited_ends(
    begun: Begun, store: ImageStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = begun
    before = set(threading.enumerate())
    diverging = ["--optimiser.lr", "1e30", "--log-every", READY // BATCH]
    code = returns(lambda: postmean("train", command(store, tmp_path / "out", *diverging)[1:]))
    assert code == 3 and "the loss is not finite at step 4" in capsys.readouterr().err
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    told = position(run)
    assert told is not None and (told.next_tuple, told.finished) == (READY, False)


def test_a_trainer_that_fails_at_its_last_step_is_not_finished(store: ImageStore, tmp_path: Path) -> None:
    make_run(tmp_path / "run", store, READY)
    diverging = ["--optimiser.lr", "1e30", "--steps", READY // BATCH]
    assert postmean("train", command(store, tmp_path / "out", *diverging)[1:]) == 3
    told = position(RunFolder(open_storage(str(tmp_path / "run"))))
    assert told is not None and (told.next_tuple, told.finished) == (READY, False)


@pytest.mark.slow
def test_a_rank_that_fails_ends_and_the_others_with_it(begun: Begun, store: ImageStore, tmp_path: Path) -> None:
    """One rank of two runs out of memory while its next shard is missing; the other rank does not learn of it."""
    arguments = command(store, tmp_path / "out")
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK_1_FAILS, *arguments],
            env={**environment, "RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [rank.communicate(timeout=PATIENCE)[1] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert all(rank.returncode == 1 for rank in ranks), errors
    assert "out of memory" in errors[1] and "out of memory" not in errors[0]


RANK_1_FAILS = """
import os, sys, torch
from postmean.cli.main import main
from postmean.training import train_log

class Sums(train_log.LossSums):
    def add(self, *losses, **held):
        if os.environ["RANK"] == "1":
            raise torch.OutOfMemoryError("CUDA out of memory")
        super().add(*losses, **held)

train_log.LossSums = Sums
main()
"""


def test_leaving_a_live_stream_does_not_wait_for_the_answer_to_its_request(
    begun: Begun, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = begun
    limits = Limits(hold_seconds=3600)
    monkeypatch.setenv("POSTMEAN_TOKEN", "a token of the tests")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    files = {path: run.storage.get(path) for path in ("manifest.json", "plan.parquet")}
    shards = LiveShards(10, depth=2, trainers=1)
    with LiveServer("127.0.0.1", 0, files, shards, "a token of the tests", limits=limits) as server:
        stream = TargetStream.open(f"http://127.0.0.1:{server.port}", store, BATCH, follow_seconds=3600)
        # Ctrl-C reaches the thread that waits
        batches = stream.batches(on_wait=lambda: (_ for _ in ()).throw(KeyboardInterrupt))

        def read() -> bool:
            with pytest.raises(KeyboardInterrupt):
                next(batches)
            return True

        assert returns(read)
        assert len(shards) > 0, "nothing was answered"
        shards.close()
