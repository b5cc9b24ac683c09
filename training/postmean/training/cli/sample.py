"""`postmean sample CHECKPOINT_OR_RUN --out DIR`."""

import json as json_format
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from postmean.base.command_line import parse, print_report
from postmean.base.errors import ConfigError
from postmean.base.progress import Progress, duration

SUMMARY = "Draw images from the averaged weights of a checkpoint, or of the newest one of a run."


@dataclass(frozen=True, kw_only=True)
class SampleFlags:
    """What to draw, and where to."""

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """A checkpoint, or the folder of a run."""
    out: Path
    """Folder for the images (000000.png, ...), grid.png and samples.json."""
    count: int = 64
    """Images to draw."""
    seed: int = 0
    """Image n of a seed is always the same one."""
    solver: Literal["auto", "heun", "consistency"] = "auto"
    """auto: consistency for a consistency model, else heun."""
    steps: int | None = None
    """Solver steps; default 18 of heun, 1 evaluation of a consistency model."""
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    churn: float = 0.0
    """S_churn of Karras et al. 2022, Algorithm 2; 0 is the ODE."""
    label: int | None = None
    """Class of all images of a conditional model; default: each image a random one."""
    batch_size: int = 64
    """Images at once."""
    device: str = "auto"
    """auto, cpu or cuda."""
    json: bool = False
    """Print the report as JSON."""


@dataclass(frozen=True, kw_only=True)
class SampleReport:
    """What was drawn."""

    checkpoint: str
    out: str
    count: int
    seed: int
    solver: str
    steps: int
    """Evaluations for a consistency model, steps of two evaluations for heun."""
    labels: list[int] | None
    seconds: float
    images_per_second: float


def run(argv: list[str]) -> int:
    """Run the subcommand."""
    flags = parse(SampleFlags, argv, "sample", SUMMARY)
    if flags.count < 1 or flags.batch_size < 1 or (flags.steps is not None and flags.steps < 1):
        raise ConfigError("expected --count, --batch-size and --steps of at least 1")
    if not 0 <= flags.seed < 2**63:
        raise ConfigError(f"seed: expected 0 <= seed < 2^63, got {flags.seed}")
    report = draw(flags)
    text = (
        f"{report.count:,} images of seed {report.seed} by {report.solver}, {report.steps} steps, in "
        f"{duration(report.seconds)} ({report.images_per_second:.1f} images/s): {report.out}"
    )
    print_report(report, text, flags.json)
    return 0


def draw(flags: SampleFlags) -> SampleReport:
    """Draw the images and write folder, grid and samples.json."""
    import time
    from dataclasses import asdict

    import numpy as np

    from postmean.training.checkpoint import find_checkpoint, load_denoiser, read_card
    from postmean.training.distributed import device_of
    from postmean.training.images import GRID, RECORD, begin_folder, write_grid, write_images
    from postmean.training.model.sampling import make_sampler, random_labels, sample_batches

    card, checkpoint = read_card(flags.checkpoint), find_checkpoint(flags.checkpoint)
    solver = flags.solver if flags.solver != "auto" else "consistency" if card.consistency else "heun"
    if solver == "consistency" and not card.consistency:
        raise ConfigError(f"{checkpoint}: a denoiser, not a consistency model: pass --solver heun")
    if solver == "heun" and card.consistency:
        raise ConfigError(f"{checkpoint}: a consistency model, it has no ODE to solve: pass --solver consistency")
    sampler = make_sampler(solver, flags.steps, flags.sigma_min, flags.sigma_max, flags.churn)
    labels = None
    if card.classes:
        labels = random_labels(flags.seed, range(flags.count), card.classes)
        if flags.label is not None:
            if not 0 <= flags.label < card.classes:
                raise ConfigError(f"label {flags.label}: the model knows 0..{card.classes - 1}")
            labels[:] = flags.label
    elif flags.label is not None:
        raise ConfigError(f"{checkpoint}: not conditional: leave --label out")
    device = device_of(flags.device)
    start = time.perf_counter()
    denoiser = load_denoiser(checkpoint, device)
    begin_folder(flags.out)
    (flags.out / RECORD).write_text("{}\n")  # the folder is ours from now on
    shown: list[np.ndarray] = []
    first = 0
    with Progress("sample", flags.count, "images", sys.stderr) as progress:
        batches = sample_batches(
            denoiser, sampler, flags.count, card.image_shape, flags.seed, flags.batch_size, labels, device
        )
        for pixels in batches:
            first = write_images(flags.out, pixels, first)
            if sum(map(len, shown)) < 64:
                shown.append(pixels)
            progress.update(first)
    write_grid(flags.out / GRID, np.concatenate(shown)[:64], columns=min(8, flags.count))
    seconds = time.perf_counter() - start
    report = SampleReport(
        checkpoint=str(checkpoint),
        out=str(flags.out),
        count=flags.count,
        seed=flags.seed,
        solver=solver,
        steps=len(sampler.sigmas) if solver == "consistency" else sampler.steps,  # type: ignore[union-attr]
        labels=None if labels is None else labels.tolist(),
        seconds=seconds,
        images_per_second=flags.count / seconds,
    )
    (flags.out / RECORD).write_text(json_format.dumps(asdict(report), indent=1) + "\n")
    return report
