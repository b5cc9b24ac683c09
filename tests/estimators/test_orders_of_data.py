"""No order of the images makes the rounding errors of a mean over many members add up."""

from pathlib import Path

import numpy as np
import pytest

from postmean.engine.population import Population
from postmean.estimators.auto import Auto
from postmean.estimators.float64 import exact_mean
from tests.support.posterior_examples import images_x, queries_from, store_of

TOLERANCE = 1e-6
GOLDEN = (np.sqrt(5) - 1) / 2


def in_passes(period: int) -> np.ndarray:
    """The same images over and over with a little noise, as an augmented data set that was written pass by pass."""
    rng = np.random.default_rng(0)
    images = rng.integers(30, 226, (period, 1, 1, 1)) + rng.integers(-30, 31, (period, 3, 4, 4))
    passes = [images + rng.integers(-4, 5, images.shape) for _ in range(8000 // period)]
    return np.clip(np.concatenate(passes), 0, 255).astype(np.uint8)


def by_multiples_of_the_golden_ratio() -> np.ndarray:
    """Brightness follows the fractional part of j times the golden ratio."""
    shade = np.floor(256 * (np.arange(8000) * GOLDEN % 1))
    return np.broadcast_to(shade[:, None, None, None], (8000, 3, 4, 4)).astype(np.uint8)


def by_brightness() -> np.ndarray:
    return np.sort(by_multiples_of_the_golden_ratio(), axis=0)


@pytest.mark.parametrize("sigma", [2.0, 5.0, 20.0, 80.0])
@pytest.mark.parametrize(
    "images",
    [in_passes(610), in_passes(987), in_passes(1000), by_multiples_of_the_golden_ratio(), by_brightness()],
    ids=["610 images", "987 images", "1000 images", "golden", "sorted"],
)
def test_means_keep_the_tolerance_in_any_order(tmp_path: Path, images: np.ndarray, sigma: float) -> None:
    store = store_of(tmp_path / "store", images)
    queries = queries_from(images_x(images), sigma, 32)
    estimate = Auto(Population(store, flips=False), TOLERANCE).estimate(queries)
    exact = exact_mean(store, np.arange(len(images)), queries.z.numpy(), queries.sigma)
    assert np.square(estimate.mean - exact).mean() <= TOLERANCE
