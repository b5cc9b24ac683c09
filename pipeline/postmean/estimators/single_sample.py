"""`single-sample`: the source image, which plain training uses (Niedoba et al. 2024, Eq. 9 with n = 1)."""

from dataclasses import dataclass

import numpy as np

from postmean.contract.settings import EstimatorSettings
from postmean.engine.population import Population
from postmean.estimators.estimate import Estimate, Queries, summarise


@dataclass(frozen=True)
class SingleSample:
    """One draw from the posterior: the source image that z was made from."""

    population: Population

    def estimate(self, queries: Queries) -> Estimate:
        support = [(queries.source[row : row + 1], np.ones(1)) for row in range(len(queries))]
        size = len(queries)
        return summarise(self.population, queries, support, np.zeros(size), np.ones(size, np.int64))


def make(settings: EstimatorSettings, population: Population, max_support: int) -> SingleSample:
    """The `make` function of this estimator; see `traits`."""
    return SingleSample(population)
