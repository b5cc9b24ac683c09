"""Seconds a step of `train` beside a bare loop of PyTorch: the same network, loss, optimiser and average of weights.

    postmean demo --out demo
    python benchmarks/training_loop.py --targets demo/targets --store demo/digits.store

The bare loop has its batches in memory, writes nothing and draws nothing. Both take turns, a step each, in one process.
The steps of `train` contain the reading of targets, which all falls into its turns, sums of losses and lines of
metrics; grids, checkpoints and the opening do not count. Each is measured by the clock and in CPU seconds of all
threads; with --threads 1 no thread of PyTorch waits spinning.
"""

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from postmean.base.progress import NoProgress
from postmean.contract.image_store import ImageStore
from postmean.training.config import TrainConfig
from postmean.training.loop import train
from postmean.training.model.ema.averaged_network import AveragedNetwork
from postmean.training.model.preconditioning import Denoiser
from postmean.training.presets import PRESETS
from postmean.training.run_config import TrainRunConfig
from postmean.training.stream.stream import TargetStream

_WARM = 5
"""Steps that do not count."""
_IN_MEMORY = 4
"""Batches of the bare loop."""
_SETTLE_SECONDS = 0.02
"""In which the stream's threads finish what they read ahead, before the bare loop's turn."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--preset", default="edm-digits", help="of a loss that needs no teacher")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    recipe = replace(PRESETS[args.preset], steps=_WARM + args.steps, checkpoint_every=10**9)
    turns = Turns(bare_steps(recipe, args.targets, args.store))
    with tempfile.TemporaryDirectory() as folder:
        paths = dict(targets=args.targets, store=args.store, out=Path(folder) / "model")
        train(TrainRunConfig.of(recipe, **paths, device="cpu", grid_kimg=0.0), progress=turns.opened)
    found = {"threads": args.threads, "batch": recipe.batch_size, "steps": args.steps}
    for place, name in enumerate(("clock", "cpu")):
        ours, bare = (np.array(turn)[_WARM:, place] for turn in (turns.ours, turns.bare))
        found[name] = {
            "train_seconds_per_step": statistics.median(ours),
            "bare_seconds_per_step": statistics.median(bare),
            "ratio_of_medians": statistics.median(ours) / statistics.median(bare),
            "ratio_of_means": ours.mean() / bare.mean(),
        }
    print(json.dumps(found, indent=1))


class Turns:
    """After each step of `train`, a step of the bare loop."""

    def __init__(self, bare: Iterator[None]) -> None:
        self._bare = bare
        self._began: np.ndarray | None = None
        self.ours: list[np.ndarray] = []
        self.bare: list[np.ndarray] = []

    def opened(self, what: str, total: int, unit: str) -> "Line":
        """The progress line of `train`, which is told of each step."""
        return Line(self, what, total, unit)

    def next(self) -> None:
        """A step of `train` is done."""
        if self._began is not None:
            self.ours.append(now() - self._began)
            time.sleep(_SETTLE_SECONDS)
            began = now()
            next(self._bare)
            self.bare.append(now() - began)
        self._began = now()


class Line(NoProgress):
    """Shows nothing, and gives the bare loop its turns."""

    def __init__(self, turns: Turns, what: str, total: int, unit: str) -> None:
        super().__init__(what, total, unit)
        self._turns = turns

    def update(self, done: int, note: str = "", total: int | None = None) -> None:
        self._turns.next()


def now() -> np.ndarray:
    """Seconds of the clock, and CPU seconds of all threads."""
    return np.array([time.perf_counter(), time.process_time()])


def bare_steps(recipe: TrainConfig, targets: str, store_path: Path) -> Iterator[None]:
    """The bare loop; each `next` is a step."""
    store = ImageStore.open(store_path)
    with TargetStream.open(targets, store, recipe.batch_size) as stream:
        batches = [replace(batch, label=None) for batch in itertools.islice(stream, _IN_MEMORY)]
    torch.manual_seed(0)
    network = recipe.network.build(store.image_shape, 0)
    denoiser = Denoiser(network, recipe.preconditioning).train()
    average = AveragedNetwork(network)
    optimiser = recipe.optimiser.make(denoiser.parameters())
    for batch in itertools.cycle(batches):
        optimiser.zero_grad(set_to_none=True)
        recipe.loss(denoiser, denoiser, batch).mean().backward()
        optimiser.step()
        average.update(network, 0.999)
        yield


if __name__ == "__main__":
    main()
