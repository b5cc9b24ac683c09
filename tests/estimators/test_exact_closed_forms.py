"""`exact` against closed forms of the posterior mean, and its quality columns against their definitions."""

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from postmean.contract.score import score
from postmean.engine import pixels as engine_pixels
from postmean.engine.population import Population
from tests.support.posterior_examples import (
    DATA_SETS,
    estimator_of,
    images_x,
    mean_squared_error,
    posteriors,
    queries_at,
    queries_from,
    random_images,
    store_of,
)


def test_equals_the_responsibilities_of_a_gaussian_mixture(tmp_path):
    """With the images as component means, the posterior is a mixture's responsibilities."""
    pixels = random_images(60, (1, 2, 4))
    mu = images_x(pixels)
    estimator = estimator_of("exact", Population(store_of(tmp_path / "store", pixels), False))
    for sigma in (0.05, 0.4, 1.5, 10.0):
        queries = queries_from(mu, sigma, 10)
        z = queries.z.numpy().astype(np.float64)
        log_density = np.stack([multivariate_normal(m, sigma**2).logpdf(z) for m in mu], 1)
        responsibility = np.exp(log_density - np.logaddexp.reduce(log_density, 1, keepdims=True))
        assert np.abs(estimator.estimate(queries).mean - responsibility @ mu).max() < 1e-4


def test_score_is_the_gradient_of_the_log_density_of_the_mixture(tmp_path):
    pixels = random_images(60, (1, 2, 4))
    mu = torch.from_numpy(images_x(pixels))
    estimator = estimator_of("exact", Population(store_of(tmp_path / "store", pixels), False))
    for sigma in (0.4, 1.5, 10.0):
        queries = queries_from(mu.numpy(), sigma, 10)
        z = queries.z.to(torch.float64).requires_grad_()
        torch.logsumexp(-(z[:, None] - mu).square().sum(2) / (2 * sigma**2), 1).sum().backward()
        assert z.grad is not None
        ours = score(estimator.estimate(queries).mean, queries.z.numpy(), sigma)
        np.testing.assert_allclose(ours, z.grad.numpy(), atol=1e-4 / sigma**2)


@pytest.mark.parametrize("max_support", [8, 256], ids=["dense", "sparse where possible"])
def test_on_a_product_grid_each_pixel_is_a_hyperbolic_tangent(tmp_path, max_support):
    """All 2^10 combinations of 2 levels per pixel: D separate sums, E[x_d | z] = c + h tanh(h (z_d - c) / sigma^2)."""
    low = np.array([3, 0, 100, 90, 0, 20, 127, 50, 60, 8])
    high = np.array([250, 255, 140, 91, 1, 30, 128, 90, 240, 248])
    pixels = np.array(list(itertools.product(*zip(low, high, strict=True)))).astype(np.uint8).reshape(-1, 1, 2, 5)
    centre, half = (low + high) / 255 - 1, (high - low) / 255
    population = Population(store_of(tmp_path / "store", pixels), False)
    estimator = estimator_of("exact", population, max_support=max_support)
    for sigma in (0.002, 0.03, 0.2, 0.5, 1.0, 3.0, 20.0, 80.0):
        queries = queries_from(images_x(pixels), sigma, 20)
        z = queries.z.numpy().astype(np.float64)
        closed = centre + half * np.tanh(half * (z - centre) / sigma**2)
        estimate = estimator.estimate(queries)
        assert np.square(estimate.mean - closed).mean(1).max() < 1e-6, sigma
        assert np.square(estimate.mean - closed).mean() < 4e-7, sigma
        variance = (half**2 * (1 - np.tanh(half * (z - centre) / sigma**2) ** 2)).mean(1)
        np.testing.assert_allclose(estimate.variance, variance, rtol=5e-3, atol=3e-6)


