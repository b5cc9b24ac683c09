"""`postmean import-weights SNAPSHOT.pkl --out CHECKPOINT`."""

from postmean.base.command_line import CommandLine
from postmean.training.released.config import ImportWeightsConfig

COMMAND = CommandLine(
    name="import-weights",
    settings=ImportWeightsConfig,
    summary="Read the released weights of an EDM or EDM2 network as a checkpoint. No code in the file is run.",
    main="file out",
)


def run(argv: list[str]) -> int:
    """Run the subcommand."""
    config, output = COMMAND.parse(argv)
    from postmean.training.released.import_weights import import_weights  # imported late: torch takes seconds

    report = import_weights(config)
    kind = f"of {report.classes} classes" if report.classes else "unconditional"
    c, h, w = report.image_shape
    text = f"{report.network}, {report.parameters:,} weights, {kind}, images {c}x{h}x{w}: {report.checkpoint}"
    output.report(report, text)
    return 0
