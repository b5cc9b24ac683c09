"""`exact`: the full softmax over the population (Niedoba et al. 2024, Eq. 8), in bounded memory.

For each group of queries, exact int8 products give the log-weights of all members, the softmax is taken in place, and
the means are summed. At small sigma, where rounding could matter, the distances of the members that carry weight are
recomputed in float64.
"""

from dataclasses import dataclass

import numpy as np
import torch

from postmean.contract.settings import EstimatorSettings
from postmean.engine.log_weights import log_weights, queries_at_a_time
from postmean.engine.population import SCALE, Population, to_integer_units
from postmean.engine.refine import NEEDED_ERROR, WINDOW, distance2
from postmean.engine.weighted_mean import weighted_means
from postmean.estimators.estimate import Estimate, Queries, check_finite, concatenate

LEFT_OUT = 2e-6

_MOST_QUERIES = 512
_CANCELLING = 16  # up to this many members E|x|^2 - |mean|^2 may be small against its terms


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

    def estimate(self, queries: Queries) -> Estimate:
        step = min(_MOST_QUERIES, queries_at_a_time(self.population))
        return concatenate([self._group(group) for group in queries.groups(step)])

    def _group(self, queries: Queries) -> Estimate:
        population = self.population
        weight_BM = posterior_weights(population, queries.z, queries.sigma)
        top = weight_BM.amax(1).cpu().numpy().astype(np.float64)
        ess = 1 / torch.linalg.vector_norm(weight_BM, dim=1).cpu().numpy().astype(np.float64) ** 2
        second_moment = (weight_BM @ population.norm2.to(torch.float32)).to(torch.float64)
        means = weighted_means(population, weight_BM, self.max_support, self.left_out, self.rounding)
        mean_s = to_integer_units(means.mean.to(torch.float64))
        variance = (second_moment - mean_s.square().sum(1)).cpu().numpy() / population.dim / SCALE**2
        for row, pair in enumerate(means.support):
            if pair is not None and len(pair[0]) <= _CANCELLING:
                variance[row] = _variance(population, *pair, means.mean[row])
        estimate = Estimate(
            mean=means.mean.cpu().numpy(),
            support=means.support,
            ess=np.maximum(ess, 1.0),
            top_weight=top,
            variance=np.maximum(variance, 0.0),
            tail_mass=np.zeros(len(queries)),
            support_size=np.full(len(queries), len(population)),
        )
        return check_finite(estimate, queries)


def _variance(population: Population, member: np.ndarray, weight: np.ndarray, mean_D: torch.Tensor) -> float:
    """Posterior variance per dimension over a support, without the cancellation of E|x|^2 - |mean|^2."""
    if len(member) == 1:
        return 0.0
    x = population.x(member)
    return float(weight @ (x - mean_D).square_().sum(1).cpu().numpy()) / population.dim


def posterior_weights(population: Population, z_BD: torch.Tensor, sigma_B: np.ndarray) -> torch.Tensor:
    """Posterior probabilities p(x_j | z) of all members, float32 [B, M], each row sums to 1."""
    weights = log_weights(population, z_BD, sigma_B)
    value = weights.value
    # distance of two members that can both matter: twice the root mean square distance from the mean image is what
    # occurs; the diameter of the pixel cube would be far too loose
    spread = 2 * float((population.norm2.mean() - population.mean_s.square().sum()).clamp(min=1.0).sqrt())
    top_B = value.amax(1)
    largest_B = torch.maximum(top_B.abs(), value.amin(1).abs())
    rounding_B = 3 * torch.finfo(torch.float32).eps * largest_B.to(torch.float64)
    error_B = weights.error * spread + rounding_B
    twice_sigma2_B = torch.from_numpy(2 * sigma_B**2).to(value.device)
    for row in (error_B > NEEDED_ERROR).nonzero()[:, 0].tolist():
        floor = top_B[row] - (WINDOW + 8 * float(error_B[row]))
        member = (value[row] >= floor).nonzero()[:, 0]
        direct = distance2(population, z_BD[row], member.cpu().numpy())
        value[row] = -torch.inf
        value[row, member] = (-(direct - direct.min()) / twice_sigma2_B[row]).to(torch.float32)
    return torch.softmax(value, 1, out=value)


def make(settings: EstimatorSettings, population: Population, max_support: int) -> Exact:
    """The `make` function of this estimator; see `traits`."""
    return Exact(population, max_support)
