"""Exact posterior means in float64: plain and independent of the engine, whose results it checks.

It reads the images once for all queries, a tile at a time, with as many threads as torch has. Memory does not grow with
the data set: a tile takes 64 MB, and the queries 8 bytes per dimension and member of a small set of arrays [B, D].
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from postmean.contract.image_store import ImageStore
from postmean.engine.softmax import softmax

_TILE_BYTES = 64_000_000
_MOST_ROWS = 8192
_NEGLIGIBLE = -70.0  # e^-70 = 4e-31: a trillion members of such weight do not change a float64


@dataclass(frozen=True)
class ExactPosterior:
    """What one pass over a population finds for B queries."""

    mean: np.ndarray
    """E[x | z, sigma] (Niedoba et al. 2024, Eq. 8), float64 [B, D] in [-1, 1]"""
    neighbours: np.ndarray
    """int64 [B, k], positions in the population of the k nearest members, in no order"""
    slope: np.ndarray
    """float64 [B, D], Cov(log p, x): how the mean changes with log(1 / sigma^2); empty where k = 0"""
    population_mean: np.ndarray
    """float64 [D], the plain mean of all members; zeros where k = 0"""


def exact_mean(store: ImageStore, entries: np.ndarray, z: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """E[x | z, sigma] over the given entries (Niedoba et al. 2024, Eq. 8), float64 [B, D] in [-1, 1].

    Args:
        entries: int64 [M], the population. z: float [B, D]. sigma: float [B].
    """
    return exact_posterior(store, entries, z, sigma).mean


def exact_posterior(
    store: ImageStore,
    entries: np.ndarray,
    z: np.ndarray,
    sigma: np.ndarray,
    k: int = 0,
    source: np.ndarray | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> ExactPosterior:
    """Means and nearest neighbours of B queries in one pass over the population.

    The softmax is summed as the tiles come: the sums are scaled again where a tile raises the largest log-weight. In
    float64 z.x - |x|^2 / 2 keeps 1e-12 of absolute precision, enough for sigma = 0.002.

    Args:
        entries: int64 [M], the population. z: float [B, D]. sigma: float [B].
        k: nearest neighbours to find; at most M are found.
        source: int64 [B], an entry of the population near each z: far members then cost nothing from the start.
        progress: called with the number of members read so far.
    """
    z, sigma2 = np.ascontiguousarray(z, np.float64), np.square(np.asarray(sigma, np.float64))[:, None]
    size, dim, k = len(z), store.dim, min(k, len(entries))
    top = np.full(size, -np.inf)
    if source is not None:
        x = x_of(store, source)
        top = ((z * x).sum(1) - np.square(x).sum(1) / 2) / sigma2[:, 0]
    total, mean, population_mean = np.zeros(size), np.zeros((size, dim)), np.zeros(dim)
    # sums of w log w and w log w x, where log w counts from the top
    entropy, slope = np.zeros(size), np.zeros((size, dim if k else 0))
    near, near_weight = np.empty((size, 0), np.int64), np.empty((size, 0))
    start = 0
    for x in _tiles(store, entries):
        log_weight = (_product(z, x.T) - np.einsum("md,md->m", x, x) / 2) / sigma2
        highest = log_weight.max(1)
        changed = np.flatnonzero(highest > top)
        fall = np.where(total[changed] > 0, top[changed] - highest[changed], 0.0)
        rescale = np.exp(fall)
        top[changed] = highest[changed]
        if k:
            slope[changed] = (slope[changed] + fall[:, None] * mean[changed]) * rescale[:, None]
            entropy[changed] = (entropy[changed] + fall * total[changed]) * rescale
        total[changed] *= rescale
        mean[changed] *= rescale[:, None]
        rows = np.flatnonzero(highest > top + _NEGLIGIBLE)
        if len(rows):
            log_w = log_weight[rows] - top[rows, None]
            weight = np.exp(log_w)
            total[rows] += weight.sum(1)
            mean[rows] += _product(weight, x)
            if k:
                weight *= log_w
                entropy[rows] += weight.sum(1)
                slope[rows] += _product(weight, x)
        if k:
            population_mean += x.sum(0) / len(entries)
            near, near_weight = _nearest(near, near_weight, start, log_weight, k)
        start += len(x)
        progress(start)
    mean /= total[:, None]
    if k:
        slope = (slope - entropy[:, None] * mean) / total[:, None]
    return ExactPosterior(mean, near, slope, population_mean)


def posterior_weights(store: ImageStore, entries: np.ndarray, z: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """p(x_i | z, sigma) of the given entries, float64 [B, M]; a row sums to 1. Arguments as in `exact_mean`."""
    z, sigma2 = np.ascontiguousarray(z, np.float64), np.square(np.asarray(sigma, np.float64))[:, None]
    parts = [(_product(z, x.T) - np.square(x).sum(1) / 2) / sigma2 for x in _tiles(store, entries)]
    return softmax(np.concatenate(parts, axis=1))


def x_of(store: ImageStore, entries: np.ndarray) -> np.ndarray:
    """Images of these entries in [-1, 1], float64 [n, D]."""
    return store.pixels(entries).reshape(len(entries), store.dim) / 127.5 - 1.0


def _nearest(
    near: np.ndarray, near_weight: np.ndarray, start: int, log_weight: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The k of largest log-weight among those found so far and a tile whose first member is number `start`."""
    member = np.broadcast_to(np.arange(start, start + log_weight.shape[1]), log_weight.shape)
    member, weight = np.concatenate([near, member], 1), np.concatenate([near_weight, log_weight], 1)
    if weight.shape[1] <= k:
        return member, weight
    kept = np.argpartition(weight, -k, axis=1)[:, -k:]
    return np.take_along_axis(member, kept, 1), np.take_along_axis(weight, kept, 1)


def _tiles(store: ImageStore, entries: np.ndarray) -> Iterator[np.ndarray]:
    """x of the entries in order, float64 [rows, D]; each tile is overwritten by the next."""
    rows = min(_MOST_ROWS, max(1, _TILE_BYTES // (8 * store.dim)), max(1, len(entries)))
    tile, threads = np.empty((rows, store.dim)), torch.get_num_threads()
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(entries), rows):
            part = entries[start : start + rows]

            def fill(piece: np.ndarray, part: np.ndarray = part) -> None:
                out = tile[piece[0] : piece[-1] + 1]
                np.divide(store.pixels(part[piece]).reshape(out.shape), 127.5, out=out)
                out -= 1.0

            list(pool.map(fill, [p for p in np.array_split(np.arange(len(part)), threads) if len(p)]))
            yield tile[: len(part)]


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b in float64; torch's, whose threads can be chosen."""
    return (torch.from_numpy(a) @ torch.from_numpy(b)).numpy()
