"""`postmean import SOURCE STORE`"""

from postmean.base.command_line import CommandLine
from postmean.base.progress import byte_size, duration
from postmean.importers.config import ImportConfig

COMMAND = CommandLine(
    name="import",
    settings=ImportConfig,
    summary="Read images and labels into an image store.",
    main="source store kind split resize resolution channels on-corrupt workers",
)


def run(argv: list[str]) -> int:
    """Read a data set into an image store and print a summary."""
    config, output = COMMAND.parse(argv)
    from postmean.importers.run import import_images  # here: --help need not wait for numpy and Pillow

    report = import_images(config, output.progress)
    channels, height, width = report.shape
    text = (
        f"{report.store}: {report.images:,} images of {channels}x{height}x{width}, "
        f"{report.classes or 'no'} classes, {byte_size(report.bytes)} in {duration(report.seconds)}, "
        f"fingerprint {report.fingerprint[:12]}"
    )
    counts = [("converted", report.converted), ("resized", report.resized), ("skipped as corrupt", report.skipped)]
    counts.append(("other files ignored", report.ignored))
    changes = ", ".join(f"{count:,} {what}" for what, count in counts if count)
    lines = [f"{text} ({changes})" if changes else text, *(f"note: {note}" for note in report.notes)]
    output.report(report, "\n".join(lines))
    return 0
