"""`posterior-mc`: the mean of n draws from the exact posterior (Niedoba et al. 2024, Eq. 9)."""

from dataclasses import dataclass

import numpy as np

from postmean.contract.settings import EstimatorSettings
from postmean.engine.population import Population
from postmean.estimators.direct import merge
from postmean.estimators.estimate import Estimate, Queries, concatenate, summarise
from postmean.estimators.exact import posterior_weights


@dataclass(frozen=True)
class PosteriorMC:
    """Monte Carlo from the full posterior: unbiased, with 1 / n of the posterior's variance."""

    population: Population
    n: int

    def estimate(self, queries: Queries) -> Estimate:
        return concatenate([self._group(group) for group in queries.groups(self.population.queries_at_a_time)])

    def _group(self, queries: Queries) -> Estimate:
        # adjacent repetitions of one point share its weights
        is_new = np.ones(len(queries), bool)
        same_z = (queries.z[1:] == queries.z[:-1]).all(1).cpu().numpy()
        is_new[1:] = ~(same_z & (queries.sigma[1:] == queries.sigma[:-1]))
        point = queries.select(np.flatnonzero(is_new))
        weight = posterior_weights(self.population, point.z, point.sigma)
        support, cumulative = [], np.empty(0)
        for row, position in enumerate(np.cumsum(is_new) - 1):
            if is_new[row]:
                cumulative = np.cumsum(weight[position].cpu().numpy().astype(np.float64))
            uniform = queries.generator(row).random(self.n) * cumulative[-1]
            drawn = np.searchsorted(cumulative, uniform, side="right")
            support.append(merge(drawn, np.ones(self.n)))
        zeros = np.zeros(len(queries))
        return summarise(self.population, queries, support, zeros, np.full(len(queries), len(self.population)))


def make(settings: EstimatorSettings, population: Population, max_support: int) -> PosteriorMC:
    """The `make` function of this estimator; see `traits`."""
    return PosteriorMC(population, settings.n)
