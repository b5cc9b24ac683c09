"""Hybrid sampling against the pure ODE, the network's own samples, and the baseline by hand."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from postmean.contract.image_store import ImageStore, to_pixels, to_unit
from postmean.estimators.posterior_mean import PosteriorMean
from postmean.report.frechet import frechet
from postmean.report.hybrid import FORWARD, HYBRID, NETWORK, HybridImages, HybridSettings
from postmean.report.report_hybrid import report_hybrid
from postmean.training.model.hybrid import through
from postmean.training.model.sampling import HeunSampler, Noise, sample_batches


def network(z: torch.Tensor, sigma: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
    """The denoiser of x ~ N(0.1, 0.4^2)."""
    return 0.1 + (z - 0.1) * (0.16 / (0.16 + sigma**2))[:, None, None, None]


@pytest.fixture
def settings() -> HybridSettings:
    return HybridSettings(sigma_switch=(0.5, 3.0), count=5, steps=4, seed=2, batch_size=3)


def test_the_exact_mean_on_both_sides_is_its_pure_ode(store: ImageStore, settings: HybridSettings) -> None:
    exact = PosteriorMean(store, device="cpu")
    drawn = HybridImages(store, exact, exact, settings).draw(HYBRID, 3.0, lambda n: None)
    sampler = through(HeunSampler(steps=4), 3.0)
    assert np.array_equal(drawn, np.concatenate(list(sample_batches(exact, sampler, 5, store.image_shape, 2))))


def test_a_switch_above_the_first_level_gives_the_samples_of_the_network(
    store: ImageStore, settings: HybridSettings
) -> None:
    images = HybridImages(store, PosteriorMean(store, device="cpu"), network, settings)
    samples = np.concatenate(list(sample_batches(network, HeunSampler(steps=4), 5, store.image_shape, 2)))
    assert np.array_equal(images.draw(HYBRID, 100.0, lambda n: None), samples)
    assert np.array_equal(images.draw(NETWORK, 0.0, lambda n: None), samples)


def test_the_baseline_is_a_noised_image_then_the_network(store: ImageStore, settings: HybridSettings) -> None:
    images = HybridImages(store, PosteriorMean(store, device="cpu"), network, settings)
    x = torch.from_numpy(to_unit(store.pixels(images.sources()))).reshape(5, *store.image_shape).double()
    z = x + 3 * Noise(2, range(5), store.image_shape, "cpu").draw()
    levels = [3.0, *(s for s in HeunSampler(steps=4).levels if s < 3), 0.0]
    for high, low in pairwise(levels):
        slope = (z - network(z, torch.tensor([high] * 5))) / high
        later = z + (low - high) * slope
        if low:
            later = z + (low - high) / 2 * (slope + (later - network(later, torch.tensor([low] * 5))) / low)
        z = later
    drawn = images.draw(FORWARD, 3.0, lambda n: None).astype(int)
    assert np.abs(drawn - to_pixels(z.numpy())).max() <= 1  # the network computes in float32 there


def test_report_writes_a_table_and_pictures_and_draws_once(
    store: ImageStore, settings: HybridSettings, tmp_path: Path
) -> None:
    images = HybridImages(store, PosteriorMean(store, device="cpu"), network, settings)
    report = report_hybrid(images, tmp_path / "out", "key", None)
    before = {file: (tmp_path / "out" / file).read_bytes() for file in report.files}
    rows = pq.read_table(tmp_path / "out" / "hybrid.parquet").to_pylist()
    assert [(row["method"], row["sigma_switch"]) for row in rows] == [
        ("network", None),
        ("hybrid", 0.5),
        ("forward", 0.5),
        ("hybrid", 3.0),
        ("forward", 3.0),
    ]

    def forbidden(*_: object) -> torch.Tensor:
        raise AssertionError("drawn again")

    again = report_hybrid(HybridImages(store, forbidden, forbidden, settings), tmp_path / "out", "key", None)
    assert again == report
    assert before == {file: (tmp_path / "out" / file).read_bytes() for file in report.files}


def test_frechet_of_gaussians_in_closed_form() -> None:
    """For diagonal covariances: |difference of means|^2 + sum (s_a - s_b)^2, over sum s_b^2."""
    x = np.random.default_rng(0).normal(size=(500, 3))
    x = (x - x.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T)).T)
    a, b = x * [1.0, 2.0, 3.0] + 0.5, x * [2.0, 2.0, 1.0]
    assert frechet(a, b) == pytest.approx((0.75 + 1 + 0 + 4) / 9)
