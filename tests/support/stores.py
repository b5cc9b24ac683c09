"""Stores of real images that need no download."""

import importlib.util
from functools import cache
from pathlib import Path

import numpy as np

from postmean.contract.image_store import ImageStore, StoreWriter


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """All 1797 digits of scikit-learn: uint8 pixels (N, 8, 8) and labels.

    Read from its file, because every process of the tests needs them and to import scikit-learn takes it seconds.
    """
    package = importlib.util.find_spec("sklearn")
    assert package is not None and package.origin is not None, "the digits are scikit-learn's: install it"
    table = np.loadtxt(Path(package.origin).parent / "datasets/data/digits.csv.gz", delimiter=",", dtype=np.int64)
    pixels = np.rint(table[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return pixels, table[:, -1]


def digits_store(path: Path, images: int = 1797, channels: int = 1) -> ImageStore:
    """The digits as a store of Cx8x8 images with labels."""
    pixels, labels = digits()
    with StoreWriter(path, tuple("0123456789"), {"importer": "digits"}) as writer:
        writer.append(pixels[:images, None].repeat(channels, 1), labels[:images])
        return writer.finish()
