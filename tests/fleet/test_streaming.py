"""Training while targets are made, from shards that are deleted or live: real commands, killed on both sides."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from postmean.contract.image_store import ImageStore
from postmean.shards.positions import read_positions
from postmean.shards.run_folder import RunFolder
from postmean.storage.open import open_reader, open_storage
from postmean.training.stream.stream import TargetStream
from tests.fleet.conftest import TUPLES
from tests.support.certificates import make_certificate
from tests.support.runs import assert_one_line, commits_of, files_of, finish, is_alive, postmean, start, wait_until

Expected = dict[str, dict[str, bytes]]
BATCH, STEPS = 300, TUPLES // 300
SETTINGS = [f"--batch-size={BATCH}", f"--steps={STEPS}", "--checkpoint-every=5", "--network.channels=16"]
SETTINGS += ["--network.layers-per-block=1"]


def training(store: ImageStore, targets: Path | str, out: Path, *more: str) -> list[str]:
    """Arguments of `postmean train` with a small network."""
    place = [f"--store={store.path}", f"--targets={targets}", f"--out={out}", "--device=cpu"]
    return ["train", "edm-digits", *place, *SETTINGS, *more]


@pytest.fixture(scope="module")
def finished(expected: Expected, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the finished run."""
    folder = tmp_path_factory.mktemp("finished")
    for path, data in expected["webdataset"].items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def weights(store: ImageStore, finished: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Weights after training on the finished run."""
    out = tmp_path_factory.mktemp("trained")
    done = postmean(*training(store, finished, out))
    assert done.returncode == 0, done.stderr
    return weights_of(out)


def weights_of(out: Path) -> dict[str, bytes]:
    tensors = load_file(out / "checkpoints" / f"{STEPS:08d}" / "state.safetensors")
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}


def wait_for_step(out: Path, step: int, process: subprocess.Popen) -> None:
    """Wait until the trainer has saved a checkpoint of this step or a later one."""

    def reached() -> bool:
        assert process.poll() is None, process.communicate()
        return any(int(p.name) >= step for p in (out / "checkpoints").glob("[0-9]*"))

    wait_until(reached, f"a checkpoint of step {step}")


def kill(process: subprocess.Popen) -> None:
    process.kill()
    process.communicate()


@pytest.mark.slow
def test_following_within_bounds_with_both_sides_killed_gives_the_weights_of_a_finished_run(
    job: list[str], store: ImageStore, expected: Expected, weights: dict[str, bytes], tmp_path: Path
) -> None:
    run, out = tmp_path / "run", tmp_path / "model"
    generation = [*job, f"--out={run}", "--ahead=6", "--delete-consumed"]
    following = training(store, run, out, "--follow-seconds=300")
    generator, trainer = start(*generation), start(*following)
    wait_for_step(out, 10, trainer)
    kill(trainer)
    before = commits_of(run)
    assert before < len(RunFolder(open_storage(run)).read_plan()), "it waits for the trainer"
    trainer = start(*following)
    wait_for_step(out, 20, trainer)
    kill(generator)
    again = start(*generation)
    done = finish(trainer)
    assert done.returncode == 0, done.stderr
    assert "resumed from step" in done.stderr
    assert finish(again).returncode == 0
    assert weights_of(out) == weights
    assert postmean(*generation).returncode == 0, "the same command once more deletes the rest"

    found = files_of(run)
    kept = [path for path in found if path.startswith("shards/")]
    assert len(kept) <= 16, "those that the oldest checkpoint may need"
    extra = {"deleted.json", *(path for path in found if path.startswith("trainers/"))}
    assert {path: data for path, data in found.items() if path not in extra}.items() <= expected["webdataset"].items()
    assert postmean("verify", run, f"--store={store.path}").returncode == 0
    refused = postmean(*training(store, run, tmp_path / "late", "--follow-seconds=5"))
    assert refused.returncode == 2
    assert_one_line(refused.stderr, "tuple 0 is in a shard that was deleted when all trainers had consumed it")


@pytest.mark.slow
def test_a_generation_never_goes_further_than_it_may(job: list[str], tmp_path: Path) -> None:
    """Without a trainer it makes the first shards of one and ends at its deadline; resumed, it makes no more."""
    generation = [*job, f"--out={tmp_path}", "--ahead=4", "--trainer-seconds=6"]
    for _ in range(2):
        done = postmean(*generation)
        assert done.returncode == 3
        assert_one_line(done.stderr, "no trainer took a batch for 6 s, with shards made --ahead 4")
        assert commits_of(tmp_path) == 5


@pytest.mark.slow
def test_a_generation_ends_when_its_trainers_have_finished(job: list[str], store: ImageStore, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "model"
    generator = start(*job, f"--out={run}", "--ahead=2", "--json")
    trained = postmean(*training(store, run, out, "--follow-seconds=300"), "--steps=8")
    assert trained.returncode == 0, trained.stderr
    done = finish(generator)
    assert done.returncode == 0, done.stderr
    assert '"all_finished": true' in done.stdout
    position = next(iter(read_positions(open_storage(run)).values()))
    assert (position.next_tuple, position.finished) == (8 * BATCH, True)


@contextmanager
def serving(job: list[str], port: int, *flags: str) -> Iterator[tuple[subprocess.Popen, str]]:
    """`postmean serve` of the job and its URL, once it listens."""
    arguments = [a for a in job[1:] if not a.startswith("--out")]
    process = start("serve", *arguments, f"--port={port}", "--depth=4", *flags)
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"at (https?://[0-9.:]+);", line):
                yield process, found[1]
                break
        else:
            raise AssertionError(process.communicate())
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POSTMEAN_TOKEN_PATH", str(tmp_path / "secrets" / "token"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "secrets" / "token"


@pytest.mark.slow
def test_live_with_both_sides_killed_gives_the_weights_of_a_finished_run(
    job: list[str], store: ImageStore, weights: dict[str, bytes], token: Path, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    with serving(job, 0) as (server, url):
        assert token.stat().st_mode & 0o777 == 0o600
        live = training(store, url, out, "--follow-seconds=300")
        trainer = start(*live)
        wait_for_step(out, 10, trainer)
        kill(trainer)
        trainer = start(*live)
        wait_for_step(out, 20, trainer)
    port = int(url.rpartition(":")[2])
    with serving(job, port) as (server, _):
        done = finish(trainer)
        assert done.returncode == 0, done.stderr
        server.send_signal(signal.SIGTERM)
        stopped = finish(server)
        assert stopped.returncode == 130
        assert token.read_text().strip() not in stopped.stderr + stopped.stdout
    assert weights_of(out) == weights
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "secrets"], "nothing touches a disk"


@pytest.mark.slow
def test_live_shards_are_those_that_generate_writes(
    job: list[str], store: ImageStore, expected: Expected, token: Path
) -> None:
    with serving(job, 0) as (_, url):
        storage = open_reader(url)
        shards = [path for path in expected["webdataset"] if path.startswith(("shards/", "commits/"))]
        for path in sorted(shards, key=lambda path: re.findall(r"\d+", path)):
            wait_until(lambda path=path: storage.exists(path), f"{path} is made")
            assert storage.get(path) == expected["webdataset"][path]


@pytest.mark.slow
def test_a_training_over_tls_gives_the_weights_of_a_finished_run(
    job: list[str],
    store: ImageStore,
    weights: dict[str, bytes],
    token: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    certificate, key = make_certificate(tmp_path / "tls")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serving(job, 0, f"--tls-certificate={certificate}", f"--tls-key={key}") as (_, url):
        assert url.startswith("https://")
        done = postmean(*training(store, url, tmp_path / "model", "--follow-seconds=300"))
        assert done.returncode == 0, done.stderr
    assert weights_of(tmp_path / "model") == weights


@pytest.mark.parametrize("live", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_ranks_take_equal_numbers_of_batches_without_overlap_or_gap(
    job: list[str], store: ImageStore, finished: Path, token: Path, tmp_path: Path, live: bool
) -> None:
    """Two ranks in this process follow a run: it makes no more than they read, and keeps nothing that they read."""
    steps = 10  # more shards than --ahead, and no more than that needs
    job = [*job, f"--tuples={steps * BATCH}"]
    expected = islice(TargetStream.open(finished, store, BATCH), steps)

    def read(where: str) -> None:
        streams = [
            TargetStream.open(
                where, store, BATCH, rank=rank, world_size=2, follow_seconds=300, trainer="" if rank else "one"
            )
            for rank in range(2)
        ]
        assert len(streams[0]) == len(streams[1]) == steps
        for one, other, both in zip(*streams, expected, strict=True):
            assert len(one) == len(other) == BATCH // 2
            assert one.tuple_id.tolist() + other.tuple_id.tolist() == both.tuple_id.tolist()
            assert torch.equal(torch.cat((one.mean, other.mean)), both.mean)
            streams[0].never_before(int(both.tuple_id[0]))
        for stream in streams:
            stream.close()

    if live:
        with serving(job, 0) as (_, url):
            read(url)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["secrets"], "nothing touches a disk"
    else:
        generator = start(*job, f"--out={tmp_path / 'run'}", "--ahead=6", "--delete-consumed")
        read(str(tmp_path / "run"))
        assert finish(generator).returncode == 0
        assert json.loads((tmp_path / "run" / "deleted.json").read_text())["shards"] > 0


@pytest.mark.slow
def test_two_processes_train_live_as_one(
    job: list[str], store: ImageStore, weights: dict[str, bytes], token: Path, tmp_path: Path
) -> None:
    with serving(job, 0) as (_, url):
        command = training(store, url, tmp_path / "model", "--follow-seconds=300")
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        done = subprocess.run(
            [sys.executable, *launcher, "-m", "postmean", *command],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=500,
        )
        assert done.returncode == 0, done.stderr
    assert weights_of(tmp_path / "model").keys() == weights.keys()


@pytest.mark.slow
def test_a_killed_actor_costs_a_live_run_nothing(
    job: list[str], store: ImageStore, weights: dict[str, bytes], token: Path, tmp_path: Path
) -> None:
    from tests.support.runs import descendants

    out = tmp_path / "model"
    with serving(job, 0) as (server, url):
        trainer = start(*training(store, url, out, "--follow-seconds=300"))
        wait_for_step(out, 5, trainer)
        actors = [pid for pid, title in descendants(server.pid).items() if title.startswith("ray::LiveActor")]
        os.kill(actors[0], signal.SIGKILL)
        done = finish(trainer)
        assert done.returncode == 0, done.stderr
        assert is_alive(server.pid)
    assert weights_of(out) == weights
