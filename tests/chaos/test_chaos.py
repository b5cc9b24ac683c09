"""Chaos (`make chaos`): at least two dozen random faults over a run, resumed each time with another number of actors.

In the end every byte is that of an undisturbed run. The seed is printed; POSTMEAN_CHAOS_SEED repeats it.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file

from postmean.contract.image_store import ImageStore
from postmean.storage.open import open_storage
from tests.support.chaos import Chaos
from tests.support.runs import files_of, indexed_store, make_by_hand, postmean, start
from tests.support.seaweed import BUCKET, SeaweedServer, set_environment
from tests.support.settings import generate_config

SEED = int(os.environ.get("POSTMEAN_CHAOS_SEED", "0")) or time.time_ns() % 10**9
RECORDS_PER_SHARD = 32
FAULTS = [
    *["actor kill"] * 4,
    *["actor freeze"] * 2,
    *["actor pause"] * 2,
    *["raylet kill"] * 2,
    *["raylet freeze"] * 2,
    *["gcs kill", "gcs freeze"],
    *["driver kill"] * 4,
    *["driver terminate"] * 3,
    *["driver pause"] * 2,
    *["server kill"] * 2,
    *["server pause"] * 2,
]
ENDS = {"raylet kill", "raylet freeze", "gcs kill", "gcs freeze", "driver kill", "driver terminate"}
"""Faults after which the command ends, or has nothing left to do it with."""
TUPLES = 30_000
BATCH, STEPS = 300, 100
TO_GENERATOR = ["actor kill", "actor freeze", "raylet kill", "driver kill", "driver terminate", "driver pause"] * 2
TO_TRAINER = ["driver kill", "driver terminate", "driver pause", "driver kill"] * 2
TO_SERVER = ["server kill", "server pause"] * 2


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    return indexed_store(tmp_path_factory.mktemp("chaos") / "store", 300)


@pytest.fixture(scope="module")
def undisturbed(store: ImageStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run, made by one replica in this process."""
    out = tmp_path_factory.mktemp("undisturbed")
    settings = {"seed": 3, "records_per_shard": RECORDS_PER_SHARD, "estimator": "knn-stratified", "k": 64, "m": 64}
    make_by_hand(generate_config(store.path, out, tuples=TUPLES, **settings))
    return out


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SeaweedServer]:
    (tmp_path / "seaweed").mkdir()
    server = SeaweedServer(tmp_path / "seaweed")
    set_environment(monkeypatch, server.endpoint)
    server.start()
    yield server
    server.end()


def generation(store: ImageStore, out: object, actors: int) -> list[str]:
    run = [f"--store={store.path}", f"--tuples={TUPLES}", f"--out={out}", "--seed=3"]
    run += [f"--records-per-shard={RECORDS_PER_SHARD}", "--estimator=knn-stratified", "--k=64", "--m=64"]
    patience = ["--shard-seconds=15", "--start-seconds=60", "--attempts=9", f"--actors={actors}"]
    return ["generate", "edm-digits", *run, *patience]


def wait_for_more(count: Callable[[], int], running: subprocess.Popen) -> None:
    """Wait until the count has grown, the command has ended, or two minutes have passed."""
    before, until = count(), time.monotonic() + 120
    while count() <= before and running.poll() is None and time.monotonic() < until:
        time.sleep(0.2)


@pytest.mark.slow
def test_a_run_under_random_faults_has_the_bytes_of_an_undisturbed_one(
    store: ImageStore, undisturbed: Path, server: SeaweedServer
) -> None:
    chaos = Chaos(SEED)
    expected = files_of(undisturbed)
    total = sum(path.startswith("commits/") for path in expected)
    faults, runs = [*FAULTS], [f"s3://{BUCKET}/run-0"]
    chaos.random.shuffle(faults)
    actors = 1

    def committed() -> int:
        return len(open_storage(runs[-1]).list("commits"))

    while faults:
        if committed() == total:
            runs.append(f"s3://{BUCKET}/run-{len(runs)}")
        actors = chaos.random.choice([n for n in (1, 2, 3) if n != actors])
        running = start(*generation(store, runs[-1], actors))
        chaos.lives += 1
        wait_for_more(committed, running)
        while faults and running.poll() is None:
            fault = faults.pop()
            if fault.startswith("server"):
                _hit_server(chaos, server, fault)
            elif not chaos.hit(running, fault):
                faults.insert(0, fault)  # no victim just now
            if fault in ENDS:
                break
            chaos.wait()
        if running.poll() is None and chaos.random.random() < 0.7:
            running.kill()  # do not wait for what deadlines do
        chaos.end(running, {0, 2, 3, 130, -signal.SIGKILL})
    for run in runs:
        done = postmean(*generation(store, run, 2))
        assert done.returncode == 0, done.stderr
        _is_equal(run, expected)
    print(f"\na run on an object store: {chaos.figures()}; {len(runs)} runs of {total} shards are byte for byte right")
    assert chaos.done.total() >= 24


