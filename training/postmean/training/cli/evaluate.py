"""`postmean evaluate IMAGES --store STORE`, or `--checkpoint CHECKPOINT_OR_RUN` in place of IMAGES."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from postmean.base.command_line import parse, print_report
from postmean.base.errors import ConfigError
from postmean.base.extras import check_installed
from postmean.base.progress import Progress
from postmean.contract.image_store import ImageStore

SUMMARY = "FID and Inception Score of images against an image store, by torch-fidelity."


@dataclass(frozen=True, kw_only=True)
class EvaluateFlags:
    """What to score, and against what."""

    images: Annotated[Path | None, tyro.conf.Positional] = None
    """Folder of PNGs, as `postmean sample` writes it."""
    store: Path
    """Image store to compare with, all of it."""
    checkpoint: Path | None = None
    """In place of a folder: a checkpoint or run to draw images from."""
    count: int = 50_000
    """Images to draw from the checkpoint."""
    seed: int = 0
    """Of the images that are drawn."""
    steps: int | None = None
    """Solver steps; default 18 of heun, 1 evaluation of a consistency model."""
    feature_extractor_weights: Path | None = None
    """Inception weights in torch-fidelity's format, for machines without internet; default: downloaded once."""
    cache: Path | None = None
    """Folder for the features of the store; default: torch-fidelity's own."""
    batch_size: int = 64
    device: str = "auto"
    """auto, cpu or cuda."""
    json: bool = False
    """Print the report as JSON."""


def run(argv: list[str]) -> int:
    """Run the subcommand."""
    flags = parse(EvaluateFlags, argv, "evaluate", SUMMARY)
    if (flags.images is None) == (flags.checkpoint is None):
        raise ConfigError("pass either a folder of images or --checkpoint")
    if flags.count < 2 or flags.batch_size < 1 or (flags.steps is not None and flags.steps < 1):
        raise ConfigError("expected --count of at least 2, --batch-size and --steps of at least 1")
    check_installed("evaluate", "torch_fidelity")  # before it draws
    store = ImageStore.open(flags.store)
    from postmean.training.distributed import device_of
    from postmean.training.evaluation import evaluate
    from postmean.training.images import ImageFolder

    device = device_of(flags.device)
    images = ImageFolder(flags.images) if flags.images else _draw(flags, device)
    with Progress("evaluate", len(images) + len(store), "images", sys.stderr) as progress:
        scores = evaluate(
            images,
            store,
            device,
            weights=flags.feature_extractor_weights,
            batch_size=flags.batch_size,
            cache=flags.cache,
            progress=progress.update,
        )
    text = (
        f"FID {scores.fid:.4g}, Inception Score {scores.inception_score:.4g} +- {scores.inception_score_std:.2g}: "
        f"{scores.images:,} images against {scores.reference_images:,} of the store"
    )
    print_report(scores, text, flags.json)
    return 0


def _draw(flags: EvaluateFlags, device):
    from postmean.training.checkpoint import load_denoiser, read_card
    from postmean.training.evaluation import ArrayImages
    from postmean.training.model.sampling import make_sampler, random_labels, sample_batches

    assert flags.checkpoint is not None
    card = read_card(flags.checkpoint)
    sampler = make_sampler("consistency" if card.consistency else "heun", flags.steps)
    labels = random_labels(flags.seed, range(flags.count), card.classes) if card.classes else None
    drawn = []
    with Progress("sample", flags.count, "images", sys.stderr) as progress:
        for batch in sample_batches(
            load_denoiser(flags.checkpoint, device),
            sampler,
            flags.count,
            card.image_shape,
            flags.seed,
            flags.batch_size,
            labels,
            device,
        ):
            drawn.append(batch)
            progress.update(sum(map(len, drawn)))
    return ArrayImages(drawn)
