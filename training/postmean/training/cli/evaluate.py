"""`postmean evaluate IMAGES --store STORE`, or `--checkpoint CHECKPOINT_OR_RUN` in place of IMAGES."""

from postmean.base.command_line import CommandLine
from postmean.training.sample_config import EvaluateConfig

COMMAND = CommandLine(
    name="evaluate",
    settings=EvaluateConfig,
    summary="FID and Inception Score of images against an image store, by torch-fidelity.",
    main="images store checkpoint count seed sampler steps sigmas batch-size device feature-extractor-weights cache",
)


def run(argv: list[str]) -> int:
    """Run the subcommand."""
    config, output = COMMAND.parse(argv)
    from postmean.training.evaluate import evaluate  # here: torch takes seconds

    scores = evaluate(config, output.progress)
    text = (
        f"FID {scores.fid:.4g}, Inception Score {scores.inception_score:.4g} +- {scores.inception_score_std:.2g}: "
        f"{scores.images:,} images against {scores.reference_images:,} of the store"
    )
    output.report(scores, text)
    return 0
