"""`postmean evaluate IMAGES --store STORE`, or `--checkpoint CHECKPOINT_OR_RUN` in place of IMAGES."""

import sys

from postmean.base.command_line import parse, print_report
from postmean.base.extras import check_installed
from postmean.base.progress import Progress
from postmean.contract.image_store import ImageStore
from postmean.training.sample_config import EvaluateConfig

SUMMARY = "FID and Inception Score of images against an image store, by torch-fidelity."


def run(argv: list[str]) -> int:
    """Run the subcommand."""
    config = parse(EvaluateConfig, argv, "evaluate", SUMMARY)
    check_installed("evaluate", "torch_fidelity")  # before it draws
    store = ImageStore.open(config.store)
    from postmean.training.evaluate import evaluate, images_of  # here: torch takes seconds

    with Progress("sample", config.count, "images", sys.stderr) as progress:  # silent for a folder: nothing is drawn
        images = images_of(config, progress.update)
    with Progress("evaluate", len(images) + len(store), "images", sys.stderr) as progress:
        scores = evaluate(config, images, store, progress.update)
    text = (
        f"FID {scores.fid:.4g}, Inception Score {scores.inception_score:.4g} +- {scores.inception_score_std:.2g}: "
        f"{scores.images:,} images against {scores.reference_images:,} of the store"
    )
    print_report(scores, text, config.json)
    return 0
