"""`stf`: stable target field (Xu et al. 2023): a uniform reference batch that includes the source image."""

from dataclasses import dataclass

import numpy as np

from postmean.contract.settings import EstimatorSettings
from postmean.engine.population import Population
from postmean.engine.softmax import softmax
from postmean.estimators.direct import log_weight, merge
from postmean.estimators.estimate import Estimate, Queries, summarise


@dataclass(frozen=True)
class STF:
    """Self-normalised weights over the source image and n - 1 uniform draws.

    Biased at medium sigma: the weights ignore that the source was included on purpose (Niedoba et al. 2024, Sec. 4.2).
    """

    population: Population
    n: int

    def estimate(self, queries: Queries) -> Estimate:
        support = []
        for row in range(len(queries)):
            drawn = queries.generator(row).integers(0, len(self.population), self.n - 1)
            batch = np.append(drawn, queries.source[row])
            support.append(merge(batch, softmax(log_weight(self.population, queries, row, batch))))
        size = len(queries)
        return summarise(self.population, queries, support, np.zeros(size), np.full(size, self.n))


def make(settings: EstimatorSettings, population: Population, max_support: int) -> STF:
    """The `make` function of this estimator; see `traits`."""
    return STF(population, settings.n)
