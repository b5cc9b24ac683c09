"""Means at Euler points that come with the first means: against float64, on sets made to break them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax

from postmean.engine.euler_means import EulerSteps, euler_means
from postmean.engine.population import Population
from postmean.estimators.auto import Auto
from postmean.estimators.exact import Exact
from tests.estimators.test_auto import DIM, SETS, SHAPE, TOLERANCE
from tests.support.posterior_examples import images_x, posterior_means, queries_from, store_of

MANY = 9600  # enough for samples


def _far_groups() -> np.ndarray:
    """Most images in one tight group, a few far from it: a sample hardly sees these."""
    rng = np.random.default_rng(5)
    values = 100 + rng.normal(0, 6, (MANY, DIM))
    values[:12] = 255 - values[:12]
    return _pixels(values)


def _one_image_often() -> np.ndarray:
    """A third of the set is one image."""
    rng = np.random.default_rng(6)
    values = rng.uniform(0, 255, (MANY, DIM))
    values[::3] = values[0]
    return _pixels(values)


def _even() -> np.ndarray:
    return _pixels(np.random.default_rng(7).uniform(0, 255, (MANY, DIM)))


def _black_or_white() -> np.ndarray:
    """The largest mean square deviation there is."""
    return _pixels(255.0 * np.random.default_rng(8).integers(0, 2, (MANY, DIM)))


def _pixels(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8).reshape(-1, *SHAPE)


def _errors(
    population: Population, x: np.ndarray, sigma: float, rho: float, towards: np.ndarray | None = None
) -> np.ndarray:
    """Squared errors per dimension of the means at Euler points that the first means came with.

    Args:
        towards: an image; z lies a third of the way to it.
    """
    queries = replace(queries_from(x, sigma, 48), from_source=np.ones(48, bool), sigma_next=np.full(48, rho * sigma))
    if towards is not None:
        z = queries.z + torch.from_numpy((towards - x[queries.source]) / 3)
        queries = replace(queries, z=z.to(torch.float32), from_source=None)
    first = Auto(population, TOLERANCE).estimate(queries)
    rows = np.array(sorted(first.mean_next), dtype=int)
    if len(rows) == 0:
        return np.zeros(0)
    mean = first.mean[rows].astype(np.float64)
    z = mean + rho * (queries.z.numpy()[rows] - mean)
    later = replace(queries.select(rows), z=torch.from_numpy(z), sigma=np.full(len(rows), rho * sigma))
    return np.square(np.stack([first.mean_next[row] for row in rows]) - posterior_means(x, later)).mean(1)


@pytest.mark.parametrize("make", [*SETS, _far_groups, _one_image_often, _even, _black_or_white])
@pytest.mark.parametrize("rho", [0.95, 0.988])
def test_they_are_exact_within_the_tolerance(tmp_path: Path, make, rho: float) -> None:
    pixels = make()
    population, x = Population(store_of(tmp_path / "store", pixels), flips=False), images_x(pixels)
    errors = [_errors(population, x, sigma, rho) for sigma in (0.5, 2.0, 5.0, 20.0, 80.0)]
    assert all(one.mean() <= TOLERANCE for one in errors if len(one))
    assert sum(len(one) for one in errors) >= 48  # at large sigma the weight is on too many members for a support


@pytest.mark.parametrize("sigma", [3.0, 20.0])
def test_with_flips_they_are_exact_too(tmp_path: Path, sigma: float) -> None:
    pixels = _even()
    population, x = Population(store_of(tmp_path / "store", pixels), flips=True), images_x(pixels, flips=True)
    errors = _errors(population, x, sigma, 0.988)
    assert len(errors) == 48
    assert errors.mean() <= TOLERANCE


def test_a_large_step_takes_a_softmax_of_its_own(tmp_path: Path) -> None:
    pixels = _even()
    population = Population(store_of(tmp_path / "store", pixels), flips=False)
    assert len(_errors(population, images_x(pixels), 20.0, 0.5)) == 0


def test_means_without_rounding_come_alone(tmp_path: Path) -> None:
    pixels = SETS[0]()
    x = images_x(pixels)
    queries = replace(queries_from(x, 20.0, 4), sigma_next=np.full(4, 19.8))
    assert Exact(Population(store_of(tmp_path / "store", pixels), flips=False)).estimate(queries).mean_next == {}


@pytest.mark.parametrize("weight_of_one", [0.02, 0.005])
def test_a_heavy_member_that_the_sample_may_lack(tmp_path: Path, weight_of_one: float) -> None:
    """Nearly even weights over like images, but one far image has more: here the sample has it, there it does not."""
    pixels = _pixels(np.random.default_rng(9).normal(128, 1, (MANY, DIM)))
    pixels[:16] = 255
    population, x = Population(store_of(tmp_path / "store", pixels), flips=False), images_x(pixels)
    sigma, sigma_next = np.full(16, 5.0), np.full(16, 4.75)
    z = queries_from(x, 5.0, 16).z
    weight = np.full((16, MANY), (1 - weight_of_one) / (MANY - 1))
    weight[np.arange(16), np.arange(16)] = weight_of_one
    mean = weight @ x
    variance = weight @ np.square(x).sum(1) / DIM - np.square(mean).mean(1)
    ess = 1 / np.square(weight).sum(1)
    assert ess.min() > MANY / 8  # even enough for a sample
    steps = EulerSteps(*_tensors(weight), z, *_tensors(mean), ess, variance, sigma, sigma_next)
    rows, found = euler_means(population, steps, TOLERANCE / 5)
    assert len(rows) == 16
    a, kappa = 1 / 0.95 - 1, 0.05 / (2 * 0.95**2 * 5**2)
    along = (z.numpy() @ x.T - np.square(x).sum(1) / 2) / 5**2
    from_mean = np.square(mean).sum(1)[:, None] - 2 * mean @ x.T + np.square(x).sum(1)
    exact = softmax(np.log(weight) + a * along - kappa * from_mean, axis=1) @ x
    assert np.square(found.numpy() - exact).mean(1).max() <= TOLERANCE


def test_a_far_group_that_the_sample_may_lack(tmp_path: Path) -> None:
    """A dozen far images of little weight each and large differences: some samples have one of them, some none."""
    rng = np.random.default_rng(10)
    values = rng.normal(110, 20, (MANY, DIM))
    for number in range(12):
        far = rng.choice(MANY, 12, replace=False)
        pixels = _pixels(values)
        pixels[far] = 255
        population, x = Population(store_of(tmp_path / str(number), pixels), flips=False), images_x(pixels)
        errors = _errors(population, x, 3.0, 0.95, towards=x[far[0]])
        assert len(errors) == 48
        assert errors.max() <= TOLERANCE


def _tensors(*columns: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(column.astype(np.float32)) for column in columns]
