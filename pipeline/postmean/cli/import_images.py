"""`postmean import SOURCE STORE`"""

from postmean.base.command_line import parse, print_report
from postmean.base.progress import Progress, byte_size, duration
from postmean.importers.config import ImportConfig


def run(argv: list[str]) -> int:
    """Read a data set into an image store and print a summary."""
    config = parse(ImportConfig, argv, "import", "Read images and labels into an image store.")
    from postmean.importers.run import import_images  # here: --help need not wait for numpy and Pillow

    report = import_images(config, Progress)
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
    print_report(report, "\n".join(lines), config.json)
    return 0
