"""What a group of queries costs besides arithmetic: waits a few times a group, and memory of the rows asked for."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from postmean.engine.population import Population
from postmean.engine.refine import distance2
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


def test_distances_of_one_query_do_not_read_all_others(tmp_path: Path) -> None:
    images = random_images(100, (3, 8, 8))
    population = Population(store_of(tmp_path / "store", images), flips=False, device="cuda")
    z = queries_from(images_x(images), 1.0, 50).z.repeat(100, 1).cuda()
    _ = population.pixels
    peaks = []
    for count in (1, 5000):
        COUNTS.peak_bytes = COUNTS.live_bytes
        distance2(population, z[:count], np.zeros(10, np.int64), np.arange(10))
        peaks.append(COUNTS.peak_bytes - COUNTS.live_bytes)
    assert peaks[0] == peaks[1] > 0


def _counted(estimator: Exact | Auto, x: np.ndarray, sigma: float, count: int) -> tuple[int, int]:
    """Syncs and launches of one group."""
    queries = replace(queries_from(x, sigma, count), from_source=np.ones(count, bool))
    queries = replace(queries, z=queries.z.cuda())
    COUNTS.syncs.clear()
    COUNTS.launches.clear()
    estimator.estimate(queries)
    return COUNTS.syncs.total(), COUNTS.launches.total()
