"""Log-weights and sums of one product each, with the columns beside the pixels, against float64."""

from pathlib import Path

import numpy as np
import pytest
import torch

from postmean.engine import norm_columns
from postmean.engine.dense_means import dense_means
from postmean.engine.log_weights import log_weights
from postmean.engine.population import SCALE, Population
from tests.support.posterior_examples import images_x, near_duplicates, random_images, store_of


@pytest.mark.parametrize("dtype", [torch.int8, torch.float16])
@pytest.mark.parametrize("dim", [3, 784, 12_288])
def test_digits_give_half_the_squared_norm(dtype: torch.dtype, dim: int) -> None:
    rng = np.random.default_rng(0)
    signed = np.concatenate([rng.integers(-128, 128, (20, dim)), np.full((1, dim), -128), np.zeros((1, dim))])
    signed = signed.astype(np.int8)
    stored = torch.zeros((len(signed), dim + norm_columns.EXTRA_COLUMNS), dtype=dtype)
    norm_columns.fill(stored, torch.from_numpy(signed))
    digits = stored[:, dim : dim + norm_columns.DIGITS].to(torch.float64).numpy()
    for power in (norm_columns.LEAST_POWER, norm_columns.LEAST_POWER + 5):
        factors = norm_columns.factors(torch.tensor([float(power)]))[0].to(torch.float64).numpy()
        assert np.array_equal(digits @ factors, -np.square(signed.astype(np.float64)).sum(1) / 2.0 ** (power + 1))
    squared = np.square(signed.astype(np.int64)).sum(1)
    assert np.array_equal(norm_columns.norm2(stored, dim).numpy(), squared)
    assert np.array_equal(norm_columns.mass(stored.to(torch.float32), dim).numpy(), np.ones(len(signed)))


@pytest.mark.parametrize("sigma", [0.002, 0.1, 1.0, 10.0, 80.0, 1e4, 1e8])
@pytest.mark.parametrize("flips", [False, True])
def test_log_weights_are_off_by_no_more_than_they_say(tmp_path: Path, sigma: float, flips: bool) -> None:
    extremes = np.stack([np.zeros((3, 8, 8)), np.full((3, 8, 8), 255), np.full((3, 8, 8), 128)]).astype(np.uint8)
    pixels = np.concatenate([near_duplicates(), random_images(200, (3, 8, 8)), extremes])
    population = Population(store_of(tmp_path / "store", pixels), flips, device="cuda")
    x, rng = images_x(pixels, flips), np.random.default_rng(1)
    source = np.concatenate([rng.integers(0, len(x), 30), [len(pixels) - 3, len(pixels) - 2, len(pixels) - 1]])
    z = (x[source] + sigma * rng.standard_normal((len(source), x.shape[1]))).astype(np.float32)
    weights = log_weights(population, torch.from_numpy(z).cuda(), np.full(len(z), sigma))
    s, z_s = x * SCALE, z.astype(np.float64) * SCALE
    exact = (z_s @ s.T - np.square(s).sum(1) / 2) / (sigma * SCALE) ** 2
    error = weights.value.cpu().numpy() - exact
    # of odds against the source; `error` is for members as far apart as the population's spread
    error -= error[np.arange(len(z)), source][:, None]
    distance = np.linalg.norm(s[None, :] - s[source][:, None], axis=2) / population.spread.item()
    assert np.all(np.abs(error) <= 6 * weights.error.cpu().numpy()[:, None] * np.maximum(distance, 1))


@pytest.mark.parametrize("flips", [False, True])
@pytest.mark.parametrize("rounding", [0.0, 2e-7])
def test_means_under_weights_of_all_sizes(tmp_path: Path, flips: bool, rounding: float) -> None:
    pixels = random_images(5000, (3, 4, 4))
    population = Population(store_of(tmp_path / "store", pixels), flips, device="cuda")
    x, rng = images_x(pixels, flips), np.random.default_rng(2)
    log_weight = rng.standard_normal((6, len(x))) * np.array([0, 1, 4, 16, 64, 256])[:, None]
    weight = np.exp(log_weight - log_weight.max(1, keepdims=True))
    weight[1, 1:] = 1e-13  # vanish in one float16
    assert_means_within(population, x, weight, rounding)


@pytest.mark.parametrize("rounding", [0.0, 2e-7])
def test_means_under_weights_between_two_float16(tmp_path: Path, rounding: float) -> None:
    half = 4094  # 1 / M lies in the middle: the weights of black images are rounded down, those of white ones up
    pixels = np.repeat(np.array([0, 255], np.uint8), half)[:, None, None, None] + np.zeros((1, 3, 2, 2), np.uint8)
    population = Population(store_of(tmp_path / "store", pixels), False, device="cuda")
    weight = np.repeat([[1 - 1e-6, 1 + 1e-6]], half, axis=1)
    assert_means_within(population, images_x(pixels), weight, rounding)


def assert_means_within(population: Population, x: np.ndarray, weight: np.ndarray, rounding: float) -> None:
    """Means under float32 weights, normalised here, are off by what docs/certificate.md says."""
    weight = (weight / weight.sum(1, keepdims=True)).astype(np.float32)
    p = weight.astype(np.float64) / weight.sum(1, dtype=np.float64, keepdims=True)
    variance = (p @ np.square(x) - np.square(p @ x)).mean(1).clip(0)
    mean = dense_means(population, torch.from_numpy(weight).cuda(), rounding).cpu().numpy()
    by_rounding = 2.0**-11 * np.sqrt(variance) if rounding else 1e-6
    of_float32 = 3e-6  # thousands of terms a sum
    assert np.all(np.sqrt(np.square(mean - p @ x).mean(1)) <= by_rounding + of_float32)
