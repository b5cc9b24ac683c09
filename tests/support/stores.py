"""Stores of real images that need no download."""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from postmean.contract.image_store import ImageStore, StoreWriter


def digits_store(path: Path, images: int = 1797, channels: int = 1) -> ImageStore:
    """The 8x8 digits of scikit-learn as a store of Cx8x8 images with labels."""
    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:images, None].repeat(channels, 1)
    with StoreWriter(path, tuple("0123456789"), {"importer": "digits"}) as writer:
        writer.append(pixels, digits.target[:images])
        return writer.finish()
