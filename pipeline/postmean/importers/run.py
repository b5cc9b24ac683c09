"""One import, from source to store."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from itertools import chain
from pathlib import Path

import numpy as np

from postmean.base.errors import ConfigError, DataError
from postmean.base.one_line import printable
from postmean.base.paths import local_path
from postmean.base.progress import ShowProgress, shown
from postmean.contract.image_store import StoreWriter
from postmean.importers import limits
from postmean.importers.config import ImportConfig
from postmean.importers.files.open import open_source
from postmean.importers.files.urls import is_url, without_secrets
from postmean.importers.layouts.detect import open_layout
from postmean.importers.layouts.layout import Item, Layout, Wanted
from postmean.importers.notes import images, listed, unread_files
from postmean.importers.pixels.decode import PixelRule, Shape, decode
from postmean.importers.pixels.image_file import NOTES
from postmean.importers.pixels.pool import decode_all
from postmean.importers.report import ImportReport

IMAGES_PER_WORKER = 2048
"""Images that make one more decoding process worth its start."""


def import_images(config: ImportConfig, progress: bool | ShowProgress = True) -> ImportReport:
    """Read `config.source` into a new store.

    >>> report = import_images(ImportConfig(source=photos, store=Path("photos.store")), progress=False)
    >>> report.images, report.shape, report.classes
    (6, (3, 8, 8), 2)

    Args:
        progress: whether to show how much of an archive has been read, then how many images.
    Raises:
        DataError: the source cannot be used as it is, or the store exists already or cannot be written.
        StorageError: the object store at a URL refuses, or cannot be reached.
    """
    show = shown(progress)
    if config.store is None:
        raise ConfigError("no store: give the path of the image store to make")
    if isinstance(config.store, str) and is_url(config.store):
        from postmean.importers.upload import import_to_url  # here: it loads obstore

        return import_to_url(config, lambda here: _import_here(here, show), show)
    return _import_here(config, show)


def _import_here(config: ImportConfig, show: ShowProgress) -> ImportReport:
    """Import into a folder."""
    start, store = time.monotonic(), local_path(config.store or "")
    if _is_inside(store, config.source):
        raise DataError(f"{store}: inside the source, where it would be a class next time: pass another path")
    if os.path.lexists(store):  # fail before a long read
        raise DataError(f"{store}: already there: remove it or import to another path")
    with ExitStack() as stack:
        source = stack.enter_context(open_source(config.source, show))
        layout = open_layout(source, config.kind, Wanted(config.split, config.label), stack, show)
        try:
            return _write(config, store, layout, show, start)
        except OSError as error:
            raise DataError(f"{store}: cannot be written: {error.strerror or error}") from error


def _is_inside(store: Path, source: str | Path) -> bool:
    if is_url(source):
        return False
    folder = local_path(source)
    return os.path.isdir(folder) and store.resolve().is_relative_to(folder.resolve())


def _shown(source: str | Path) -> str:
    """The source in the store's header: a whole path, or a URL without secrets."""
    return printable(without_secrets(str(source)) if is_url(source) else os.path.realpath(local_path(source)))


def _write(config: ImportConfig, path: Path, layout: Layout, show: ShowProgress, start: float) -> ImportReport:
    rule = PixelRule(
        resize=config.resize,
        size=config.size,
        channels=config.channels,
        on_corrupt=config.on_corrupt,
    )
    origin = {
        "importer": layout.kind,
        "path": _shown(config.source),
        "split": config.split,
        "label": config.label,
        "resize": config.resize,
        "resolution": config.resolution,
        "channels": config.channels,
        "on_corrupt": config.on_corrupt,
    }
    heavy = layout.encoded or config.resize != "none"
    workers = min(config.workers, 1 + layout.count // IMAGES_PER_WORKER) if heavy else 1
    converted = resized = 0
    skipped: list[str] = []
    says: dict[str, tuple[int, str]] = {}  # what files say -> how many do, and the first of them
    with (
        StoreWriter(path, layout.class_names, origin) as writer,
        show("import", layout.count, "images") as progress,
        ExitStack() as stack,
    ):
        expected, items = _first_shape(config.source, layout, rule)
        done = 0
        for batch in stack.enter_context(closing(decode_all(items, rule, expected, workers))):
            if len(batch.pixels):
                labels = None if layout.class_names is None else np.array(batch.labels, np.int64)
                writer.append(batch.pixels, labels)
            converted += batch.converted
            resized += batch.resized
            skipped += batch.skipped
            for key, places in batch.says.items():
                count, first = says.get(key, (0, places[0]))
                says[key] = (count + len(places), first)
            done += len(batch.pixels) + len(batch.skipped)
            progress.update(done, f"{len(skipped)} skipped" if skipped else "")
        notes = _notes(layout, skipped, says)
        store = writer.finish(
            converted=converted,
            resized=resized,
            skipped=len(skipped),
            skipped_names=skipped[: limits.NAMES_KEPT],
            ignored=len(layout.ignored),
            notes=notes,
        )
    return ImportReport(
        store=str(path),
        kind=layout.kind,
        images=len(store),
        shape=store.image_shape,
        classes=store.classes,
        converted=converted,
        resized=resized,
        skipped=len(skipped),
        ignored=len(layout.ignored),
        notes=notes,
        seconds=round(time.monotonic() - start, 2),
        bytes=sum(file.stat().st_size for file in path.iterdir()),
        fingerprint=store.header.fingerprint,
    )


def _notes(layout: Layout, skipped: list[str], says: dict[str, tuple[int, str]]) -> list[str]:
    """All lines about what the store does not keep, and about what was done to images."""
    lines = [*layout.notes, *unread_files(layout.ignored)]
    if skipped:
        lines.append(f"skipped as corrupt: {listed(skipped)}")
    if layout.hidden:
        lines.append(f"hidden files and folders are not read: {listed(layout.hidden)}")
    for key, text in NOTES.items():
        if key in says:
            count, first = says[key]
            lines.append(f"{images(count)} {text}, such as {first}")
    return lines


def _first_shape(source: str | Path, layout: Layout, rule: PixelRule) -> tuple[Shape, Iterator[Item]]:
    """Shape of the first image that can be decoded, and an iterator over all items."""
    items = layout.items()
    seen: list[Item] = []
    for item in items:
        seen.append(item)
        if (decoded := decode(item, rule, None)) is not None:
            channels, height, width = decoded.pixels.shape
            return (channels, height, width), chain(seen, items)
    raise DataError(f"{source}: none of its {len(seen)} images can be decoded, the first is {seen[0].place}")
