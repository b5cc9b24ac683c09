"""The engine on a GPU, or on the stand-in for one, gives the same results as on the CPU, by the same float64 oracle."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from postmean.engine.population import Population
from postmean.estimators.auto import Auto
from postmean.estimators.estimate import Queries
from postmean.estimators.exact import Exact
from postmean.neighbours.search import ExactSearch
from postmean.neighbours.self_join import self_join
from tests.support.posterior_examples import images_x, posterior, queries_from, random_images, store_of


def _on_gpu(queries: Queries) -> Queries:
    return replace(queries, z=queries.z.cuda())


@pytest.mark.parametrize("sigma", [0.002, 0.3, 1.0, 4.0, 80.0])
@pytest.mark.parametrize("flips", [False, True])
def test_exact_and_auto_match_float64_on_a_gpu(tmp_path: Path, sigma: float, flips: bool) -> None:
    pixels = random_images(3000, (3, 8, 8))
    population = Population(store_of(tmp_path / "store", pixels), flips, device="cuda")
    x = images_x(pixels, flips)
    queries = replace(queries_from(x, sigma, 48), from_source=np.ones(48, bool))
    exact = np.stack([posterior(x, z, sigma).mean for z in queries.z.numpy()])
    for estimator, allowed in ((Exact(population), 1e-8), (Auto(population, 1e-6), 1e-6)):
        estimate = estimator.estimate(_on_gpu(queries))
        assert np.square(estimate.mean - exact).mean() <= allowed


def test_search_and_self_join_on_a_gpu_equal_the_cpu(tmp_path: Path) -> None:
    pixels = random_images(500, (3, 5, 7))
    store = store_of(tmp_path / "store", pixels)
    queries = queries_from(images_x(pixels), 0.5, 16)
    on_cpu = ExactSearch(Population(store, False)).search(queries.z, queries.sigma, 20)
    on_gpu = ExactSearch(Population(store, False, device="cuda")).search(queries.z.cuda(), queries.sigma, 20)
    # log-weights within the engine's error, those that matter exact
    off = np.abs(on_cpu.distance2 - on_gpu.distance2)
    assert np.all(off <= 1e-3 * 2 * queries.sigma[:, None] ** 2 + 1e-3 * on_cpu.distance2)
    assert np.allclose(on_cpu.distance2[:, 0], on_gpu.distance2[:, 0], rtol=1e-12)
    assert np.array_equal(
        self_join(store, False, False).distance2, self_join(store, False, False, device="cuda").distance2
    )
