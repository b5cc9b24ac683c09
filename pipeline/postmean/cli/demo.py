"""`postmean demo`: the whole pipeline on scikit-learn's digits, through the commands that a user runs."""

import sys
import time
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

from postmean.base.command_line import CommandLine
from postmean.base.errors import ConfigError, PostmeanError
from postmean.base.extras import check_installed
from postmean.base.output import Output
from postmean.base.paths import out_folder
from postmean.base.progress import duration

BATCH = 128  # tuples per step: half the preset's, so twice the steps in the same time


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Size and folder of the demo."""

    out: Path = Path("demo-out")
    """Folder for everything: images, store, targets, model, samples, picture."""
    tuples: int = 128_000
    """Tuples to generate and train on, rounded up to whole batches of 128."""
    seed: int = 0
    """Seed of the tuples, the weights and the samples."""

    def __post_init__(self) -> None:
        if self.tuples < BATCH:
            raise ConfigError(f"--tuples: expected at least one batch of {BATCH}, got {self.tuples}")

    @property
    def steps(self) -> int:
        """Training steps: each tuple is used once."""
        return -(-self.tuples // BATCH)


@dataclass(frozen=True, kw_only=True)
class DemoReport:
    """What the demo made, and how good it is."""

    out: str
    picture: str
    tuples: int
    records: int
    certified_share: float
    bytes_per_tuple: float
    steps: int
    data_wait_share: float
    """Share of the training time spent waiting for targets."""
    mse: list[dict[str, float]]
    """One row per sigma: mean squared error per dimension of each kind of mean against the exact one in float64."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Time of each command run by this call."""


class StepError(PostmeanError):
    """A command of the demo failed; it has printed why."""

    def __init__(self, command: str, exit_code: int) -> None:
        super().__init__(f"`postmean {command}` stopped: mend what it says and run the demo again, it goes on there")
        self.exit_code = exit_code


COMMAND = CommandLine(
    name="demo",
    settings=DemoConfig,
    summary="Digits to targets to a trained model to samples and a picture. The same command again goes on.",
    main="out tuples seed",
)


def run(argv: list[str]) -> int:
    """Entry point of the command."""
    config, output = COMMAND.parse(argv)
    began = time.monotonic()
    with redirect_stdout(sys.stderr) if output.json else nullcontext():
        report = demo(config, output)
    output.report(report, _text(report, time.monotonic() - began))
    return 0


def demo(config: DemoConfig, output: Output) -> DemoReport:
    """Run the commands (import, index and plan only if not done before), then compare and draw."""
    from postmean.demo.digits import write_digits

    check_installed("demo", "sklearn", "ray", "diffusers", "matplotlib")  # now: the picture comes after five minutes
    out = out_folder(config.out, "a demo")
    images, store, targets, model, samples = (
        out / name for name in ("digits", "digits.store", "targets", "model", "samples")
    )
    seconds: dict[str, float] = {}
    seed, steps = str(config.seed), str(config.steps)
    begun = (targets / "manifest.json").is_file()
    if not images.is_dir():
        print(f"writing scikit-learn's digits as PNG files, a folder for each class: {images}", flush=True)
        write_digits(images)
    if not store.is_dir():
        _command(seconds, output, "import", images, store)
    if not begun:
        _command(seconds, output, "index", store)
    generate = ("edm-digits", "--store", store, "--tuples", str(config.steps * BATCH), "--seed", seed)
    if not begun:
        _command(seconds, output, "plan", *generate)
    _command(seconds, output, "generate", *generate, "--out", targets)
    _command(seconds, output, "verify", targets, "--store", store)
    training = ("--targets", targets, "--store", store, "--out", model, "--steps", steps, "--seed", seed)
    _command(seconds, output, "train", "edm-digits", *training, "--batch-size", str(BATCH))
    _command(seconds, output, "sample", model, "--out", samples, "--seed", seed)
    return _close(config, store, targets, model, samples, seconds)


def _command(seconds: dict[str, float], output: Output, command: str, *arguments: str | Path) -> None:
    """Show a command and run it as `postmean` does, in this process."""
    import shlex

    from postmean.cli.main import run as run_command

    words = [*map(str, arguments), *(["--quiet"] if output.quiet else []), *(["--verbose"] if output.verbose else [])]
    print(f"\n$ postmean {shlex.join([command, *words])}", flush=True)
    began = time.monotonic()
    code = run_command(command, words)
    seconds[command] = round(time.monotonic() - began, 2)
    if code == 130:
        raise KeyboardInterrupt
    if code:
        raise StepError(command, code)


def _close(
    config: DemoConfig, store: Path, targets: Path, model: Path, samples: Path, seconds: dict[str, float]
) -> DemoReport:
    from postmean.demo.comparison import compare, data_wait_share
    from postmean.demo.picture import draw
    from postmean.shards.run_folder import RunFolder
    from postmean.storage.open import open_storage

    began = time.monotonic()
    folder = RunFolder(open_storage(targets))
    manifest, plan = folder.read_manifest(), folder.read_plan()
    comparison = compare(targets, store, model)
    picture = targets.parent / "demo.png"
    draw(comparison, samples, picture)
    shards = sum(file.size for shard in range(len(plan)) for file in folder.read_commit(shard).files)
    seconds["picture"] = round(time.monotonic() - began, 2)
    return DemoReport(
        out=str(config.out),
        picture=str(picture),
        tuples=manifest.tuples,
        records=plan.total_records,
        certified_share=1 - plan.total_records / manifest.tuples,
        bytes_per_tuple=shards / manifest.tuples,
        steps=config.steps,
        data_wait_share=data_wait_share(model),
        mse=comparison.rows(),
        seconds=seconds,
    )


def _text(report: DemoReport, seconds: float) -> str:
    names = [name for name in report.mse[0] if name != "sigma"]
    lines = [
        "",
        f"{report.tuples:,} tuples: {report.certified_share:.1%} certified and made by the trainer, "
        f"{report.records:,} records, {report.bytes_per_tuple:.0f} bytes a tuple",
        f"{report.steps:,} training steps, {report.data_wait_share:.1%} of the time spent waiting for targets",
        "",
        "mean squared error per dimension against the exact posterior mean, float64:",
        "  ".join([f"{'sigma':>7}", *(f"{name:>13}" for name in names)]),
        *("  ".join([f"{row['sigma']:>7g}", *(f"{row[name]:>13.1e}" for name in names)]) for row in report.mse),
        "",
        f"{report.out}: digits/ (PNG files), digits.store (images and index), targets (shards), model (checkpoints), "
        "samples (PNG files)",
        f"picture: {report.picture}",
        f"done in {duration(seconds)}: "
        + ", ".join(f"{name} {duration(took)}" for name, took in report.seconds.items()),
    ]
    return "\n".join(lines)
