"""`auto`: the exact mean within the tolerance, for each query by the cheapest method that keeps it.

For queries made from a known source, the second certificate (`candidates`) finds the members that can matter with one
narrow product. If they are few, the posterior over them is evaluated directly. All other queries take the full softmax.
"""

import math

import numpy as np

from postmean.base.checks import FLOAT16_ERROR
from postmean.contract.settings import EstimatorSettings
from postmean.engine.pairs import pair_means
from postmean.engine.population import Population
from postmean.estimators.estimate import Estimate, Queries, assemble, checked_means
from postmean.estimators.exact import Exact
from postmean.neighbours.candidates import CandidateFinder

_SHARE, _FEWEST, _MOST = 1 / 400, 32, 384
"""More candidates than this share of all members, within these limits, cost more than the full softmax: on two cores
for CIFAR-10, on a GPU for ImageNet-64."""

_WORTH = 1 / 8
"""Smallest share of queries spared the full softmax at which finding candidates pays off."""

_FOUND = 256  # queries whose candidates are found at a time: sigma rises, so few look in vain before the search stops

_SMALLEST = 2048  # up to this population size the full product is faster than finding candidates


class Auto:
    """Posterior means within `tolerance` of exact: mean squared error per dimension, expected over eps.

    Args:
        max_support: most members of a support; a mean over more members has none.
    """

    def __init__(self, population: Population, tolerance: float, max_support: int = 256) -> None:
        self.population = population
        self._max_support = max_support
        self._exact = Exact(population, max_support, may_leave_out(tolerance), rounding=may_round(tolerance))
        self._finder = None
        if population.represented > _SMALLEST:
            most = population.at_hand_with_source(min(max(_FEWEST, _SHARE * population.represented), _MOST))
            self._finder = CandidateFinder(population, population.at_hand(tolerance / 2), most)

    def estimate(self, queries: Queries) -> Estimate:
        parts: list[Estimate] = []
        order: list[np.ndarray] = []
        left = self._held(queries, parts, order)
        left = self._closed(queries, left, parts, order)
        if len(left):
            groups = self._exact.groups(queries.select(left))
            parts += groups
            order += np.split(left, np.cumsum([len(group.support) for group in groups[:-1]]))
        return assemble(parts, order)

    def _held(self, queries: Queries, parts: list[Estimate], order: list[np.ndarray]) -> np.ndarray:
        """Estimate the queries whose posterior is held by known members; the rows of the others."""
        held_by = queries.held_by or [None] * len(queries)
        known = np.flatnonzero([members is not None for members in held_by])
        for start in range(0, len(known), self.population.queries_at_a_time):
            rows = known[start : start + self.population.queries_at_a_time]
            members = [held_by[row] for row in rows]
            count = np.array([len(listed) for listed in members if listed is not None])
            member = np.concatenate([listed for listed in members if listed is not None])
            parts.append(self._over_candidates(queries.select(rows), np.repeat(np.arange(len(rows)), count), member))
            order.append(rows)
        return np.setdiff1d(np.arange(len(queries)), known)

    def _closed(self, queries: Queries, left: np.ndarray, parts: list[Estimate], order: list[np.ndarray]) -> np.ndarray:
        """Estimate those of the rows left that have few candidates; the other rows, rising."""
        if self._finder is None or queries.from_source is None:
            return left
        is_known = queries.from_source[left]
        known, rest = left[is_known], [left[~is_known]]
        for start in range(0, len(known), _FOUND):
            rows = known[start : start + _FOUND]
            group = queries.select(rows)
            candidates = self._finder.find(group.z, group.sigma, group.source)
            rest.append(rows[candidates.open_rows])
            closed = np.setdiff1d(np.arange(len(rows)), candidates.open_rows)
            if len(closed):
                row = np.searchsorted(closed, candidates.row)
                parts.append(self._over_candidates(group.select(closed), row, candidates.member))
                order.append(rows[closed])
            if len(closed) < _WORTH * len(rows):  # sigma rises: later rows have only more candidates
                rest.append(known[start + _FOUND :])
                break
        return np.sort(np.concatenate(rest))

    def _over_candidates(self, queries: Queries, row: np.ndarray, candidate: np.ndarray) -> Estimate:
        """The estimate over candidates: members, int64 [P], of these rows, int64 [P]."""
        means = pair_means(self.population, queries.z, queries.sigma, row, candidate)
        size = len(queries)
        top = np.zeros(size)
        np.maximum.at(top, row, means.weight)
        counts = np.bincount(row, minlength=size)
        bounds = np.concatenate(([0], np.cumsum(counts)))
        support: list[tuple[np.ndarray, np.ndarray] | None] = []
        for r in range(size):
            member = candidate[bounds[r] : bounds[r + 1]]
            weight = means.weight[bounds[r] : bounds[r + 1]]
            support.append((member, weight) if len(member) <= self._max_support else None)
        return Estimate(
            mean=checked_means(means.mean, queries.sigma),
            support=support,
            ess=np.maximum(1 / np.bincount(row, means.weight**2, minlength=size), 1.0),
            top_weight=top,
            variance=means.variance,
            tail_mass=np.zeros(size),
            support_size=counts,
        )


def may_leave_out(tolerance: float) -> float:
    """Posterior mass that means within this tolerance may leave out.

    It costs its square times the mean square distance of two images: an eighth of the tolerance where that is 2, a
    quarter where it is 4, the largest possible.
    """
    return math.sqrt(tolerance) / 4


def may_round(tolerance: float) -> float:
    """Mean squared error that rounding weights may cost means within this tolerance, as for `dense_means`."""
    return tolerance / 5


def make(settings: EstimatorSettings, population: Population, max_support: int) -> Auto:
    """The `make` function of this estimator; see `traits`."""
    # what storing the mean may cost is left to that
    return Auto(population, settings.tolerance - FLOAT16_ERROR, max_support)
