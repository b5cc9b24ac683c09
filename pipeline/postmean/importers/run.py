"""One import, from source to store."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from postmean.base.errors import DataError
from postmean.base.progress import NoProgress, ShowProgress
from postmean.contract.image_store import StoreWriter
from postmean.importers.config import ImportConfig
from postmean.importers.decode import PixelRule, Shape, decode
from postmean.importers.detect import open_importer
from postmean.importers.importer import Importer, Item
from postmean.importers.pool import decode_all
from postmean.importers.sources import open_source

NAMES_KEPT = 20
"""Most names of skipped images kept in the header."""
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
    seconds: float
    bytes: int
    fingerprint: str


def import_images(config: ImportConfig, progress: ShowProgress = NoProgress) -> ImportReport:
    """Read `config.source` into a new store.

    Args:
        progress: shows how much of an archive has been read, then how many images.
    Raises:
        DataError: the source cannot be used as it is, or the store exists already or cannot be written.
    """
    start = time.monotonic()
    if config.store.exists():  # fail before a long read
        raise DataError(f"{config.store}: already there: remove it or import to another path")
    with open_source(config.source, progress) as source:
        importer = open_importer(source, config.kind, config.split)
        try:
            return _write(config, importer, progress, start)
        except OSError as error:
            raise DataError(f"{config.store}: cannot be written: {error.strerror or error}") from error


def _write(config: ImportConfig, importer: Importer, show: ShowProgress, start: float) -> ImportReport:
    rule = PixelRule(
        resize=config.resize,
        resolution=config.resolution,
        channels=config.channels,
        on_corrupt=config.on_corrupt,
    )
    origin = {
        "importer": importer.kind,
        "path": str(config.source.resolve()),
        "split": config.split,
        "resize": config.resize,
        "resolution": config.resolution,
        "channels": config.channels,
        "on_corrupt": config.on_corrupt,
    }
    workers = min(config.workers, 1 + importer.count // IMAGES_PER_WORKER) if importer.encoded else 1
    converted = resized = 0
    skipped: list[str] = []
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
            done += len(batch.pixels) + len(batch.skipped)
            progress.update(done, f"{len(skipped)} skipped" if skipped else "")
        store = writer.finish(
            converted=converted,
            resized=resized,
            skipped=len(skipped),
            skipped_names=skipped[:NAMES_KEPT],
            ignored=len(importer.ignored),
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
        seconds=round(time.monotonic() - start, 2),
        bytes=sum(file.stat().st_size for file in Path(config.store).iterdir()),
        fingerprint=store.header.fingerprint,
    )


def _first_shape(source: Path, importer: Importer, rule: PixelRule) -> tuple[Shape, Iterator[Item]]:
    """Shape of the first image that can be decoded, and an iterator over all items."""
    items = importer.items()
    seen = []
    for item in items:
        seen.append(item)
        if (decoded := decode(item, rule, None)) is not None:
            channels, height, width = decoded.pixels.shape
            return (channels, height, width), chain(seen, items)
    raise DataError(f"{source}: none of its {len(seen)} images can be decoded, the first is {seen[0].place}")