@pytest.mark.slow
def test_a_trainer_that_follows_under_random_faults_has_the_weights_of_an_undisturbed_one(
    store: ImageStore, undisturbed: Path, server: SeaweedServer, tmp_path: Path
) -> None:
    chaos = Chaos(SEED + 1)
    run, model = f"s3://{BUCKET}/followed", tmp_path / "model"
    done = postmean(*_training(store, undisturbed, tmp_path / "reference"))
    assert done.returncode == 0, done.stderr
    faults = [(0, fault) for fault in TO_GENERATOR] + [(1, fault) for fault in TO_TRAINER + TO_SERVER]
    chaos.random.shuffle(faults)
    both: list[subprocess.Popen | None] = [None, None]
    """Generator and trainer."""
    actors = 1

    def checkpoints() -> int:
        return len(list((model / "checkpoints").glob("[0-9]*")))

    last_step = model / "checkpoints" / f"{STEPS:08d}"
    while faults and not last_step.is_dir():  # afterwards there is nothing left to disturb
        generator, trainer = both
        if generator is None or generator.poll() is not None:
            actors = chaos.random.choice([n for n in (1, 2, 3) if n != actors])
            generator = start(*generation(store, run, actors), "--ahead=8")
            chaos.lives += 1
        if trainer is None or trainer.poll() is not None:
            trainer = start(*_training(store, run, model), "--follow-seconds=300")
            chaos.lives += 1
            wait_for_more(checkpoints, trainer)
        both = [generator, trainer]
        which, fault = faults.pop()
        victim = (generator, trainer)[which]
        if fault.startswith("server"):
            _hit_server(chaos, server, fault)
        elif not chaos.hit(victim, fault):
            faults.insert(0, (which, fault))  # no victim just now
        elif fault in ENDS:
            if fault.startswith("raylet"):
                victim.kill()
            chaos.end(victim, {0, 2, 3, 75, 130, 143, -signal.SIGKILL, -signal.SIGTERM})
        chaos.wait()
    for process in filter(None, both):
        process.kill()
        process.communicate()
    last = start(*generation(store, run, 2))
    done = postmean(*_training(store, run, model), "--follow-seconds=300")
    assert done.returncode == 0, done.stderr
    chaos.end(last, {0})
    _is_equal(run, files_of(undisturbed))
    assert _weights(model) == _weights(tmp_path / "reference")
    print(f"\na trainer that follows: {chaos.figures()}; targets and weights are byte for byte right")
    assert chaos.done.total() >= 12


def _hit_server(chaos: Chaos, server: SeaweedServer, fault: str) -> None:
    if fault == "server pause":
        chaos.pause(server.signal)
    else:
        server.signal(signal.SIGKILL)
        chaos.wait()
        server.start()
    chaos.done[fault] += 1


def _is_equal(url: str, expected: dict[str, bytes]) -> None:
    """Every file of the run but those of drivers and trainers."""
    storage = open_storage(url)
    paths = [
        path for path in storage.list("") if not path.startswith(("config.json", "status.json", "leases/", "trainers/"))
    ]
    assert {path: storage.get(path) for path in paths} == expected


def _training(store: ImageStore, targets: Path | str, out: Path) -> list[str]:
    place = [f"--store={store.path}", f"--targets={targets}", f"--out={out}", "--device=cpu"]
    small = ["--network.channels=16", "--network.layers-per-block=1"]
    return ["train", "edm-digits", *place, f"--batch-size={BATCH}", f"--steps={STEPS}", "--checkpoint-every=5", *small]


def _weights(out: Path) -> dict[str, bytes]:
    tensors = load_file(out / "checkpoints" / f"{STEPS:08d}" / "state.safetensors")
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}
