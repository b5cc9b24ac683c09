"""Members that held a posterior hold it at the Euler point: the bound against float64, and means over them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from postmean.engine.population import Population
from postmean.estimators.auto import Auto
from postmean.estimators.held import held_by_support, least_log_z
from tests.estimators.test_auto import COUNT, SETS, TOLERANCE
from tests.support.posterior_examples import DATA_SETS, images_x, posterior, queries_from, store_of


@pytest.mark.parametrize("name", DATA_SETS)
@pytest.mark.parametrize("sigma", [0.05, 0.4, 2.0])
@pytest.mark.parametrize("rho", [0.05, 0.5, 0.9, 0.99])
def test_members_left_out_gain_at_most_1_over_z(name: str, sigma: float, rho: float) -> None:
    x = images_x(DATA_SETS[name]())
    rng = np.random.default_rng(7)
    for z in x[rng.integers(0, len(x), 20)] + sigma * rng.standard_normal((20, x.shape[1])):
        p = posterior(x, z, sigma).p
        chosen = rng.permutation(len(x))[: rng.integers(1, len(x) + 1)]  # any set, not only the likeliest members
        if p[chosen].sum() < 0.5:
            chosen = np.flatnonzero(p > p.max() / 8)
        weight = p[chosen] / p[chosen].sum()
        mean = weight @ x[chosen]
        square = weight @ np.square(x[chosen] - mean).sum(1)
        later = posterior(x, mean + rho * (z - mean), rho * sigma).p
        out = np.setdiff1d(np.arange(len(x)), chosen)
        log_gain = -np.log(p[chosen].sum()) / rho - least_log_z(weight, square, sigma, rho * sigma)
        assert later[out].sum() <= p[out].sum() * np.exp(min(log_gain, 700.0)) * (1 + 1e-6) + 1e-12


@pytest.mark.parametrize("make", SETS)
@pytest.mark.parametrize("sigma", [0.5, 1.5])
@pytest.mark.parametrize("rho", [0.3, 0.97])
def test_means_over_held_members_are_exact_within_the_tolerance(tmp_path: Path, make, sigma: float, rho: float) -> None:
    pixels = make()
    population = Population(store_of(tmp_path / "store", pixels), flips=False)
    x = images_x(pixels)
    queries = replace(queries_from(x, sigma, 24), from_source=np.ones(24, bool))
    auto = Auto(population, TOLERANCE)
    first = auto.estimate(queries)
    z = first.mean + np.float32(rho) * (queries.z.numpy() - first.mean)
    later = replace(
        queries,
        z=torch.from_numpy(z),
        sigma=rho * queries.sigma,
        from_source=None,
        held_by=held_by_support(first, queries.sigma, rho * queries.sigma),
    )
    estimate = auto.estimate(later)
    exact = np.stack([posterior(x, row, rho * sigma).mean for row in z])
    assert np.square(estimate.mean - exact).mean() <= TOLERANCE


def test_a_small_step_needs_no_search(tmp_path: Path) -> None:
    pixels = SETS[0]()
    population = Population(store_of(tmp_path / "store", pixels), flips=False)
    queries = replace(queries_from(images_x(pixels), 0.5, 32), from_source=np.ones(32, bool))
    auto = Auto(population, TOLERANCE)
    first = auto.estimate(queries)
    held_by = held_by_support(first, queries.sigma, 0.98 * queries.sigma)
    assert all(held is not None for held in held_by)
    later = auto.estimate(replace(queries, sigma=0.98 * queries.sigma, from_source=None, held_by=held_by))
    assert later.support_size.max() < COUNT / 10
