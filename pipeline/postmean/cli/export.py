"""`postmean export TARGETS --format parquet`: the records of a run as tables, one row a record."""

from postmean.base.command_line import parse, print_report
from postmean.base.progress import Progress
from postmean.runs.config import ExportConfig


def run(argv: list[str]) -> int:
    """Entry point of the command."""
    config = parse(ExportConfig, argv, "export", "Write the records of a run as tables for other tools. Resumes.")
    from postmean.runs.export import export  # here: pyarrow takes a second

    report = export(config, Progress)
    missing = report.shards - report.exported
    text = f"{report.out}: {report.records:,} records of {report.exported:,} shards, {report.written:,} written now"
    if missing:
        text += f"; {missing:,} shards of the run are not there yet, or were deleted"
    print_report(report, text, config.json)
    return 0
