"""`postmean evaluate IMAGES --store STORE`, or `--checkpoint CHECKPOINT_OR_RUN` in place of IMAGES."""

from postmean.base.command_line import CommandLine
from postmean.training.cli.leading import leads
from postmean.training.sample_config import EvaluateConfig

COMMAND = CommandLine(
    name="evaluate",
    settings=EvaluateConfig,
    summary="FID, KID, precision, recall and Inception Score of images against an image store, by torch-fidelity.",
    main="images store checkpoint count seed sampler steps sigmas guidance guide batch-size device "
    "feature-extractor-weights cache",
)


def run(argv: list[str]) -> int:
    """Run the subcommand."""
    config, output = COMMAND.parse(argv)
    from postmean.training.evaluate import evaluate  # here: torch takes seconds

    scores = evaluate(config, output.progress)
    text = (
        f"FID {scores.fid:.4g}, KID {scores.kid:.3g}, precision {scores.precision:.3g}, recall {scores.recall:.3g}, "
        f"Inception Score {scores.inception_score:.4g} +- {scores.inception_score_std:.2g}: "
        f"{scores.images:,} images against {scores.reference_images:,} of the store"
    )
    if leads():
        output.report(scores, text)
    return 0
