"""A small Fréchet distance: that of FID, with features of a fixed random network in place of Inception's.

It needs no weights and orders models of one data set. Its values are not FIDs.
"""

import numpy as np


class RandomFeatures:
    """A random network D -> 256 -> 48 with one ReLU, the same for every data set of D values."""

    def __init__(self, dim: int) -> None:
        rng = np.random.default_rng(3)
        self._first = rng.normal(size=(dim, 256)) / dim**0.5
        self._second = rng.normal(size=(256, 48)) * (2 / 256) ** 0.5

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Features [n, 48] of images [n, D] in [-1, 1]."""
        return np.maximum(x @ self._first, 0) @ self._second


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Fréchet distance of two Gaussians with the moments of features [n, F], over the trace of b's covariance."""
    ca, cb = np.cov(a.T), np.cov(b.T)
    # trace of the square root of ca cb: by its eigenvalues, which are real and >= 0
    cross = np.sqrt(np.maximum(np.linalg.eigvals(ca @ cb).real, 0)).sum()
    distance = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(ca + cb) - 2 * cross
    return float(distance / np.trace(cb))
