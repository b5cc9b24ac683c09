"""`exact`: the full softmax over the population (Niedoba et al. 2024, Eq. 8), in bounded memory.

For each group of queries, one or two products give the log-weights of all members, the softmax is taken in place, and
the means are summed. At small sigma, where rounding could matter, the distances of the members that carry weight are
recomputed in float64.
"""

from dataclasses import dataclass

import numpy as np
import torch

from postmean.contract.settings import EstimatorSettings
from postmean.engine.dense_means import ONE_BYTE
from postmean.engine.euler_means import EulerSteps, euler_means
from postmean.engine.log_weights import log_weights
from postmean.engine.masks import positions
from postmean.engine.population import SCALE, Population, to_integer_units
from postmean.engine.ragged import moments
from postmean.engine.refine import NEEDED_ERROR, WINDOW, distance2
from postmean.engine.weighted_mean import WeightedMeans, weighted_means
from postmean.estimators.estimate import Estimate, Queries, checked_means, concatenate

LEFT_OUT = 2e-6
CANCELLING = 16
"""Up to this many members E|x|^2 - |mean|^2 may be small against its terms."""

_RECOMPUTED = 64  # rows whose largest weights are recomputed at a time


@dataclass(frozen=True)
class Exact:
    """The exact posterior mean: its mean squared error against float64 is 1e-8, plus what `rounding` allows."""

    population: Population
    max_support: int = 256
    """Most members of a support; a mean over more members has none."""
    left_out: float = LEFT_OUT
    """Posterior mass, spread thin over many members, that may be left out."""
    rounding: float = 0.0
    """Mean squared error per dimension allowed for rounding the weights of the dense part, which saves a product."""
    normalises: bool = False
    """Whether estimates have `log_normaliser`."""

    def estimate(self, queries: Queries) -> Estimate:
        return concatenate(self.groups(queries))

    def groups(self, queries: Queries) -> list[Estimate]:
        """The estimates of one group of queries after the other; concatenated they are those of `estimate`."""
        return [self._group(group) for group in queries.groups(self.population.queries_at_a_time)]

    def _group(self, queries: Queries) -> Estimate:
        population = self.population
        weight_BM = posterior_weights(population, queries.z, queries.sigma)
        top = weight_BM.amax(1).cpu().numpy().astype(np.float64)
        log_normaliser = _log_normaliser(population, queries, weight_BM, top) if self.normalises else None
        ess = 1 / torch.linalg.vector_norm(weight_BM, dim=1).cpu().numpy().astype(np.float64) ** 2
        second_moment = (weight_BM @ population.norm2.to(torch.float32)).to(torch.float64)
        means = weighted_means(population, weight_BM, ess, self.max_support, self.left_out, self.rounding)
        mean_s = to_integer_units(means.mean.to(torch.float64))
        variance = (second_moment - mean_s.square().sum(1)).cpu().numpy() / population.dim / SCALE**2
        _replace_cancelling(population, means.support, variance)
        variance = np.maximum(variance, 0.0)
        return Estimate(
            mean=checked_means(means.mean, queries.sigma),
            support=means.support,
            ess=np.maximum(ess, 1.0),
            top_weight=top,
            variance=variance,
            tail_mass=np.zeros(len(queries)),
            support_size=np.full(len(queries), len(population)),
            log_normaliser=log_normaliser,
            mean_next=self._euler_means(queries, weight_BM, means, ess, variance),
        )

    def _euler_means(
        self,
        queries: Queries,
        weight_BM: torch.Tensor,
        means: WeightedMeans,
        ess: np.ndarray,
        variance: np.ndarray,
    ) -> dict[int, np.ndarray]:
        """Means at the Euler points of the queries without a support, where they come cheap (see `euler_means`)."""
        if queries.sigma_next is None or self.population.device != "cpu" or self.rounding < ONE_BYTE:
            return {}
        spread = np.array([support is None for support in means.support])
        sigma_next = np.where(spread, queries.sigma_next, 0.0)
        steps = EulerSteps(weight_BM, queries.z, means.mean, ess, variance, queries.sigma, sigma_next)
        rows, mean = euler_means(self.population, steps, self.rounding)
        return dict(zip(rows.tolist(), checked_means(mean, queries.sigma[rows]), strict=True))


def _log_normaliser(population: Population, queries: Queries, weight_BM: torch.Tensor, top: np.ndarray) -> np.ndarray:
    """ln sum_j exp(-|z - x_j|^2 / 2 sigma^2), float64 [B]: the likeliest member's term over its probability."""
    likeliest = weight_BM.argmax(1).cpu().numpy()
    nearest2 = distance2(population, queries.z, np.arange(len(queries)), likeliest)
    return -nearest2 / (2 * queries.sigma**2) - np.log(top)


def _replace_cancelling(
    population: Population, support: list[tuple[np.ndarray, np.ndarray] | None], variance: np.ndarray
) -> None:
    """Replace variances over few members, where E|x|^2 - |mean|^2 may cancel, by sums of squared differences."""
    few = [(row, *pair) for row, pair in enumerate(support) if pair is not None and len(pair[0]) <= CANCELLING]
    if few:
        rows, members, weights = zip(*few, strict=True)
        bounds = np.cumsum([0, *(len(member) for member in members)])
        variance[list(rows)] = moments(population, bounds, np.concatenate(members), np.concatenate(weights))[1]


def posterior_weights(population: Population, z_BD: torch.Tensor, sigma_B: np.ndarray) -> torch.Tensor:
    """Posterior probabilities p(x_j | z) of all members, float32 [B, M], each row sums to 1."""
    weights = log_weights(population, z_BD, sigma_B)
    value = weights.value
    inexact = np.flatnonzero((weights.error > NEEDED_ERROR).cpu().numpy())
    for start in range(0, len(inexact), _RECOMPUTED):
        rows = inexact[start : start + _RECOMPUTED]
        rows_t = torch.from_numpy(rows).to(value.device)
        of_rows = value[rows_t]
        floor = (of_rows.amax(1) - (WINDOW + 8 * weights.error[rows_t])).to(torch.float32)
        place, member = positions(of_rows >= floor[:, None])
        row = rows[place]
        direct = distance2(population, z_BD, row, member)
        nearest = np.minimum.reduceat(direct, np.searchsorted(place, np.arange(len(rows))))
        log_weight = ((nearest[place] - direct) / (2 * sigma_B[row] ** 2)).astype(np.float32)
        value[rows_t] = -torch.inf
        pairs = torch.from_numpy(row).to(value.device), torch.from_numpy(member).to(value.device)
        value[pairs] = torch.from_numpy(log_weight).to(value.device)
    return torch.softmax(value, 1, out=value)


def make(settings: EstimatorSettings, population: Population, max_support: int) -> Exact:
    """The `make` function of this estimator; see `traits`."""
    return Exact(population, max_support)
