"""Sampled means of small runs, right and wrong, as `verify` hands them to the test against the float64 twin."""

from pathlib import Path

import numpy as np

from postmean.contract.image_store import ImageStore
from postmean.engine.population import Population
from postmean.estimators.float64 import exact_posterior
from postmean.estimators.float64_twins import TwinPoint
from postmean.estimators.twin_test import StoredMean
from tests.support.posterior_examples import estimator_of, images_x, queries_at
from tests.support.stores import digits_store

K, DRAWS = 50, 64
"""Neighbours and draws of the runs."""


class SmallRuns:
    """Runs of 500 digits, of records with sigma from 1 to 20."""

    def __init__(self, path: Path) -> None:
        self.store: ImageStore = digits_store(path, 500)
        self._population = Population(self.store, False)
        self._x = images_x(np.asarray(self.store.images))

    def stored(self, name: str, seed: int, fault: str | None = None, records: int = 64) -> list[StoredMean]:
        """The means of a run as stored.

        Args:
            fault: fewer neighbours, fewer draws, sigma, biased weights, swapped; None for a right run.
        """
        rng = np.random.default_rng([seed, 9])
        sigma = np.exp(rng.uniform(np.log(1), np.log(20), records))
        source = rng.integers(0, len(self._x), records)
        z = (self._x[source] + sigma[:, None] * rng.standard_normal((records, 64))).astype(np.float32)
        entries = np.arange(len(self._x))
        found = exact_posterior(self.store, entries, z, sigma, K, source)
        draws = DRAWS // 2 if fault == "fewer draws" else DRAWS
        estimator = estimator_of(
            name, self._population, k=K // 4 if fault == "fewer neighbours" else K, n=draws, m=draws
        )
        mean = estimator.estimate(queries_at(z, sigma * (1.1 if fault == "sigma" else 1), source, seed)).mean
        if fault == "biased weights":  # 10 % of the weight on all images alike
            mean = 0.9 * mean + 0.1 * found.population_mean
        if fault == "swapped":  # of sigma near 2: with more, means of 64 draws are as far apart by chance
            two = np.argsort(sigma)[records // 5 :][:2]
            mean[two] = mean[two[::-1]]
        return [
            StoredMean(
                point=TwinPoint(
                    store=self.store,
                    entries=entries,
                    population_mean=found.population_mean,
                    z=z[row].astype(np.float64),
                    sigma=float(sigma[row]),
                    neighbours=found.neighbours[row],
                ),
                mean=mean[row].astype(np.float16).astype(np.float32),
                is_dense=True,
                exact=found.mean[row],
                slope=found.slope[row],
            )
            for row in range(records)
        ]
