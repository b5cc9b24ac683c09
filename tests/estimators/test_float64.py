"""The float64 pass over the images against the posterior by definition."""

import numpy as np
import pytest

from postmean.engine.process_setup import threads
from postmean.estimators import float64
from postmean.estimators.float64 import exact_mean, exact_posterior, posterior_weights
from tests.support.posterior_examples import DATA_SETS, images_x, posteriors, queries_from, store_of


@pytest.mark.parametrize("flips", [False, True], ids=["no flips", "flips"])
@pytest.mark.parametrize("data", DATA_SETS)
def test_one_pass_finds_means_slopes_and_neighbours(tmp_path, monkeypatch, data, flips) -> None:
    monkeypatch.setattr(float64, "_MOST_ROWS", 7)  # many tiles: each may raise the largest log-weight
    pixels = DATA_SETS[data]()
    store, x = store_of(tmp_path / "store", pixels), images_x(pixels, flips)
    queries = queries_from(x, np.geomspace(0.002, 80, 24), 24)
    oracle, k = posteriors(x, queries), min(5, len(x))
    mean = np.stack([one.mean for one in oracle])
    with np.errstate(divide="ignore"):
        log_p = [np.where(one.p > 0, np.log(one.p), 0) for one in oracle]
    slope = np.stack([(one.p * (log - one.p @ log)) @ x for one, log in zip(oracle, log_p, strict=True)])
    for source in (None, queries.source):
        seen: list[int] = []
        found = exact_posterior(
            store, np.arange(len(x)), queries.z.numpy(), queries.sigma, k, source, progress=seen.append
        )
        assert np.abs(found.mean - mean).max() < 1e-6  # at sigma 0.002 the oracle's own rounding is 1e-7
        assert np.abs(found.slope - slope).max() < 1e-5
        np.testing.assert_allclose(found.population_mean, x.mean(0), atol=1e-12)
        for one, near in zip(oracle, found.neighbours, strict=True):
            kth = np.sort(one.log_likelihood)[-k]
            assert len(set(near)) == k and (one.log_likelihood[near] >= kth - 1e-6 * abs(kth)).all()
        assert seen[-1] == len(x) and seen == sorted(seen)


def test_the_number_of_threads_does_not_matter(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(float64, "_MOST_ROWS", 16)
    pixels = DATA_SETS["random"]()
    store, x = store_of(tmp_path / "store", pixels), images_x(pixels)
    queries = queries_from(x, 2.0, 5)
    means = []
    for count in (1, 3):
        with threads(count):
            means.append(exact_mean(store, np.arange(len(x)), queries.z.numpy(), queries.sigma))
            weight = posterior_weights(store, np.arange(len(x)), queries.z.numpy(), queries.sigma)
            np.testing.assert_allclose(weight @ x, means[-1], atol=1e-12)
    np.testing.assert_allclose(means[0], means[1], atol=1e-12)
