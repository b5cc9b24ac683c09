"""The search interface: nearest members of a population to z, exact by tiles or approximate by FAISS."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from postmean.engine.log_weights import log_weights
from postmean.engine.population import Population
from postmean.engine.refine import NEEDED_ERROR, WINDOW
from postmean.engine.refine import distance2 as direct_distance2


@dataclass(frozen=True)
class Neighbours:
    """The k nearest members of each of B queries, or as many as the search found."""

    member: np.ndarray
    """int64 [B, k], nearest first; -1 where fewer were found"""
    distance2: np.ndarray
    """float64 [B, k], |z - x|^2 in units of x, rising; infinite where member is -1"""

    @property
    def count(self) -> np.ndarray:
        """int64 [B], number of neighbours found, at most k"""
        return (self.member >= 0).sum(1)

    def of(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """(member, distance2) of one query, without padding, nearest first."""
        is_member = self.member[row] >= 0
        return self.member[row, is_member], self.distance2[row, is_member]


class Search(Protocol):
    """Nearest-neighbour search over a population."""

    @property
    def population(self) -> Population:
        """What is searched."""
        ...

    @property
    def is_exact(self) -> bool:
        """Whether the neighbours found are the true nearest: no other member is nearer."""
        ...

    def search(self, z: torch.Tensor, sigma: np.ndarray, k: int) -> Neighbours:
        """The k nearest members, or as many as there are or can be found.

        Args:
            z: canonical z, float32 [B, D].
            sigma: float64 [B]; decides how precise the distances must be.
        """
        ...


@dataclass(frozen=True)
class ExactSearch:
    """All distances by int8 products, then the k smallest."""

    population: Population
    is_exact: bool = True

    def search(self, z: torch.Tensor, sigma: np.ndarray, k: int) -> Neighbours:
        k = min(k, len(self.population))
        step = self.population.queries_at_a_time
        parts = [self._group(z[a : a + step], sigma[a : a + step], k) for a in range(0, len(z), step)]
        return Neighbours(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def _group(self, z: torch.Tensor, sigma: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        weights = log_weights(self.population, z, sigma)
        value, member = weights.value.topk(k, dim=1)
        member, below_top = member.cpu().numpy(), (value[:, :1] - value).to(torch.float64).cpu().numpy()
        # relative to a distance that is exact: the part of z that the products omit shifts all of them alike
        nearest = direct_distance2(self.population, z, np.arange(len(z)), member[:, 0])
        distance2 = nearest[:, None] + 2 * sigma[:, None] ** 2 * below_top
        return sharpen(self.population, z, sigma, member, distance2, weights.error.cpu().numpy())


def sharpen(
    population: Population,
    z: torch.Tensor,
    sigma: np.ndarray,
    member: np.ndarray,
    distance2: np.ndarray,
    error: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Recompute in float64 the distances whose errors could affect the weights, then sort again.

    Args:
        member: int64 [B, k], -1 for none. distance2: float64 [B, k].
        error: of log-weights of a row, that is of its distances / 2 sigma^2, float64 [B].
    """
    distance2 = np.where(member < 0, np.inf, distance2)
    window = 2 * sigma**2 * (WINDOW + 8 * error)
    near = (distance2 <= distance2.min(1, keepdims=True) + window[:, None]) & (member >= 0)
    row, column = np.nonzero(near & (error > NEEDED_ERROR)[:, None])
    distance2[row, column] = direct_distance2(population, z, row, member[row, column])
    order = np.argsort(distance2, axis=1, kind="stable")
    return np.take_along_axis(member, order, 1), np.take_along_axis(distance2, order, 1)
