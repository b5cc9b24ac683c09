"""`postmean verify OUT --store STORE`: hash all shards and recompute a sample in float64."""

from postmean.base.command_line import CommandLine
from postmean.base.errors import VerificationError
from postmean.runs.config import VerifyConfig

COMMAND = CommandLine(
    name="verify",
    settings=VerifyConfig,
    summary="Re-hash every shard and recompute a sample in float64.",
    main="out store records seconds shards",
)


def run(argv: list[str]) -> int:
    """Entry point of the command."""
    config, output = COMMAND.parse(argv)
    from postmean.runs.verify import verify  # here: torch takes seconds

    report = verify(config, output.progress)
    problems = report.problems
    lines = [
        f"{report.out}: {report.committed} of {report.shards} shards, {report.records:,} records, "
        f"estimator {report.estimator}; {report.recomputed:,} recomputed: "
        "mean squared error a dimension against float64:",
        f"  {'':<10} {'sigma':>12} {'tuples':>7} {'mse':>9} {'worst':>9}",
    ]
    for row in report.rows:
        span = f"{row.sigma_from:g}..{row.sigma_to:g}"
        lines.append(f"  {row.kind:<10} {span:>12} {row.count:>7} {row.mse:>9.1e} {row.worst:>9.1e}")
    for twin in report.twins:
        lines.append(
            f"  {twin.kind:<10} {twin.count} compared with {twin.virtual_runs:,} runs of the float64 twin: p "
            f"{twin.size:.2g} (size), {twin.shift:.2g} (shift), {twin.worst:.2g} (worst)"
        )
    if report.not_judged:
        lines.append(f"  the distribution of the means was not compared: {report.not_judged}")
    lines += [f"  {count} shards made on {kind}" for kind, count in report.made_on.items()]
    unread = report.committed - report.deleted - report.read
    if unread:
        lines.append(f"  {report.read:,} shards were read, {unread:,} others only listed")
    if report.deleted:
        lines.append(f"  {report.deleted} shards were deleted when all trainers had consumed them: not checked")
    lines.append("all is well" if not problems else f"{len(problems)} problems")
    output.report(report, "\n".join(lines))
    if problems:
        raise VerificationError("; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if problems[5:] else ""))
    return 0
