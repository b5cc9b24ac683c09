"""`postmean sample CHECKPOINT_OR_RUN --out DIR`."""

from postmean.base.command_line import CommandLine
from postmean.base.progress import duration
from postmean.training.cli.leading import leads
from postmean.training.sample_config import SampleConfig

COMMAND = CommandLine(
    name="sample",
    settings=SampleConfig,
    summary="Draw images from the averaged weights of a checkpoint, or of the newest one of a run.",
    main="checkpoint out count seed sampler steps sigmas guidance guide ema label batch-size device",
)


def run(argv: list[str]) -> int:
    """Run the subcommand."""
    config, output = COMMAND.parse(argv)
    from postmean.training.sample import sample  # imported late: torch takes seconds

    report = sample(config, output.progress)
    text = (
        f"{report.count:,} images of seed {report.seed} by {report.sampler}, {report.steps} steps, in "
        f"{duration(report.seconds)} ({report.images_per_second:.1f} images/s): {report.out}"
    )
    if leads():
        output.report(report, text)
    return 0
