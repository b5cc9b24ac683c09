"""What every importer gives: images in a fixed order, encoded or as pixels, with their labels."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

IMAGE_SUFFIXES = (".jpeg", ".jpg", ".png")


@dataclass(frozen=True)
class Item:
    """One image of a source."""

    place: str
    """What to call it in messages."""
    payload: bytes | np.ndarray
    """A JPEG or PNG file, or uint8 [C, H, W]."""
    label: int | None


class Importer(Protocol):
    """An opened source of one layout."""

    kind: str
    class_names: tuple[str, ...] | None
    """Name of each label, None where the source has no labels."""
    count: int
    """Number of images."""
    encoded: bool
    """Whether payloads are files to decode."""
    ignored: tuple[str, ...]
    """Files among the images that are none."""

    def items(self) -> Iterator[Item]:
        """The images, in an order that depends on names alone."""
        ...


def is_image(name: str) -> bool:
    """Whether a file is taken for an image, by its suffix."""
    return name.lower().endswith(IMAGE_SUFFIXES)
