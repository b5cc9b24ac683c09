"""What an image store holds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from postmean.contract.image_store import ImageStore

_PICTURED = 64


@dataclass(frozen=True, kw_only=True)
class StoreView:
    """What an image store holds."""

    path: str
    images: int
    shape: tuple[int, int, int]
    """C, H, W"""
    class_counts: dict[str, int]
    """Images by class; empty without labels."""
    source: dict[str, Any]
    """What the images were imported from, and how."""
    fingerprint: str
    bytes: int
    indexes: list[str]
    """Files of `postmean index`."""


def inspect_store(store: ImageStore) -> StoreView:
    """Look at a store. Its images are not read."""
    names = store.header.class_names or ()
    counts = np.bincount(store.labels, minlength=len(names)).tolist() if store.labels is not None else []
    return StoreView(
        path=store.where,
        images=len(store),
        shape=store.image_shape,
        class_counts=dict(zip(names, counts, strict=True)),
        source=store.header.source,
        fingerprint=store.header.fingerprint,
        bytes=len(store) * store.dim,
        indexes=_indexes(store),
    )


def _indexes(store: ImageStore) -> list[str]:
    folder = store.path / "index"
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    if store.remote is not None:
        names = store.remote.index_names()
    return sorted(name for name in names if name.endswith((".npz", ".faiss")) and "/" not in name)


def draw_store(store: ImageStore, path: Path) -> None:
    """Draw evenly spaced images of the store, with their classes."""
    from postmean.inspect.picture import Tile, draw, drawable

    entries = np.unique(np.linspace(0, len(store) - 1, _PICTURED).astype(int))
    labels, names = store.label(entries), store.header.class_names

    def caption(row: int) -> str:
        if labels is None or names is None:
            return f"image {entries[row]}"
        name = names[labels[row]]
        return f"class {labels[row]}" if drawable(name).count("?") > name.count("?") else name

    draw([Tile(pixels, [caption(row)]) for row, pixels in enumerate(store.pixels(entries))], path)
