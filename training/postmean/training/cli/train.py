"""`postmean train PRESET --targets RUN --store STORE --out OUT`. Under torchrun all processes train together."""

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

import tyro

from postmean.base.command_line import parse_preset, print_report
from postmean.base.progress import Progress, duration
from postmean.contract.presets import PRESETS as TARGETS
from postmean.training.config import TrainConfig
from postmean.training.presets import PRESETS

SUMMARY = "Train on the targets of a run. The same command again goes on where the last one stopped."


@dataclass(frozen=True, kw_only=True)
class TrainRunConfig(TrainConfig):
    """A preset's recipe, and the paths and options of a run."""

    targets: str
    """Folder or URL of a run of `postmean generate`."""
    store: Path
    """Image store that the run was generated from."""
    out: Path
    """Folder for checkpoints, metrics.jsonl and config.json."""
    init: str = ""
    """Checkpoint or run whose averaged weights a new run starts from; empty: random weights."""
    start_from: Annotated[str, tyro.conf.arg(name="from")] = ""
    """RUN@STEP or a checkpoint's folder: a new run goes on from there, with other settings: weights, average, optimiser
    and place in the stream are the checkpoint's."""
    follow_seconds: float = 0.0
    """If above 0, train while the targets are being generated: longest wait for each shard."""
    device: str = "auto"
    """auto, cpu or cuda."""
    json: bool = False
    """Print the report as JSON."""


def preset_configs() -> dict[str, tuple[str, TrainRunConfig]]:
    """Summary and settings of each preset by name; the paths are missing."""
    paths = dict(targets=tyro.MISSING, store=tyro.MISSING, out=tyro.MISSING)
    return {
        name: (TARGETS[name].summary, TrainRunConfig(**_recipe(recipe), **paths)) for name, recipe in PRESETS.items()
    }


def run(argv: list[str]) -> int:
    """Run the subcommand."""
    config = parse_preset(preset_configs(), argv, "train", SUMMARY)
    from postmean.training.loop import train  # imported late: torch takes seconds
    from postmean.training.stop_signals import TrainingStopped

    leads = int(os.environ.get("RANK", "0")) == 0  # under torchrun, rank 0 alone reports
    try:
        report = train(
            TrainConfig(**_recipe(config)),
            config.targets,
            config.store,
            config.out,
            device=config.device,
            init=config.init,
            start_from=config.start_from,
            follow_seconds=config.follow_seconds,
            progress=Progress,
        )
    except TrainingStopped as stopped:
        if leads:
            raise
        return stopped.exit_code
    if not leads:
        return 0
    if report.step == report.resumed_from:
        text = f"{config.out}: already trained for {report.step:,} steps: nothing to do; pass more --steps to go on"
    else:
        text = (
            f"trained {report.step - report.resumed_from:,} steps to {report.step:,} ({report.images:,} images) in "
            f"{duration(report.seconds)}: {report.images_per_second:,.0f} images/s, waited {report.data_wait_share:.1%}"
            f" of the time for targets, loss {report.loss:.4g}\ncheckpoint: {report.checkpoint}"
        )
    print_report(report, text, config.json)
    return 0


def _recipe(config: TrainConfig) -> dict:
    return {f.name: getattr(config, f.name) for f in fields(TrainConfig)}