def test_halves_way_between_two_images(tmp_path):
    pixels = np.zeros((2, 3, 4, 4), np.uint8)
    pixels[1] = 255
    estimator = estimator_of("exact", Population(store_of(tmp_path / "store", pixels), False))
    for sigma in (0.002, 1.0, 80.0):
        estimate = estimator.estimate(queries_at(np.zeros((1, 48)), sigma))
        np.testing.assert_allclose(estimate.mean, 0, atol=1e-6)
        assert estimate.ess[0] == pytest.approx(2)
        assert estimate.top_weight[0] == pytest.approx(0.5)
        assert estimate.variance[0] == pytest.approx(1)


@pytest.mark.parametrize("flips", [False, True], ids=["no flips", "flips"])
@pytest.mark.parametrize("max_support", [4, 256])
@pytest.mark.parametrize("data", DATA_SETS)
def test_mean_and_quality_are_those_of_a_brute_force(tmp_path, data, max_support, flips):
    pixels = DATA_SETS[data]()
    x = images_x(pixels, flips)
    estimator = estimator_of("exact", Population(store_of(tmp_path / "store", pixels), flips), max_support)
    queries = queries_from(x, np.tile([0.002, 0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 20.0, 80.0], 3), 27)
    oracle = posteriors(x, queries)
    estimate = estimator.estimate(queries)
    assert mean_squared_error(estimate, oracle).max() < 1e-7
    for row, o in enumerate(oracle):
        assert estimate.ess[row] == pytest.approx(1 / np.sum(o.p**2), rel=1e-2)
        assert estimate.top_weight[row] == pytest.approx(o.p.max(), rel=1e-2)
        assert estimate.variance[row] == pytest.approx(o.variance / x.shape[1], rel=1e-2, abs=1e-5)
        pair = estimate.support[row]
        if pair is not None:
            assert len(pair[0]) <= max_support
            heavy = np.flatnonzero(o.p > 1e-5)
            assert np.isin(heavy, pair[0]).all()
            np.testing.assert_allclose(pair[1], o.p[pair[0]], atol=1e-2, rtol=1e-2)
        else:
            assert (o.p > 1e-9).sum() > max_support
    assert (estimate.tail_mass == 0).all()
    assert (estimate.support_size == len(x)).all()


@pytest.mark.parametrize("count", [600, 1300])
def test_populations_of_the_size_of_a_class_are_as_exact_as_large_ones(tmp_path, count):
    """Rounding weights to bytes costs more with fewer images, and most where the ESS is some tenths of their number."""
    rng = np.random.default_rng(0)
    shade = rng.integers(0, 256, (count, 1, 1, 1))
    pixels = np.clip(shade + rng.integers(-40, 41, (count, 3, 4, 4)), 0, 255).astype(np.uint8)
    x = images_x(pixels)
    estimator = estimator_of("exact", Population(store_of(tmp_path / "store", pixels), False))
    queries = queries_from(x, np.tile(np.geomspace(0.3, 80, 12), 2), 24)
    assert mean_squared_error(estimator.estimate(queries), posteriors(x, queries)).max() < 1e-6


@pytest.mark.parametrize("signed_bytes", [0, 1 << 20], ids=["memory map", "signed copy"])
def test_several_tiles_are_one_population(tmp_path, monkeypatch, signed_bytes):
    """More images than a tile has."""
    monkeypatch.setattr(engine_pixels, "SIGNED_BYTES", signed_bytes)
    rng = np.random.default_rng(0)
    pixels = np.kron(rng.integers(0, 256, (3077, 3, 4, 4)).astype(np.uint8), np.ones((1, 1, 4, 4), np.uint8))
    population = Population(store_of(tmp_path / "store", pixels), False)
    assert len(list(population.pixels.tiles())) > 1
    x = images_x(pixels)
    queries = queries_from(x, np.array([0.002, 20.0]), 2)
    oracle = posteriors(x, queries)
    assert mean_squared_error(estimator_of("exact", population).estimate(queries), oracle).max() < 2e-7
    stratified = estimator_of("knn-stratified", population, k=3077)
    assert mean_squared_error(stratified.estimate(queries), oracle).max() < 2e-7
