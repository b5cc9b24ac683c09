"""The points z at one sigma, and exact quantities of each, computed once on first use."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch

from postmean.contract.noise import LogNormalNoise
from postmean.contract.noisy import noisy
from postmean.contract.process import EDMProcess
from postmean.contract.tuples import TupleSource
from postmean.engine.population import Population
from postmean.estimators.estimate import Queries
from postmean.estimators.exact import Exact, posterior_weights
from postmean.estimators.float64 import exact_mean
from postmean.estimators.posterior_mc import PosteriorMC
from postmean.neighbours.search import Neighbours
from postmean.report.settings import ReportSettings, Source

_REPETITION = 1 << 40  # between tuple ids of two repetitions: each has its own random numbers
_WORKSPACE_BYTES = 512 << 20


class Points:
    """z = x + sigma eps for the first images of the seed's permutation: the same images and eps at every sigma."""

    def __init__(self, population: Population, settings: ReportSettings, sigma: float) -> None:
        self.population, self.sigma = population, sigma
        self._repeats = settings.repeats
        store = population.store
        # only image, eps and draws of the tuples are used: sigma is the report's own
        self._tuples = TupleSource(
            seed=settings.seed,
            images=len(store),
            flips=population.flips,
            noise=LogNormalNoise(),
            process=EDMProcess(),
        )
        block = self._tuples.block(0, settings.points)
        self.source = population.member(block.entry)
        """int64 [P], member that each z was made from"""
        block = replace(block, sigma=np.full(len(block), sigma, np.float32))
        self.z = noisy(self._tuples, store, block)[2].reshape(len(block), store.dim)
        """float32 [P, D]"""

    def __len__(self) -> int:
        return len(self.z)

    @cached_property
    def variance(self) -> np.ndarray:
        """Posterior variance per dimension, float64 [P]."""
        return Exact(self.population).estimate(self.queries(np.arange(len(self)), 1)).variance

    @cached_property
    def redrawn(self) -> np.ndarray:
        """Members drawn from the posterior, int64 [P, repeats]: possible sources of z."""
        queries = self.queries(np.arange(len(self)), 1, stream=1)
        support = PosteriorMC(self.population, self._repeats).estimate(queries).support
        out = np.empty((len(self), self._repeats), np.int64)
        for row, pair in enumerate(support):
            assert pair is not None
            out[row] = np.repeat(pair[0], np.rint(pair[1] * self._repeats).astype(int))
        return out

    def missed_mass(self, neighbours: Neighbours) -> np.ndarray:
        """Exact posterior mass beyond the first 0 .. k neighbours of each point, float64 [P, k + 1]."""
        size, k = neighbours.member.shape
        missed = np.empty((size, k + 1))
        step = self.population.queries_at_a_time
        for start in range(0, size, step):
            rows = np.arange(start, min(start + step, size))
            queries = self.queries(rows, 1)
            weight = posterior_weights(self.population, queries.z, queries.sigma)
            for row in rows:
                is_member = neighbours.member[row] >= 0
                member = torch.from_numpy(neighbours.member[row, is_member]).to(weight.device)
                mass = np.zeros(k)
                mass[is_member] = weight[row - start, member].cpu().numpy()
                weight[row - start, member] = 0.0
                # summed from the far end: nothing cancels
                missed[row] = np.cumsum([float(weight[row - start].sum(dtype=torch.float64)), *mass[::-1]])[::-1]
        return missed

    def queries(self, rows: np.ndarray, repeats: int, source: Source = "fixed", stream: int = 0) -> Queries:
        """Each of these points `repeats` times in a row, each repetition with its own random numbers."""
        point, repetition = np.repeat(rows, repeats), np.tile(np.arange(repeats), len(rows))
        return Queries(
            torch.from_numpy(self.z[point]).to(self.population.device),
            np.full(len(point), self.sigma, np.float64),
            self.source[point] if source == "fixed" else self.redrawn[point, repetition],
            lambda row: self._tuples.draws(int(repetition[row]) * _REPETITION + int(point[row]), stream),
            np.ones(len(point), bool),
        )


def exact_means(several: Sequence[Points]) -> list[np.ndarray]:
    """Exact means of each set of points, float64 [P, D], in as few passes over the images as memory allows."""
    population = several[0].population
    z = np.concatenate([points.z for points in several])
    sigma = np.concatenate([np.full(len(points), points.sigma) for points in several])
    step = max(16, _WORKSPACE_BYTES // (8 * len(population)))
    parts = [
        exact_mean(population.store, population.entry, z[a : a + step], sigma[a : a + step])
        for a in range(0, len(z), step)
    ]
    return np.split(np.concatenate(parts), np.cumsum([len(points) for points in several])[:-1])
