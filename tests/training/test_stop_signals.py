"""SIGTERM, SIGUSR1 and SIGHUP save a checkpoint and end; the same call then gives the weights of an undisturbed run."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from postmean.base.progress import NoProgress
from postmean.cli.main import run as postmean
from postmean.contract.image_store import ImageStore
from postmean.shards.run_folder import RunFolder
from postmean.storage.open import open_storage
from postmean.training.checkpoint import complete_checkpoints
from postmean.training.distributed import MARGIN_SECONDS, World
from postmean.training.stop_signals import SIGNALS, TrainingStopped
from tests.support.exact_runs import commit_exact_shard, make_run
from tests.support.runs import assert_one_line, free_port
from tests.support.small_training import BATCH, CONFIG, train
from tests.support.stores import digits_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    folder = tmp_path_factory.mktemp("signals")
    store = digits_store(folder / "store", 40)
    make_run(folder / "run", store, CONFIG.steps * BATCH, max_support=40)
    return store


@pytest.fixture(autouse=True)
def handlers_are_put_back() -> Iterator[None]:
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    assert [signal.getsignal(number) for number in SIGNALS] == before


def sending(number: int, when: Callable[[int], bool]) -> type[NoProgress]:
    """A progress line that sends this process the signal once a number of images is reached."""

    class Sends(NoProgress):
        sent = False

        def update(self, done: int, note: str = "", total: int | None = None) -> None:
            if when(done) and not type(self).sent:
                type(self).sent = True
                os.kill(os.getpid(), number)

    return Sends


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_saves_the_step_and_the_same_call_goes_on(store: ImageStore, tmp_path: Path, number: int) -> None:
    targets = store.path.parent / "run"
    with pytest.raises(TrainingStopped, match=r"at step 3, saved as \S+00000003: run the same command") as stopped:
        progress = sending(number, lambda done: done == 3 * BATCH)
        train(CONFIG, targets, store.path, tmp_path / "out", progress=progress)
    assert stopped.value.exit_code == 128 + number
    report = train(CONFIG, targets, store.path, tmp_path / "out")
    assert (report.resumed_from, report.step) == (3, 6)
    whole = store.path.parent / "whole"
    train(CONFIG, targets, store.path, whole)
    ours, theirs = (
        load_file(out / "checkpoints" / "00000006" / "state.safetensors") for out in (tmp_path / "out", whole)
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_signal_while_a_shard_is_awaited_saves_too(
    store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("postmean.training.stream.stream._SECONDS_BETWEEN_NOTICES", 0.01)
    manifest = make_run(tmp_path / "run", store, 6 * BATCH, records_per_shard=2 * BATCH, max_support=40, commit=False)
    commit_exact_shard(RunFolder(open_storage(str(tmp_path / "run"))), store, manifest, 0, None)
    seen: list[int] = []

    def waits(done: int) -> bool:
        seen.append(done)
        return seen[-3:] == [2 * BATCH] * 3  # shown again and again at the same step

    with pytest.raises(TrainingStopped, match="at step 2, saved"):
        progress = sending(signal.SIGTERM, waits)
        out = tmp_path / "out"
        train(CONFIG, tmp_path / "run", store.path, out, follow_seconds=3600, progress=progress)
    assert [c.name for c in complete_checkpoints(out)] == ["00000002"]


def test_a_signal_before_the_first_step_ends_at_once_and_leaves_nothing(
    store: ImageStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = signal.getsignal(signal.SIGTERM)

    def stop_once_handled() -> None:
        while signal.getsignal(signal.SIGTERM) == usual:
            time.sleep(0.01)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop_once_handled, daemon=True)
    thread.start()
    places = ["--targets", tmp_path / "never", "--store", store.path, "--out", tmp_path / "out", "--device", "cpu"]
    assert postmean("train", ["edm-digits", *map(str, places), "--follow-seconds", "3600"]) == 128 + signal.SIGTERM
    assert_one_line(capsys.readouterr().err, "stopped by SIGTERM: run the same command again")
    assert not (tmp_path / "out").exists()
    thread.join()


WAITS = """
import os, signal, sys, time
from postmean.training import stop_signals
stop_signals._SAME_SECONDS = float(sys.argv[1])
with stop_signals.StopSignals() as signals, signals.deferred():
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.05)
    assert signals.received == signal.SIGTERM
"""


@pytest.mark.parametrize("same_seconds, code", [(60.0, 0), (0.01, -signal.SIGTERM)])
def test_a_second_signal_ends_at_once_unless_it_is_the_first_by_another_way(same_seconds: float, code: int) -> None:
    assert subprocess.run([sys.executable, "-c", WAITS, str(same_seconds)]).returncode == code


@pytest.mark.parametrize("follow_seconds", [0.0, 3600.0, float("inf")])
def test_ranks_wait_for_each_other_longer_than_for_targets(
    monkeypatch: pytest.MonkeyPatch, follow_seconds: float
) -> None:
    for name, value in (("WORLD_SIZE", "1"), ("RANK", "0"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", free_port())):
        monkeypatch.setenv(name, str(value))
    with World.join("cpu", follow_seconds):
        group = dist.group.WORLD
        assert isinstance(group, dist.ProcessGroup)
        timeout = group._get_backend(torch.device("cpu")).options._timeout
        assert timeout.total_seconds() >= min(follow_seconds, 1e8) + MARGIN_SECONDS
    assert not dist.is_initialized()
