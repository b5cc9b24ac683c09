"""Interface of an importer: images in a fixed order, encoded or as pixels, with their labels."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Item:
    """One image of a source."""

    place: str
    """Its name in messages."""
    payload: bytes | np.ndarray
    """An image file, or uint8 [C, H, W]."""
    label: int | None


class Importer(Protocol):
    """An opened source of one layout."""

    kind: str
    class_names: tuple[str, ...] | None
    """Name of each label, None if the source has no labels."""
    count: int
    """Number of images."""
    encoded: bool
    """Whether payloads are encoded files; else they are pixels."""
    ignored: tuple[str, ...]
    """Other files beside the images, which are not read."""
    notes: tuple[str, ...]
    """What the source says about its images and the store will not keep, one line each; not the ignored files."""

    def items(self) -> Iterator[Item]:
        """The images, in an order that depends only on names and on the order within each file."""
        ...
