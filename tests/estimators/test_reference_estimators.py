"""`posterior-mc`, `stf` and `single-sample` against their definitions."""

import numpy as np
import pytest

from postmean.contract.image_store import ImageStore
from postmean.engine.population import Population
from tests.support.posterior_examples import (
    chi_square_p,
    estimator_of,
    images_x,
    posterior,
    queries_from,
    random_images,
    repeated,
    store_of,
)


@pytest.fixture
def store(tmp_path) -> ImageStore:
    return store_of(tmp_path / "store", PIXELS)


PIXELS = random_images(30, (1, 2, 3))
X = images_x(PIXELS)


@pytest.mark.parametrize("sigma", [0.3, 0.9, 4.0])
def test_posterior_mc_is_unbiased_with_the_posterior_variance_over_n(store, sigma):
    z = queries_from(X, sigma, 1).z[0].numpy()
    oracle = posterior(X, z, sigma)
    n, times = 8, 3000
    estimate = estimator_of("posterior-mc", Population(store, False), n=n).estimate(repeated(z, sigma, times))
    means = estimate.mean.astype(np.float64)
    standard_error = np.sqrt(oracle.p @ np.square(X - oracle.mean) / n / times)
    assert (np.abs(means.mean(0) - oracle.mean) < 4.5 * standard_error + 1e-6).all()
    errors = np.square(means - oracle.mean).sum(1)
    assert abs(errors.mean() - oracle.variance / n) < 4.5 * errors.std() / np.sqrt(times)
    counts = np.zeros(30)
    for member, weight in estimate.support:
        np.testing.assert_allclose(weight * n, np.round(weight * n), atol=1e-6)
        counts[member] += np.round(weight * n)
    assert chi_square_p(counts, oracle.p) > 1e-3


@pytest.mark.parametrize("n", [1, 2, 17, 200])
def test_stf_weighs_the_source_and_n_minus_1_uniform_draws(store, n):
    """Xu et al. 2023, Eq. 7: weights p(z | x_k) / sum_j p(z | x_j) over the reference batch."""
    sigma, source, times = 1.5, 11, 300
    z = queries_from(X, sigma, 1).z[0].numpy()
    oracle = posterior(X, z, sigma)
    estimate = estimator_of("stf", Population(store, False), n=n).estimate(repeated(z, sigma, times, source))
    drawn = np.zeros(30)
    for row, (member, weight) in enumerate(estimate.support):
        share = weight / oracle.p[member]
        # the count of the source in the batch gives the scale: try each whole number
        own = share[member == source]
        assert len(own) == 1
        counts = [share / own * c for c in range(1, n + 1)]
        whole = [c for c in counts if np.abs(c - np.round(c)).max() < 1e-2 and round(c.sum()) == n]
        assert len(whole) >= 1
        count = np.round(whole[0]).astype(int)
        drawn[member] += count
        drawn[source] -= 1
        batch = np.repeat(member, count)
        likelihood = np.exp(oracle.log_likelihood[batch] - oracle.log_likelihood[batch].max())
        np.testing.assert_allclose(estimate.mean[row], likelihood @ X[batch] / likelihood.sum(), atol=1e-4)
    assert drawn.sum() == (n - 1) * times
    if n > 1:
        assert chi_square_p(drawn, np.ones(30)) > 1e-3
    assert (estimate.support_size == n).all()


def test_stf_approaches_the_posterior_mean_with_n(store):
    z = queries_from(X, 2.0, 1).z[0].numpy()
    oracle = posterior(X, z, 2.0)
    error = {}
    for n in (16, 256, 4096):
        estimate = estimator_of("stf", Population(store, False), n=n).estimate(repeated(z, 2.0, 40))
        error[n] = np.square(estimate.mean - oracle.mean).sum(1).mean()
    assert error[16] > 4 * error[256] > 16 * error[4096]


@pytest.mark.parametrize("flips", [False, True], ids=["no flips", "flips"])
def test_single_sample_is_the_source(store, flips):
    x = images_x(PIXELS, flips)
    queries = queries_from(x, np.geomspace(0.002, 80, 40), 40)
    estimate = estimator_of("single-sample", Population(store, flips)).estimate(queries)
    assert np.abs(estimate.mean - x[queries.source]).max() < 1e-6
    for row, pair in enumerate(estimate.support):
        assert pair is not None
        assert pair[0].tolist() == [queries.source[row]]
        assert pair[1].tolist() == [1.0]
    assert (estimate.ess == 1).all()
    assert (estimate.top_weight == 1).all()
    assert np.abs(estimate.variance).max() < 1e-12
