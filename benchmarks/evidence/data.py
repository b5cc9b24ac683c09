"""The data sets of the evidence: images to train on and images held out, as arrays and as a store."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from postmean.contract.image_store import ImageStore

_SEED = 20260101  # of the split


@dataclass(frozen=True)
class DataSet:
    """Images in [-1, 1], float32 [n, D], and labels, int64 [n]."""

    name: str
    store: ImageStore
    """The training images."""
    train: np.ndarray
    held_out: np.ndarray
    every: np.ndarray
    """Training images and held-out images: what samples should look like."""
    labels: np.ndarray
    """Of `every`."""

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.store.image_shape


def digits() -> DataSet:
    """scikit-learn's 1 797 digits of 8x8 pixels, a fifth held out."""
    from sklearn.datasets import load_digits

    loaded = load_digits()
    return _split("digits", np.rint(loaded.images * (255 / 16)).astype(np.uint8)[:, None], loaded.target, 0.2)


def cifar16(store: Path, images: int = 12_000) -> DataSet:
    """Images of a CIFAR-10 store, grey at 16x16 (means of 2x2 pixels and of the colours), a sixth held out."""
    whole = ImageStore.open(store)
    order = np.random.default_rng(_SEED).permutation(len(whole))[:images]
    pixels = whole.pixels(order).astype(np.float32).mean(1).reshape(images, 16, 2, 16, 2).mean((2, 4))
    labels = whole.label(order)
    assert labels is not None
    return _split("cifar16", np.rint(pixels).astype(np.uint8)[:, None], labels, 1 / 6)


def _split(name: str, pixels: np.ndarray, labels: np.ndarray, held_out: float) -> DataSet:
    order = np.random.default_rng(_SEED).permutation(len(pixels))
    first = round(held_out * len(pixels))
    chosen = order[first:]
    path = Path(tempfile.mkdtemp(prefix="evidence-")) / f"{name}.store"
    store = ImageStore.write(path, zip(pixels[chosen], labels[chosen].tolist(), strict=True))
    unit = (pixels / 127.5 - 1).reshape(len(pixels), -1).astype(np.float32)
    order = np.concatenate([chosen, order[:first]])
    return DataSet(name, store, unit[chosen], unit[order[len(chosen) :]], unit[order], labels[order])
