"""Tiny data sets and a brute-force float64 posterior over them, written in plain numpy: the oracle of these tests."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.distance import cdist
from scipy.special import softmax
from scipy.stats import chisquare

from postmean.contract.image_store import ImageStore, StoreWriter
from postmean.contract.settings import EstimatorSettings
from postmean.engine.population import Population
from postmean.estimators.choose import make_estimator
from postmean.estimators.estimate import Estimate, Estimator, Queries
from postmean.estimators.traits import table

ESTIMATORS = tuple(table())


def random_images(count: int = 40, shape: tuple[int, int, int] = (3, 4, 5), seed: int = 0) -> np.ndarray:
    """Independent uniform pixels, uint8 [count, C, H, W]."""
    return np.random.default_rng(seed).integers(0, 256, (count, *shape)).astype(np.uint8)


def exact_duplicates() -> np.ndarray:
    """Ten images, four times each."""
    return np.tile(random_images(10), (4, 1, 1, 1))


def near_duplicates() -> np.ndarray:
    """Four groups of ten images; each differs from the first of its group by one step in one pixel."""
    images = np.repeat(random_images(4, (3, 8, 8), seed=1), 10, axis=0)
    flat = images.reshape(40, -1)
    for i in range(40):
        if i % 10:
            flat[i, 7 * (i % 10)] ^= 1
    return images


def constant_images() -> np.ndarray:
    """Every image of one grey level, black and white among them."""
    return np.broadcast_to(np.linspace(0, 255, 18).astype(np.uint8)[:, None, None, None], (18, 3, 4, 4)).copy()


def clusters() -> np.ndarray:
    """Six tight groups far apart: pixels of a group within three steps."""
    rng = np.random.default_rng(2)
    centre = rng.integers(20, 230, (6, 1, 3, 4, 4))
    return (centre + rng.integers(-3, 4, (6, 8, 3, 4, 4))).reshape(48, 3, 4, 4).astype(np.uint8)


DATA_SETS: dict[str, Callable[[], np.ndarray]] = {
    "random": random_images,
    "exact duplicates": exact_duplicates,
    "near duplicates": near_duplicates,
    "constant images": constant_images,
    "tight clusters": clusters,
    "one image": lambda: random_images(1),
    "two images": lambda: random_images(2),
    "D = 1": lambda: random_images(30, (1, 1, 1)),
    "D = 7": lambda: random_images(30, (1, 1, 7)),
    "D = 3 * 7 * 9": lambda: random_images(30, (3, 7, 9)),
    "mirror images": lambda: np.concatenate([random_images(12, (1, 3, 3)), random_images(12, (1, 3, 3))[..., ::-1]]),
}


def store_of(path: Path, pixels: np.ndarray, labels: np.ndarray | None = None) -> ImageStore:
    """An image store of these pixels."""
    names = None if labels is None else tuple(f"class {c}" for c in range(int(labels.max()) + 1))
    with StoreWriter(path, names, {"importer": "test"}) as writer:
        writer.append(pixels, labels)
        return writer.finish()


def images_x(pixels: np.ndarray, flips: bool = False, chosen: np.ndarray | None = None) -> np.ndarray:
    """x of the members of a population, float64 [M, D]: the chosen images, then their mirror images."""
    chosen_pixels = pixels if chosen is None else pixels[chosen]
    if flips:
        chosen_pixels = np.concatenate([chosen_pixels, chosen_pixels[:, :, :, ::-1]])
    return chosen_pixels.reshape(len(chosen_pixels), -1).astype(np.float64) / 127.5 - 1


@dataclass(frozen=True)
class Posterior:
    """The posterior over the rows of x given z, by definition, float64."""

    x: np.ndarray
    log_likelihood: np.ndarray
    """-|z - x_j|^2 / 2 sigma^2"""
    p: np.ndarray
    mean: np.ndarray

    @property
    def variance(self) -> float:
        """sum_j p_j |x_j - mean|^2, summed over dimensions"""
        return float(self.p @ np.square(self.x - self.mean).sum(1))

    def proposal(self, k: int) -> np.ndarray:
        """Niedoba et al. 2024, Eq. 13, normalised."""
        order = np.argsort(-self.log_likelihood, kind="stable")
        log_q = self.log_likelihood.copy()
        log_q[order[k:]] = self.log_likelihood[order[k - 1]]
        q = np.exp(log_q - log_q.max())
        return q / q.sum()

    def snis_trace(self, q: np.ndarray) -> float:
        """n Tr Cov of self-normalised importance sampling, sum_j p_j^2 / q_j |x_j - mean|^2 (Eq. 63)."""
        ratio = np.divide(self.p**2, q, out=np.zeros_like(q), where=self.p > 0)
        return float(ratio @ np.square(self.x - self.mean).sum(1))


def posterior(x_MD: np.ndarray, z_D: np.ndarray, sigma: float) -> Posterior:
    """The posterior by Eq. 2 and 8, with distances computed from differences."""
    log_likelihood = -np.square(z_D.astype(np.float64) - x_MD).sum(1) / (2 * float(sigma) ** 2)
    p = np.exp(log_likelihood - log_likelihood.max())
    p /= p.sum()
    return Posterior(x_MD, log_likelihood, p, p @ x_MD)


def posteriors(x_MD: np.ndarray, queries: Queries) -> list[Posterior]:
    """The posterior of each query; computed once for repeated points."""
    z, sigma = queries.z.numpy(), queries.sigma.tolist()
    out: list[Posterior] = []
    for row in range(len(z)):
        is_repeated = row > 0 and sigma[row] == sigma[row - 1] and np.array_equal(z[row], z[row - 1])
        out.append(out[-1] if is_repeated else posterior(x_MD, z[row], sigma[row]))
    return out


def posterior_means(x_MD: np.ndarray, queries: Queries, counts: np.ndarray | None = None) -> np.ndarray:
    """The mean of each query's posterior, float64 [B, D]: `posterior` for thousands of images and many queries.

    Args:
        counts: bool [B, M]: the images that count for each query, one at least; None for all.
    """
    squared = cdist(queries.z.numpy().astype(np.float64), x_MD, "sqeuclidean")  # from differences too
    log_likelihood = -squared / (2 * np.square(queries.sigma)[:, None])
    if counts is not None:
        log_likelihood[~counts] = -np.inf
    return softmax(log_likelihood, axis=1) @ x_MD


def settings_of(name: str, **changes: int | str) -> EstimatorSettings:
    """Small settings: k 12, n 64, m 64, exact search."""
    return EstimatorSettings(**({"name": name, "k": 12, "n": 64, "m": 64, "index": "exact", "nprobe": 1} | changes))  # type: ignore[arg-type]


def estimator_of(name: str, population: Population, max_support: int = 256, **changes: int | str) -> Estimator:
    """An estimator by name, with the settings of `settings_of`."""
    return make_estimator(settings_of(name, **changes), population, max_support)


def queries_at(z: np.ndarray, sigma: np.ndarray | float, source: np.ndarray | int = 0, seed: int = 0) -> Queries:
    """Queries at given points, each with its own random numbers."""
    sigma = np.broadcast_to(np.asarray(sigma, np.float64), len(z))
    source = np.broadcast_to(np.asarray(source, np.int64), len(z))
    return Queries(
        torch.from_numpy(np.ascontiguousarray(z, np.float32)),
        np.array(sigma),
        np.ascontiguousarray(source),
        lambda row: np.random.default_rng([seed, row]),
    )


def queries_from(x_MD: np.ndarray, sigma: np.ndarray | float, count: int, seed: int = 0) -> Queries:
    """z = x + sigma eps for sources drawn at random."""
    rng = np.random.default_rng([seed, 7])
    source = rng.integers(0, len(x_MD), count)
    sigma = np.broadcast_to(np.asarray(sigma, np.float64), count)
    return queries_at(x_MD[source] + sigma[:, None] * rng.standard_normal((count, x_MD.shape[1])), sigma, source, seed)


def repeated(z_D: np.ndarray, sigma: float, times: int, source: int = 0, seed: int = 0) -> Queries:
    """The same point many times, each time with its own random numbers."""
    return queries_at(np.repeat(z_D[None], times, 0), sigma, source, seed)


def permuted(queries: Queries, order: np.ndarray) -> Queries:
    """The queries in another order; each keeps its random numbers."""
    return Queries(
        queries.z[order], queries.sigma[order], queries.source[order], lambda row: queries.generator(int(order[row]))
    )


def mean_squared_error(estimate: Estimate, oracle: list[Posterior]) -> np.ndarray:
    """For each query, per dimension."""
    return np.square(estimate.mean - np.stack([o.mean for o in oracle])).mean(1)


def chi_square_p(counts: np.ndarray, probability: np.ndarray) -> float:
    """p-value of counts of draws from these probabilities; rare outcomes are pooled."""
    expected = probability / probability.sum() * counts.sum()
    seen = expected > 5
    observed, expected = np.append(counts[seen], counts[~seen].sum()), np.append(expected[seen], expected[~seen].sum())
    return 1.0 if (expected > 0).sum() < 2 else float(chisquare(observed[expected > 0], expected[expected > 0]).pvalue)
