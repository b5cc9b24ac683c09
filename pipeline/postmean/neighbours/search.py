"""The search interface: nearest members of a population to z, exact by tiles or approximate by FAISS."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from postmean.engine.log_weights import log_weights, queries_at_a_time
from postmean.engine.population import SCALE, Population, to_integer_units
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
        step = min(256, queries_at_a_time(self.population))
        parts = [self._group(z[a : a + step], sigma[a : a + step], k) for a in range(0, len(z), step)]
        return Neighbours(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def _group(self, z: torch.Tensor, sigma: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        weights = log_weights(self.population, z, sigma)
        value, member = weights.value.topk(k, dim=1)
        norm2 = to_integer_units(z.to(torch.float64)).square().sum(1)
        twice_sigma2 = torch.from_numpy(2 * sigma**2).to(z.device)
        distance2 = norm2[:, None] / SCALE**2 - twice_sigma2[:, None] * value.to(torch.float64)
        return sharpen(self.population, z, sigma, member.cpu().numpy(), distance2.cpu().numpy())


def sharpen(
    population: Population, z: torch.Tensor, sigma: np.ndarray, member: np.ndarray, distance2: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Recompute in float64 the distances whose float32 rounding could affect the weights, then sort again.

    Args:
        member: int64 [B, k], -1 for none. distance2: float64 [B, k] with float32's relative precision.
    """
    distance2 = np.where(member < 0, np.inf, distance2)
    z2 = z.to(torch.float64).square().sum(1).cpu().numpy()
    # a distance is made of terms as large as |z|^2 and |x|^2 <= D, each rounded a few times
    rounding = 8 * np.finfo(np.float32).eps * (z2 + population.dim)
    for row, (s, slack) in enumerate(zip(sigma.tolist(), rounding, strict=True)):
        if slack / (2 * s**2) <= NEEDED_ERROR:
            continue
        near = np.flatnonzero(distance2[row] <= distance2[row].min() + 2 * s**2 * WINDOW + 8 * slack)
        near = near[member[row, near] >= 0]
        distance2[row, near] = direct_distance2(population, z[row], member[row, near]).cpu().numpy()
    order = np.argsort(distance2, axis=1, kind="stable")
    return np.take_along_axis(member, order, 1), np.take_along_axis(distance2, order, 1)
