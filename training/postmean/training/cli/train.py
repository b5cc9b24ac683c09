"""`postmean train PRESET --targets RUN --store STORE --out OUT`. Under torchrun all processes train together."""

from pathlib import Path
from typing import Any

from postmean.base.command_line import CommandLine
from postmean.base.flags import incomplete
from postmean.base.progress import duration
from postmean.contract.presets import PRESETS as TARGETS
from postmean.training.cli.leading import leads
from postmean.training.presets import PRESETS
from postmean.training.run_config import TrainRunConfig, of_this_version, recipe_fields


def preset_configs() -> dict[str, tuple[str, TrainRunConfig]]:
    """Summary and settings of each preset by name; the paths are missing."""
    return {
        name: (TARGETS[name].summary, incomplete(TrainRunConfig, **recipe_fields(recipe)))
        for name, recipe in PRESETS.items()
    }


def settings_of_run(plain: dict[str, Any], path: Path) -> dict[str, Any]:
    """The settings in the config.json of a training run, which is in its --out; other files as they are."""
    if not (isinstance(plain.get("config"), dict) and isinstance(plain.get("paths"), dict)):
        return plain
    paths = {"start_from" if name == "from" else name: value for name, value in plain["paths"].items()}
    return of_this_version(plain["config"]) | {"out": str(path.parent)} | paths


COMMAND = CommandLine(
    name="train",
    settings=TrainRunConfig,
    summary="Train on the targets of a run. The same command again goes on where the last one stopped.",
    main="targets store out steps batch-size init from follow-seconds precision network loss preconditioning schedule "
    "ema noise grid-kimg device seed dry-run",
    presets=preset_configs,
    unpack=settings_of_run,
)


def run(argv: list[str]) -> int:
    """Run the subcommand."""
    config, output = COMMAND.parse(argv)
    if config.dry_run:
        from postmean.training.dry_run import dry_run  # imported late: torch takes seconds

        found = dry_run(config)
        if leads():
            output.report(found, found.text())
        return 0
    from postmean.training.loop import train
    from postmean.training.stop_signals import TrainingStopped

    try:
        report = train(config, progress=output.progress)
    except TrainingStopped as stopped:
        if leads():
            raise
        return stopped.exit_code
    if not leads():
        return 0
    if report.step == report.resumed_from:
        text = f"{config.out}: already trained for {report.step:,} steps: nothing to do; pass more --steps to go on"
    else:
        text = (
            f"trained {report.step - report.resumed_from:,} steps to {report.step:,} ({report.images:,} images) in "
            f"{duration(report.seconds)}: {report.images_per_second:,.0f} images/s, waited {report.data_wait_share:.1%}"
            f" of the time for targets, loss {report.loss:.4g}\ncheckpoint: {report.checkpoint}"
        )
    output.report(report, text)
    return 0
