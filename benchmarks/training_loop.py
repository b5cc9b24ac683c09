"""Seconds a step of `train` beside a bare loop of PyTorch: the same network, loss, optimiser and average of weights.

    postmean demo --out demo
    python benchmarks/training_loop.py --targets demo/targets --store demo/digits.store

The bare loop has its batches in memory, writes nothing and draws nothing. Both take turns; the first steps of a turn do
not count. The steps of `train` contain the reading of the targets, the sums of losses and the lines of metrics, not the
opening, checkpoints and grids. The result is the ratio of each turn's pair, and its median.
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

_WARM = 4
"""Steps of a turn that do not count."""
_IN_MEMORY = 4
"""Batches of the bare loop."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--preset", default="edm-digits", help="of a loss that needs no teacher")
    parser.add_argument("--steps", type=int, default=20, help="of a turn")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    recipe = replace(PRESETS[args.preset], steps=_WARM + args.steps, checkpoint_every=10**9)
    bare = bare_steps(recipe, args.targets, args.store)
    pairs = []
    for number in range(args.rounds):
        turns = [lambda: of_train(recipe, args.targets, args.store), lambda: of_bare(bare, args.steps)]
        order = turns if number % 2 else turns[::-1]  # so that a drift of the machine favours neither
        first, second = (turn() for turn in order)
        pairs.append((first, second) if number % 2 else (second, first))
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratios = sorted(a / b for a, b in pairs)
    found = {
        "threads": torch.get_num_threads(),
        "batch": recipe.batch_size,
        "train_seconds_per_step": ours,
        "bare_seconds_per_step": theirs,
        "ratios": ratios,
        "median_ratio": statistics.median(ratios),
    }
    print(json.dumps(found, indent=1))


class Stamps(NoProgress):
    """Takes the time of each step."""

    times: list[float]

    def start_at(self, done: int) -> None:
        self.times = []
        opened.append(self)

    def update(self, done: int, note: str = "", total: int | None = None) -> None:
        self.times.append(time.perf_counter())


opened: list[Stamps] = []


def of_train(recipe: TrainConfig, targets: str, store: Path) -> float:
    """Seconds a step of `train`."""
    with tempfile.TemporaryDirectory() as folder:
        paths = dict(targets=targets, store=store, out=Path(folder) / "model")
        train(TrainRunConfig.of(recipe, **paths, device="cpu", grid_kimg=0.0), progress=Stamps)
    times = opened[-1].times[-recipe.steps :]
    return (times[-1] - times[_WARM - 1]) / (recipe.steps - _WARM)


def of_bare(steps: Iterator[None], count: int) -> float:
    """Seconds a step of the bare loop."""
    for _ in range(_WARM):
        next(steps)
    began = time.perf_counter()
    for _ in range(count):
        next(steps)
    return (time.perf_counter() - began) / count


def bare_steps(recipe: TrainConfig, targets: str, store_path: Path) -> Iterator[None]:
    """The bare loop; each `next` is a step."""
    store = ImageStore.open(store_path)
    with TargetStream.open(targets, store, recipe.batch_size) as stream:
        batches = list(itertools.islice(stream, _IN_MEMORY))
    torch.manual_seed(0)
    network = recipe.network.build(store.image_shape, 0)
    denoiser = Denoiser(network, recipe.preconditioning).train()
    average = AveragedNetwork(network)
    optimiser = recipe.optimiser.make(denoiser.parameters())
    while True:
        for batch in batches:
            optimiser.zero_grad(set_to_none=True)
            loss = recipe.loss(denoiser, denoiser, replace(batch, label=None))
            loss.mean().backward()
            optimiser.step()
            average.update(network, 0.999)
            yield


if __name__ == "__main__":
    main()
