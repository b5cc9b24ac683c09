"""Imports of a source into a store of the test, and imports that are refused."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from postmean.base.errors import DataError
from postmean.contract.image_store import ImageStore
from postmean.importers.config import ImportConfig
from postmean.importers.run import import_images


def imported(folder: Path, source: Path, **settings: Any) -> ImageStore:
    """The source as a store in the folder, whose header has the notes of the import."""
    report = import_images(ImportConfig(source=source, store=folder / "store", workers=1, **settings))
    store = ImageStore.open(folder / "store")
    assert store.header.source["notes"] == report.notes
    return store


@contextmanager
def refused_import(folder: Path, message: str) -> Iterator[None]:
    """An import within the block is refused in one line, which matches the message, and leaves no store."""
    with pytest.raises(DataError, match=message) as caught:
        yield
    assert "\n" not in str(caught.value)
    assert not (folder / "store").exists()
