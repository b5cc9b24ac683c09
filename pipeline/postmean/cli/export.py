"""`postmean export TARGETS --format parquet`: the records of a run as tables, one row a record."""

from postmean.base.command_line import CommandLine
from postmean.runs.config import ExportConfig

COMMAND = CommandLine(
    name="export",
    settings=ExportConfig,
    summary="Write the records of a run as tables for other tools. Resumes.",
    main="targets format out",
)


def run(argv: list[str]) -> int:
    """Entry point of the command."""
    config, output = COMMAND.parse(argv)
    from postmean.runs.export import export  # here: pyarrow takes a second

    report = export(config, output.progress)
    missing = report.shards - report.exported
    text = f"{report.out}: {report.records:,} records of {report.exported:,} shards, {report.written:,} written now"
    if missing:
        text += f"; {missing:,} shards of the run are not there yet, or were deleted"
    output.report(report, text)
    return 0
