"""The host waits for the device a few times a group of queries, never once a query."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from postmean.engine.population import Population
from postmean.estimators.auto import Auto
from postmean.estimators.exact import Exact
from tests.support.cuda_stand_in import COUNTS, cuda_stand_in
from tests.support.posterior_examples import images_x, queries_from, random_images, store_of

SIGMAS = (0.05, 0.5, 1.5, 3.0, 6.0, 40.0)


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The stand-in alone: a real device does not count."""
    with cuda_stand_in(monkeypatch):
        yield


def test_launches_and_syncs_of_a_group_hardly_grow_with_its_queries(tmp_path: Path) -> None:
    images = random_images(2500, (3, 8, 8))
    population = Population(store_of(tmp_path / "store", images), flips=False, device="cuda")
    x = images_x(images)
    for estimator in (Exact(population), Auto(population, 1e-6)):
        for sigma in SIGMAS:
            few, many = (_counted(estimator, x, sigma, count) for count in (20, 200))
            assert many[0] <= few[0] + 16, (sigma, COUNTS.syncs)
            assert many[0] <= 40, (sigma, COUNTS.syncs)
            assert many[1] <= few[1] + 60, (sigma, COUNTS.launches)


def _counted(estimator: Exact | Auto, x: np.ndarray, sigma: float, count: int) -> tuple[int, int]:
    """Syncs and launches of one group."""
    queries = replace(queries_from(x, sigma, count), from_source=np.ones(count, bool))
    queries = replace(queries, z=queries.z.cuda())
    COUNTS.syncs.clear()
    COUNTS.launches.clear()
    estimator.estimate(queries)
    return COUNTS.syncs.total(), COUNTS.launches.total()
