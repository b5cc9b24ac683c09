"""`knn-snis`: the nearest-neighbour estimator of Niedoba et al. 2024, Algorithms 1 and 2, faithful.

Proposal (Eq. 13): q(x_i) = p(z | x_i) / Z_q for the k nearest neighbours, p(z | x_k) / Z_q for all others,
Z_q = sum_{i <= k} p(z | x_i) + (N - k) p(z | x_k). Then n draws from q and self-normalised weights (Eq. 11).
"""

from dataclasses import dataclass

import numpy as np

from postmean.contract.settings import EstimatorSettings
from postmean.engine.population import Population
from postmean.engine.softmax import softmax
from postmean.estimators.direct import log_weight, log_weight_at, merge, uniform_outside
from postmean.estimators.estimate import Estimate, Queries, summarise
from postmean.neighbours.choose_search import make_search
from postmean.neighbours.search import Search


@dataclass(frozen=True)
class KnnSnis:
    """Self-normalised importance sampling from the nearest-neighbour proposal.

    Consistent in n whatever the search returns, because the proposal gives every member a positive probability. If an
    approximate search finds fewer than k neighbours, those found are used in place of the k.

    Args:
        k: neighbours. n: draws, with replacement.
    """

    search: Search
    k: int
    n: int

    @property
    def population(self) -> Population:
        """The population searched."""
        return self.search.population

    def estimate(self, queries: Queries) -> Estimate:
        neighbours = self.search.search(queries.z, queries.sigma, self.k)
        support, tail = [], np.empty(len(queries))
        for row in range(len(queries)):
            member, distance2 = neighbours.of(row)
            log_p = log_weight_at(distance2, queries.sigma[row])
            drawn, log_w, tail[row] = self._draw(queries, row, member, log_p)
            support.append(merge(drawn, softmax(log_w)))
        return summarise(self.population, queries, support, tail, neighbours.count)

    def _draw(
        self, queries: Queries, row: int, member: np.ndarray, log_p: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """n draws from the proposal, their log-weights up to a constant, and the proposal's mass beyond the k."""
        outside = len(self.population) - len(member)
        generator = queries.generator(row)
        if len(member) == 0:  # the probed lists of the inverted file are empty: the proposal is uniform
            drawn = generator.integers(0, outside, self.n)
            return drawn, log_weight(self.population, queries, row, drawn), 1.0
        proposal = np.exp(log_p - log_p.max())
        mass = np.append(proposal, outside * proposal.min())
        # strata of the proposal: one for each neighbour, one for all the rest
        stratum = np.searchsorted(np.cumsum(mass)[:-1] / mass.sum(), generator.random(self.n), side="right")
        in_tail = stratum == len(member)
        drawn = np.empty(self.n, np.int64)
        drawn[~in_tail] = member[stratum[~in_tail]]
        log_w = np.zeros(self.n)  # w = p(z | x) / q(x) = Z_q for every neighbour
        if in_tail.any():
            drawn[in_tail] = uniform_outside(generator, len(self.population), member, int(in_tail.sum()))
            log_w[in_tail] = log_weight(self.population, queries, row, drawn[in_tail]) - log_p.min()
        return drawn, log_w, float(mass[-1] / mass.sum())


def make(settings: EstimatorSettings, population: Population, max_support: int) -> KnnSnis:
    """The `make` function of this estimator; see `traits`."""
    return KnnSnis(make_search(population, settings.index, settings.nprobe), settings.k, settings.n)
