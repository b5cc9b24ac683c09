"""The paper's way, straightforward: a FAISS Flat search of k = 2048 for every tuple, then n = 256 draws.

Niedoba et al. 2024, Algorithm 1, in plain numpy and FAISS with nothing of the engine in it: the baseline that
throughput is compared with.
"""

import faiss
import numpy as np


class PaperWay:
    """Algorithm 1 over a data set of float32 images in [-1, 1]."""

    def __init__(self, x: np.ndarray, k: int = 2048, n: int = 256) -> None:
        self._x, self._k, self._n = x, min(k, len(x)), n
        self._index = faiss.IndexFlatL2(x.shape[1])
        self._index.add(x)

    def means(self, z: np.ndarray, sigma: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Posterior means of a batch, float32 [B, D]."""
        distance2, neighbour = self._index.search(z, self._k)
        size = len(self._x)
        out = np.empty_like(z)
        for row in range(len(z)):
            log_p = -distance2[row].astype(np.float64) / (2 * float(sigma[row]) ** 2)
            p = np.exp(log_p - log_p.max())
            mass = np.append(p, (size - self._k) * p[-1])
            chosen = generator.choice(self._k + 1, self._n, p=mass / mass.sum())
            member = neighbour[row, np.minimum(chosen, self._k - 1)]
            weight = np.ones(self._n)
            tail = chosen == self._k
            if tail.any():
                drawn = generator.integers(0, size, 2 * self._n + self._k)
                member[tail] = drawn[~np.isin(drawn, neighbour[row])][: tail.sum()]
                far2 = np.square(z[row] - self._x[member[tail]]).sum(1, dtype=np.float64)
                weight[tail] = np.exp(-far2 / (2 * float(sigma[row]) ** 2) - log_p[-1])
            out[row] = (weight / weight.sum()).astype(np.float32) @ self._x[member]
        return out
