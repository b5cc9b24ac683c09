"""`postmean import SOURCE STORE` and `postmean import --list SOURCE`"""

from postmean.base.command_line import CommandLine
from postmean.base.log import tell
from postmean.base.output import Output
from postmean.base.progress import byte_size, duration
from postmean.importers.config import ImportConfig

COMMAND = CommandLine(
    name="import",
    settings=ImportConfig,
    summary="Read images and labels into an image store.",
    main="source store list kind split label resize resolution channels on-corrupt workers",
)


def run(argv: list[str]) -> int:
    """Read a data set into an image store and print a summary; or say what it is."""
    config, output = COMMAND.parse(argv)
    if config.list:
        return _list(config, output)
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
    output.report(report, f"{text} ({changes})" if changes else text)
    for note in report.notes:
        tell("note", f"note: {note}", store=report.store, note=note)
    return 0


def _list(config: ImportConfig, output: Output) -> int:
    from postmean.importers.survey import survey_source

    found = survey_source(config, output.progress)
    names = found.splits[0].class_names or []
    lines = [
        f"{found.source}: {found.layout} (--kind {found.kind}), {found.files:,} files",
        "splits: " + ", ".join(f"{part.split} {part.images:,} images" for part in found.splits),
        f"classes: {len(names):,}: {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}"
        if names
        else "no classes",
        f"sizes: {_counted(found.sizes)}; channels: {_counted(found.channels)}; {found.sampled} images looked at",
    ]
    if found.labels:
        lines.append(f"--label may be: {', '.join(found.labels[:50])}")
    lines += [*(f"note: {note}" for note in found.oddities), found.command]
    output.report(found, "\n".join(lines))
    return 0


def _counted(kinds: dict[str, int]) -> str:
    if len(kinds) == 1:
        return next(iter(kinds))
    shown = ", ".join(f"{kind} ({count})" for kind, count in list(kinds.items())[:8])
    return f"{shown} and {len(kinds) - 8} more" if len(kinds) > 8 else shown or "none"
