"""Distances of drawn images to those of a store."""

from pathlib import Path

import numpy as np
import torch

from postmean.contract.image_store import ImageStore, to_unit
from postmean.report.frechet import RandomFeatures, frechet
from postmean.report.nearest import nearest_differences

_BLOCK = 4096
"""Images of the store in memory at once."""


class HybridScores:
    """Fréchet distance and distance to the nearest image; FID with Inception's weights.

    Args:
        weights: Inception weights in torch-fidelity's format; None: no FID.
    """

    def __init__(self, store: ImageStore, weights: Path | None, device: str) -> None:
        self._store, self._weights, self._device = store, weights, device
        self._features = RandomFeatures(store.dim)
        self._reference = np.concatenate([self._features(x) for x in self._blocks()])

    def of(self, pixels: np.ndarray) -> dict[str, float]:
        """frechet and nearest, with weights also fid, of images uint8 [n, C, H, W].

        nearest: root mean squared difference to the nearest image of the store, averaged over the images.
        """
        x = to_unit(pixels).reshape(len(pixels), -1)
        found = {
            "frechet": frechet(self._features(x), self._reference),
            "nearest": float(nearest_differences(x, self._blocks())[0].mean()),
        }
        if self._weights is not None:
            from postmean.training.scores import ArrayImages, score

            images = ArrayImages([pixels])
            device = torch.device(self._device)
            found["fid"] = score(images, self._store, device, weights=self._weights).fid
        return found

    def _blocks(self):
        for first in range(0, len(self._store), _BLOCK):
            rows = np.arange(first, min(first + _BLOCK, len(self._store)))
            yield to_unit(self._store.pixels(rows)).reshape(len(rows), -1)
