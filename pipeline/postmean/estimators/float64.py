"""Exact posterior means in float64 with plain numpy: slow, but independent of the engine, whose results it checks."""

import numpy as np

from postmean.contract.image_store import ImageStore
from postmean.engine.softmax import softmax

_ROWS = 2048  # entries at a time: 50 MB of float64 at D = 3 072


def exact_mean(store: ImageStore, entries: np.ndarray, z: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """E[x | z, sigma] over the given entries (Niedoba et al. 2024, Eq. 8), float64 [B, D] in [-1, 1].

    In float64 |z|^2 + |x|^2 - 2 z.x keeps 1e-12 of absolute precision, enough for sigma = 0.002.

    Args:
        entries: int64 [M], the population. z: float [B, D]. sigma: float [B].
    """
    weight = posterior_weights(store, entries, z, sigma)
    mean = np.zeros((len(z), store.dim))
    for start in range(0, len(entries), _ROWS):
        mean += weight[:, start : start + _ROWS] @ _x(store, entries[start : start + _ROWS])
    return mean


def posterior_weights(store: ImageStore, entries: np.ndarray, z: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """p(x_i | z, sigma) of the given entries, float64 [B, M]; a row sums to 1. Arguments as in `exact_mean`."""
    z = np.asarray(z, np.float64)
    scale = 2 * np.asarray(sigma, np.float64)[:, None] ** 2
    log_weight = np.empty((len(z), len(entries)))
    for start in range(0, len(entries), _ROWS):
        x = _x(store, entries[start : start + _ROWS])
        distance2 = np.square(z).sum(1)[:, None] - 2 * z @ x.T + np.square(x).sum(1)
        log_weight[:, start : start + _ROWS] = -distance2 / scale
    return softmax(log_weight)


def _x(store: ImageStore, entries: np.ndarray) -> np.ndarray:
    return store.pixels(entries).reshape(len(entries), store.dim) / 127.5 - 1.0
