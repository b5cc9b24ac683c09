"""`postmean sample CHECKPOINT_OR_RUN --out DIR`."""

from postmean.base.command_line import parse, print_report
from postmean.base.progress import Progress, duration
from postmean.training.sample_config import SampleConfig

SUMMARY = "Draw images from the averaged weights of a checkpoint, or of the newest one of a run."


def run(argv: list[str]) -> int:
    """Run the subcommand."""
    config = parse(SampleConfig, argv, "sample", SUMMARY)
    from postmean.training.sample import sample  # imported late: torch takes seconds

    report = sample(config, Progress)
    text = (
        f"{report.count:,} images of seed {report.seed} by {report.sampler}, {report.steps} steps, in "
        f"{duration(report.seconds)} ({report.images_per_second:.1f} images/s): {report.out}"
    )
    print_report(report, text, config.json)
    return 0
