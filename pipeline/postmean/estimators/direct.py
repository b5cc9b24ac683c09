"""Log-weights of a few chosen members by direct differences, for estimators that draw their members."""

import numpy as np
import torch

from postmean.engine.population import Population
from postmean.engine.refine import distance2
from postmean.estimators.estimate import Queries


def log_weight(population: Population, queries: Queries, row: int, member: np.ndarray) -> np.ndarray:
    """-|z - x_j|^2 / 2 sigma^2 of these members for one query, float64 [n]."""
    return log_weight_at(distance2(population, queries.z, np.full(len(member), row), member), queries.sigma[row])


def log_weight_at(distance2: np.ndarray, sigma: float) -> np.ndarray:
    """-|z - x_j|^2 / 2 sigma^2 at these squared distances in units of x, float64 [n]."""
    return -distance2 / (2 * float(sigma) ** 2)


def merge(member: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct members, rising, with their summed weights, normalised to 1; members of weight 0 are left out."""
    distinct, position = np.unique(member, return_inverse=True)
    total = np.bincount(position, weights=weight, minlength=len(distinct))
    kept = total > 0
    return distinct[kept], total[kept] / total.sum()


def uniform_outside(generator: np.random.Generator, size: int, inside: np.ndarray, count: int) -> np.ndarray:
    """`count` independent uniform draws from the members 0 .. size - 1 that are not in `inside` (distinct), int64.

    The r-th member outside is found by counting the inside ones before it, so no draw is rejected.
    """
    inside = np.sort(inside)
    rank = generator.integers(0, size - len(inside), count)
    # inside[i] - i members lie outside before inside[i]
    return rank + np.searchsorted(inside - np.arange(len(inside)), rank, side="right")


def to_device(array: np.ndarray, population: Population) -> torch.Tensor:
    """The array as a tensor on the population's device."""
    return torch.from_numpy(array).to(population.device)
