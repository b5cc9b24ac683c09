"""`postmean train PRESET --targets RUN --store STORE --out OUT`. Under torchrun all processes train together."""

import os

import tyro

from postmean.base.command_line import parse_preset, print_report
from postmean.base.progress import Progress, duration
from postmean.contract.presets import PRESETS as TARGETS
from postmean.training.presets import PRESETS
from postmean.training.run_config import TrainRunConfig

SUMMARY = "Train on the targets of a run. The same command again goes on where the last one stopped."


def preset_configs() -> dict[str, tuple[str, TrainRunConfig]]:
    """Summary and settings of each preset by name; the paths are missing."""
    paths = dict(targets=tyro.MISSING, store=tyro.MISSING, out=tyro.MISSING)
    return {name: (TARGETS[name].summary, TrainRunConfig.of(recipe, **paths)) for name, recipe in PRESETS.items()}


def run(argv: list[str]) -> int:
    """Run the subcommand."""
    config = parse_preset(preset_configs(), argv, "train", SUMMARY)
    from postmean.training.loop import train  # imported late: torch takes seconds
    from postmean.training.stop_signals import TrainingStopped

    leads = int(os.environ.get("RANK", "0")) == 0  # under torchrun, rank 0 alone reports
    try:
        report = train(config, progress=Progress)
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
