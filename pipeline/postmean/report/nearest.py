"""Distances of images to the nearest ones of a data set."""

from collections.abc import Iterable

import numpy as np


def nearest_differences(x: np.ndarray, blocks: Iterable[np.ndarray]) -> np.ndarray:
    """Root mean squared differences of each x to the nearest and the second nearest image of the blocks, [2, n].

    Args:
        x: [n, D]. blocks: of the data set, [m, D] each.
    """
    least = np.full((len(x), 2), np.inf)
    for block in blocks:
        squared = np.square(x).sum(1)[:, None] + np.square(block).sum(1) - 2 * x @ block.T
        least = np.partition(np.concatenate([least, squared], 1), 1, axis=1)[:, :2]
    return np.sqrt(np.maximum(least.T, 0) / x.shape[1])
