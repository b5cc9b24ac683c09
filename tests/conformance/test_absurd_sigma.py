"""Each estimator at the ends of the range of sigma: the nearest image, and an average of images; beyond it, refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from postmean.base.errors import ConfigError, EstimatorError
from postmean.contract.noise import LogNormalNoise
from postmean.contract.process import EDMProcess
from postmean.contract.tuples import TupleSource
from postmean.engine.population import Population
from tests.support.posterior_examples import ESTIMATORS, estimator_of, images_x, queries_from, random_images, store_of


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("count", [40, 2500], ids=["few", "many"])
def test_the_smallest_sigma_gives_the_source_and_the_largest_an_average(tmp_path: Path, name: str, count: int) -> None:
    pixels = random_images(count)
    x = images_x(pixels)
    estimator = estimator_of(name, Population(store_of(tmp_path / "store", pixels), flips=False))
    for sigma in (1e-12, 1e-9, 1e9, 1e12):
        queries = replace(queries_from(x, sigma, 4), from_source=np.ones(4, bool))
        estimate = estimator.estimate(queries)
        for column in ("mean", "ess", "top_weight", "variance", "tail_mass"):
            assert np.isfinite(getattr(estimate, column)).all(), (sigma, column)
        if sigma < 1:
            assert np.abs(estimate.mean - x[queries.source]).max() < 1e-6
        elif name != "single-sample":
            # no estimator averages fewer than 16 images there
            assert np.square(estimate.mean - x.mean(0)).mean() < 1 / 16


@pytest.mark.parametrize("sigma", [1e-21, 1e30, np.inf, np.nan, 0.0, -1.0])
def test_sigma_beyond_the_range_is_refused_by_name(sigma: float) -> None:
    with pytest.raises(EstimatorError, match=r"sigma within 1e-12 to 1e\+12, got"):
        replace(queries_from(images_x(random_images(4)), 1.0, 2), sigma=np.array([1.0, sigma]))


@pytest.mark.parametrize("noise", [LogNormalNoise(P_mean=-60), LogNormalNoise(P_mean=80), LogNormalNoise(P_std=30)])
def test_noise_beyond_the_range_is_refused_by_name(noise: LogNormalNoise) -> None:
    with pytest.raises(ConfigError, match=r"noise: sigma from .* expected within 1e-12 to 1e\+12"):
        TupleSource(seed=0, images=10, flips=False, noise=noise, process=EDMProcess())
