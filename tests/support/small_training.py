"""A training that takes a second: six steps of a tiny network on digits; and any training without progress."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from postmean.base.progress import NoProgress, ShowProgress
from postmean.training.config import TrainConfig
from postmean.training.loop import TrainReport
from postmean.training.loop import train as train_run
from postmean.training.model.ema import HalfLifeEMA
from postmean.training.model.losses import Loss
from postmean.training.presets import PRESETS
from postmean.training.run_config import TrainRunConfig

BATCH = 8
CONFIG = replace(
    PRESETS["edm-digits"],
    batch_size=BATCH,
    steps=6,
    network=replace(PRESETS["edm-digits"].network, channels=8, dropout=0.2),
    ema=HalfLifeEMA(half_life_kimg=0.05),
)


def train(
    recipe: TrainConfig,
    targets: Path | str,
    store: Path,
    out: Path,
    loss: Loss | None = None,
    progress: ShowProgress = NoProgress,
    device: str = "cpu",
    **options: Any,
) -> TrainReport:
    """Train with a recipe, on the CPU unless told otherwise.

    Args:
        options: other fields of `TrainRunConfig`.
    """
    run = TrainRunConfig.of(recipe, targets=str(targets), store=store, out=out, device=device, **options)
    return train_run(run, loss=loss, progress=progress)
