"""Chaos (`make chaos`): at least two dozen random faults over a run and a trainer that follows it.

In the end the weights are those of an undisturbed training on undisturbed targets, byte for byte.
"""

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from postmean.contract.image_store import ImageStore
from tests.chaos.disturbed_run import SEED, assert_equal, generation, hit_server
from tests.support.chaos import Chaos
from tests.support.runs import files_of, postmean, start
from tests.support.seaweed import BUCKET, SeaweedServer

BATCH, STEPS = 75, 160
"""Generation hears every two seconds how far the trainer is and makes the next few steps: both outlast the faults."""
FAULTS_WHILE_FOLLOWED = [
    *["actor kill"] * 3,
    *["actor freeze"] * 2,
    *["actor pause"] * 2,
    *["raylet kill"] * 2,
    *["driver kill"] * 3,
    *["driver terminate"] * 2,
    *["driver pause"] * 2,
    *["trainer kill"] * 5,
    *["trainer terminate"] * 2,
    *["trainer pause"] * 2,
    *["server kill"] * 3,
    *["server pause"] * 2,
]
ENDS_WHILE_FOLLOWED = {"raylet kill", "driver kill", "driver terminate", "trainer kill", "trainer terminate"}
CODES = {0, 2, 3, 75, 130, 143, -signal.SIGKILL, -signal.SIGTERM}
SECONDS = 60
"""A step of the trainer, a victim or the end of a command is awaited for no longer than this; then the test goes on."""


@pytest.mark.slow
def test_a_trainer_that_follows_under_random_faults_has_the_weights_of_an_undisturbed_one(
    store: ImageStore, undisturbed: Path, server: SeaweedServer, tmp_path: Path
) -> None:
    chaos = Chaos(SEED)
    run, model = f"s3://{BUCKET}/followed", tmp_path / "model"
    done = postmean(*_training(store, undisturbed, tmp_path / "reference"))
    assert done.returncode == 0, done.stderr
    faults = [*FAULTS_WHILE_FOLLOWED]
    chaos.random.shuffle(faults)
    with _Lives(chaos) as lives:
        actors = 1
        for fault in faults:
            if lives.is_over("generator"):
                actors = chaos.random.choice([n for n in (1, 2, 3) if n != actors])
                lives.begin("generator", *generation(store, run, actors), "--ahead=1")
            if lives.is_over("trainer"):
                lives.begin("trainer", *_training(store, run, model), "--follow-seconds=300")
            before = _step(model)
            _wait(lambda before=before: _step(model) > before)
            if _step(model) == STEPS:
                break  # there is nothing left to disturb
            chaos.wait()
            if fault.startswith("server"):
                hit_server(chaos, server, fault)
                continue
            name = "trainer" if fault.startswith("trainer") else "generator"
            victim = lives.processes[name]
            _wait(lambda victim=victim, fault=fault: victim.poll() is not None or chaos.hit(victim, fault))
            if fault == "raylet kill" and chaos.random.random() < 0.7:
                victim.kill()  # do not wait for what deadlines do
            if fault in ENDS_WHILE_FOLLOWED:
                _wait(lambda victim=victim: victim.poll() is not None)
                lives.end(name)
    followed = _step(model)
    for command in (generation(store, run, 2), _training(store, run, model)):
        done = postmean(*command)
        assert done.returncode == 0, done.stderr
    assert_equal(run, files_of(undisturbed))
    assert _weights(model) == _weights(tmp_path / "reference")
    print(f"\na trainer that follows: {chaos.figures()}; {followed} of {STEPS} steps; targets and weights are right")
    assert chaos.done.total() >= 24
    assert {fault.split()[0] for fault in chaos.done} == {"actor", "raylet", "driver", "trainer", "server"}


class _Lives:
    """Commands by name, each started again whenever it has ended; all are killed in the end."""

    def __init__(self, chaos: Chaos) -> None:
        self._chaos = chaos
        self.processes: dict[str, subprocess.Popen] = {}

    def __enter__(self) -> "_Lives":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            process.kill()
        for name in [*self.processes]:
            self.end(name)

    def begin(self, name: str, *arguments: object) -> None:
        self.processes[name] = start(*arguments)
        self._chaos.lives += 1

    def is_over(self, name: str) -> bool:
        """Whether it is time to begin. A command that has ended by itself is held to what all ends are held to."""
        if name in self.processes and self.processes[name].poll() is not None:
            self.end(name)
        return name not in self.processes

    def end(self, name: str) -> None:
        process = self.processes.pop(name)
        process.kill()
        self._chaos.end(process, CODES)


def _wait(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + SECONDS
    while not holds() and time.monotonic() < until:
        time.sleep(0.1)


def _step(model: Path) -> int:
    """That of the newest checkpoint."""
    return max((int(path.name) for path in (model / "checkpoints").glob("[0-9]*") if path.name.isdigit()), default=0)


def _training(store: ImageStore, targets: Path | str, out: Path) -> list[str]:
    place = [f"--store={store.path}", f"--targets={targets}", f"--out={out}", "--device=cpu"]
    small = ["--network.channels=16", "--network.layers-per-block=1"]
    return ["train", "edm-digits", *place, f"--batch-size={BATCH}", f"--steps={STEPS}", "--checkpoint-every=1", *small]


def _weights(out: Path) -> dict[str, bytes]:
    tensors = load_file(out / "checkpoints" / f"{STEPS:08d}" / "state.safetensors")
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}
