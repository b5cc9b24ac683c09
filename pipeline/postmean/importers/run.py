"""One import, from source to store."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from postmean.base.errors import DataError
from postmean.base.one_line import printable
from postmean.base.paths import local_path
from postmean.base.progress import ShowProgress, shown
from postmean.contract.image_store import StoreWriter
from postmean.importers import limits
from postmean.importers.config import ImportConfig
from postmean.importers.decode import PixelRule, Shape, decode
from postmean.importers.detect import open_importer
from postmean.importers.image_file import NOTES
from postmean.importers.importer import Importer, Item
from postmean.importers.notes import images, listed, unread_files
from postmean.importers.pool import decode_all
from postmean.importers.source import Source
from postmean.importers.sources import open_source

IMAGES_PER_WORKER = 2048
"""Images that make one more decoding process worth its start."""


@dataclass(frozen=True, kw_only=True)
class ImportReport:
    """Result of an import."""

    store: str
    kind: str
    images: int
    shape: tuple[int, int, int]
    """C, H, W"""
    classes: int
    converted: int
    resized: int
    skipped: int
    ignored: int
    notes: list[str]
    """What the source says about its images and the store does not keep, and what was done to them, one line each."""
    seconds: float
    bytes: int
    fingerprint: str


def import_images(config: ImportConfig, progress: bool | ShowProgress = True) -> ImportReport:
    """Read `config.source` into a new store.

    >>> report = import_images(ImportConfig(source=photos, store=Path("photos.store")), progress=False)
    >>> report.images, report.shape, report.classes
    (6, (3, 8, 8), 2)

    Args:
        progress: whether to show how much of an archive has been read, then how many images.
    Raises:
        DataError: the source cannot be used as it is, or the store exists already or cannot be written.
    """
    show, start = shown(progress), time.monotonic()
    config = replace(config, source=local_path(config.source), store=local_path(config.store))
    if _is_inside(config.store, config.source):
        raise DataError(f"{config.store}: inside the source, where it would be a class next time: pass another path")
    if os.path.lexists(config.store):  # fail before a long read
        raise DataError(f"{config.store}: already there: remove it or import to another path")
    with open_source(config.source, show) as source:
        importer = open_importer(source, config.kind, config.split)
        try:
            return _write(config, source, importer, show, start)
        except OSError as error:
            raise DataError(f"{config.store}: cannot be written: {error.strerror or error}") from error


def _is_inside(store: Path, source: Path) -> bool:
    return os.path.isdir(source) and store.resolve().is_relative_to(source.resolve())


def _write(config: ImportConfig, source: Source, importer: Importer, show: ShowProgress, start: float) -> ImportReport:
    rule = PixelRule(
        resize=config.resize,
        resolution=config.resolution,
        channels=config.channels,
        on_corrupt=config.on_corrupt,
    )
    origin = {
        "importer": importer.kind,
        "path": printable(str(config.source.resolve())),
        "split": config.split,
        "resize": config.resize,
        "resolution": config.resolution,
        "channels": config.channels,
        "on_corrupt": config.on_corrupt,
    }
    workers = min(config.workers, 1 + importer.count // IMAGES_PER_WORKER) if importer.encoded else 1
    converted = resized = 0
    skipped: list[str] = []
    says: dict[str, tuple[int, str]] = {}  # what files say -> how many do, and the first of them
    with (
        StoreWriter(config.store, importer.class_names, origin) as writer,
        show("import", importer.count, "images") as progress,
    ):
        expected, items = _first_shape(config.source, importer, rule)
        done = 0
        for batch in decode_all(items, rule, expected, workers):
            if len(batch.pixels):
                labels = None if importer.class_names is None else np.array(batch.labels, np.int64)
                writer.append(batch.pixels, labels)
            converted += batch.converted
            resized += batch.resized
            skipped += batch.skipped
            for key, places in batch.says.items():
                count, first = says.get(key, (0, places[0]))
                says[key] = (count + len(places), first)
            done += len(batch.pixels) + len(batch.skipped)
            progress.update(done, f"{len(skipped)} skipped" if skipped else "")
        notes = _notes(source, importer, skipped, says)
        store = writer.finish(
            converted=converted,
            resized=resized,
            skipped=len(skipped),
            skipped_names=skipped[: limits.NAMES_KEPT],
            ignored=len(importer.ignored),
            notes=notes,
        )
    return ImportReport(
        store=str(config.store),
        kind=importer.kind,
        images=len(store),
        shape=store.image_shape,
        classes=store.classes,
        converted=converted,
        resized=resized,
        skipped=len(skipped),
        ignored=len(importer.ignored),
        notes=notes,
        seconds=round(time.monotonic() - start, 2),
        bytes=sum(file.stat().st_size for file in Path(config.store).iterdir()),
        fingerprint=store.header.fingerprint,
    )


def _notes(source: Source, importer: Importer, skipped: list[str], says: dict[str, tuple[int, str]]) -> list[str]:
    """All lines about what the store does not keep, and about what was done to images."""
    lines = [*importer.notes, *unread_files(importer.ignored)]
    if skipped:
        lines.append(f"skipped as corrupt: {listed(skipped)}")
    if source.hidden:
        lines.append(f"hidden files and folders are not read: {listed(source.hidden)}")
    for key, text in NOTES.items():
        if key in says:
            count, first = says[key]
            lines.append(f"{images(count)} {text}, such as {first}")
    return lines


def _first_shape(source: Path, importer: Importer, rule: PixelRule) -> tuple[Shape, Iterator[Item]]:
    """Shape of the first image that can be decoded, and an iterator over all items."""
    items = importer.items()
    seen: list[Item] = []
    for item in items:
        seen.append(item)
        if (decoded := decode(item, rule, None)) is not None:
            channels, height, width = decoded.pixels.shape
            return (channels, height, width), chain(seen, items)
    raise DataError(f"{source}: none of its {len(seen)} images can be decoded, the first is {seen[0].place}")
