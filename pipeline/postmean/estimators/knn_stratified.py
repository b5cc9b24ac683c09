"""`knn-stratified`: the nearest-neighbour proposal, Rao-Blackwellised.

The k neighbours are enumerated with their exact weights. The other members, the tail, are estimated from m uniform
draws; their mean mu_tail, known exactly, is the control variate:

    sum_tail w x  ~  (N - k)/m sum_j w_j x_j - beta (x_bar - mu_tail),
    beta = (N - k) sum_j w_j (x_j - mean).(x_j - x_bar) / sum_j |x_j - x_bar|^2.

At large sigma the tail's weights are nearly equal, beta is their sum, and the tail's mean alone is nearly right. If few
members carry the tail, beta is near 0, so the control variate adds no noise of its own.
"""

from dataclasses import dataclass

import numpy as np
import torch

from postmean.contract.settings import EstimatorSettings
from postmean.engine.population import Population, from_integer_units
from postmean.estimators.direct import log_weight, log_weight_at, to_device, uniform_outside
from postmean.estimators.estimate import Estimate, Queries, checked_means
from postmean.estimators.exact import LEFT_OUT
from postmean.neighbours.choose_search import make_search
from postmean.neighbours.search import Search


@dataclass(frozen=True)
class KnnStratified:
    """Exact over the k nearest neighbours, sampled over the rest.

    Args:
        k: neighbours. m: uniform draws from the rest, with replacement.
        max_support: most members of a support.
    """

    search: Search
    k: int
    m: int
    max_support: int = 256

    @property
    def population(self) -> Population:
        """The population searched."""
        return self.search.population

    def estimate(self, queries: Queries) -> Estimate:
        neighbours = self.search.search(queries.z, queries.sigma, self.k)
        size = len(queries)
        mean = np.empty((size, self.population.dim), np.float32)
        columns = {name: np.zeros(size) for name in ("ess", "top_weight", "variance", "tail_mass")}
        support: list[tuple[np.ndarray, np.ndarray] | None] = [None] * size
        for row in range(size):
            member, distance2 = neighbours.of(row)
            log_near = log_weight_at(distance2, queries.sigma[row])
            log_far, s_far = self._tail(queries, row, member, log_near)
            # the draws count too: an approximate search can miss the nearest member, or find nothing
            top = max(log_near.max(initial=-np.inf), log_far.max(initial=-np.inf))
            near, far = np.exp(log_near - top), np.exp(log_far - top)
            mean[row], second, support[row] = self._mean(member, near, far, s_far)
            total = near.sum() + far.sum()
            # each draw stands for (N - k) / m members
            each = far * (len(far) / max(1, len(self.population) - len(member)))
            columns["ess"][row] = total**2 / (np.sum(near**2) + np.sum(far * each))
            columns["top_weight"][row] = max(near.max(initial=0.0), each.max(initial=0.0)) / total
            columns["tail_mass"][row] = far.sum() / total
            columns["variance"][row] = max(0.0, second - float(np.mean(mean[row].astype(np.float64) ** 2)))
        checked = checked_means(torch.from_numpy(mean), queries.sigma)
        return Estimate(
            checked,
            support,
            ess=columns["ess"],
            top_weight=columns["top_weight"],
            variance=columns["variance"],
            tail_mass=columns["tail_mass"],
            support_size=neighbours.count,
        )

    def _mean(
        self, member: np.ndarray, near: np.ndarray, far: np.ndarray, s_far: torch.Tensor
    ) -> tuple[np.ndarray, float, tuple[np.ndarray, np.ndarray] | None]:
        """Mean, second moment per dimension and support, from the weights of the neighbours and of the tail's draws."""
        total = near.sum() + far.sum()
        if far.sum() / total > LEFT_OUT:
            return *self._mean_with_tail(member, near / total, far / total, s_far), None
        kept = near > LEFT_OUT / len(near) * near.sum()
        member, weight = member[kept], near[kept] / near[kept].sum()
        x = self.population.x(member)
        mean = to_device(weight.astype(np.float32), self.population) @ x
        second = float(weight @ x.square().mean(1, dtype=torch.float64).cpu().numpy())
        return mean.cpu().numpy(), second, (member, weight) if len(weight) <= self.max_support else None

    def _tail(
        self, queries: Queries, row: int, member: np.ndarray, log_near: np.ndarray
    ) -> tuple[np.ndarray, torch.Tensor]:
        """Log-weights of the m draws, scaled so that they sum to the tail's weight, and the pixels of the draws."""
        outside = len(self.population) - len(member)
        # no draws if there is no tail, or if the k-th neighbour bounds its mass below LEFT_OUT
        is_bounded = self.search.is_exact and len(member) > 0
        if outside == 0 or (is_bounded and outside * np.exp(log_near.min() - log_near.max()) < LEFT_OUT):
            return np.empty(0), self.population.rows(member[:0]).to(torch.float32)
        drawn = uniform_outside(queries.generator(row), len(self.population), member, self.m)
        log_far = log_weight(self.population, queries, row, drawn) + np.log(outside / self.m)
        return log_far, self.population.rows(drawn).to(torch.float32)

    def _mean_with_tail(
        self, member: np.ndarray, near: np.ndarray, far: np.ndarray, s_far: torch.Tensor
    ) -> tuple[np.ndarray, float]:
        """Mean and second moment per dimension, from normalised weights of the neighbours and of the tail's draws."""
        population = self.population
        s_near = population.rows(member).to(torch.float32)
        outside = len(population) - len(member)
        of_near = s_near.sum(0).to(torch.float64)  # whole numbers: exact in float32 up to 2^17 neighbours
        tail_mean = (population.mean_s * len(population) - of_near) / outside
        plain = (
            to_device(near.astype(np.float32), population) @ s_near
            + to_device(far.astype(np.float32), population) @ s_far
        )
        deviation = s_far - s_far.mean(0)
        spread = float(deviation.square().sum()) / len(far)
        along = ((s_far - plain) * deviation).sum(1).to(torch.float64).cpu().numpy()
        beta = float(far @ along) / spread if spread > 0 else float(far.sum())
        total = plain - beta * (s_far.mean(0) - tail_mean)
        x_near, x_far = from_integer_units(s_near), from_integer_units(s_far)
        second = near @ x_near.square().mean(1).cpu().numpy() + far @ x_far.square().mean(1).cpu().numpy()
        mean = from_integer_units(total).clamp(-1, 1)
        return mean.to(torch.float32).cpu().numpy(), float(second)


def make(settings: EstimatorSettings, population: Population, max_support: int) -> KnnStratified:
    """The `make` function of this estimator; see `traits`."""
    return KnnStratified(make_search(population, settings.index, settings.nprobe), settings.k, settings.m, max_support)
