"""`postmean evaluate IMAGES --store STORE`, or `--checkpoint CHECKPOINT_OR_RUN` in place of IMAGES."""

from postmean.base.command_line import parse, print_report
from postmean.base.progress import Progress
from postmean.training.sample_config import EvaluateConfig

SUMMARY = "FID and Inception Score of images against an image store, by torch-fidelity."


def run(argv: list[str]) -> int:
    """Run the subcommand."""
    config = parse(EvaluateConfig, argv, "evaluate", SUMMARY)
    from postmean.training.evaluate import evaluate  # here: torch takes seconds

    scores = evaluate(config, Progress)
    text = (
        f"FID {scores.fid:.4g}, Inception Score {scores.inception_score:.4g} +- {scores.inception_score_std:.2g}: "
        f"{scores.images:,} images against {scores.reference_images:,} of the store"
    )
    print_report(scores, text, config.json)
    return 0
