"""`postmean index STORE`: the self-join behind the certificate and, if asked for, a FAISS index."""

from postmean.base.command_line import CommandLine
from postmean.base.progress import duration
from postmean.cli.signals import stopped_by_signals
from postmean.runs.index_config import IndexConfig

COMMAND = CommandLine(
    name="index",
    settings=IndexConfig,
    summary="Build the self-join (certificate) of a store, and a FAISS index.",
    main="store index flips conditional nearest tolerance device threads actors",
)


def run(argv: list[str]) -> int:
    """Entry point of the command."""
    config, output = COMMAND.parse(argv)
    from postmean.runs.index import index  # here, so that --help does not wait for torch

    with stopped_by_signals():
        report = index(config, output.progress)
    took = f"in {duration(report.self_join_seconds)}" if report.computed else "was there already"
    text = (
        f"{report.self_join}: self-join of {report.images:,} images {took}; certified sigma at "
        f"tolerance {config.tolerance:g}: median {report.certified_sigma['q50']:.3g}, "
        f"1 % below {report.certified_sigma['q1']:.3g}"
    )
    if report.index_seconds is not None:
        text += f"\n{report.index}: built in {duration(report.index_seconds)}"
    output.report(report, text)
    return 0
