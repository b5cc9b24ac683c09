"""`knn-stratified`: exact over its neighbours, never worse than `knn-snis` with as many draws."""

import numpy as np
import pytest

from postmean.engine.population import Population
from tests.support.posterior_examples import (
    DATA_SETS,
    clusters,
    estimator_of,
    images_x,
    mean_squared_error,
    near_duplicates,
    posteriors,
    queries_from,
    random_images,
    repeated,
    store_of,
)


@pytest.mark.parametrize("flips", [False, True], ids=["no flips", "flips"])
@pytest.mark.parametrize("data", DATA_SETS)
def test_is_exact_where_k_reaches_the_population(tmp_path, data, flips):
    pixels = DATA_SETS[data]()
    x = images_x(pixels, flips)
    population = Population(store_of(tmp_path / "store", pixels), flips)
    queries = queries_from(x, np.geomspace(0.002, 80, 16), 16)
    oracle = posteriors(x, queries)
    for k in (len(x), len(x) + 5):
        estimate = estimator_of("knn-stratified", population, k=k, m=1).estimate(queries)
        assert mean_squared_error(estimate, oracle).max() < 1e-7
        assert (estimate.tail_mass == 0).all()
        np.testing.assert_allclose(estimate.ess, [1 / np.sum(o.p**2) for o in oracle], rtol=1e-2)
        np.testing.assert_allclose(estimate.top_weight, [o.p.max() for o in oracle], rtol=1e-2)
        np.testing.assert_allclose(estimate.variance, [o.variance / x.shape[1] for o in oracle], rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize("images", [random_images, clusters, near_duplicates], ids=["random", "clusters", "near"])
@pytest.mark.parametrize("k", [2, 15])
def test_is_at_least_as_good_as_snis_at_every_sigma(tmp_path, images, k):
    pixels = images()
    x = images_x(pixels)
    population = Population(store_of(tmp_path / "store", pixels), False)
    for sigma in (0.002, 0.02, 0.3, 1.0, 2.0, 5.0, 80.0):
        for point in range(2 if sigma in (1.0, 2.0) else 1):
            queries = repeated(queries_from(x, sigma, 1, point).z[0].numpy(), sigma, 64)
            oracle = posteriors(x, queries)
            errors = {
                name: mean_squared_error(estimator_of(name, population, k=k, m=128, n=128).estimate(queries), oracle)
                for name in ("knn-stratified", "knn-snis")
            }
            ours, snis = errors["knn-stratified"], errors["knn-snis"]
            noise = 4 * np.hypot(ours.std(), snis.std()) / 8
            assert ours.mean() <= snis.mean() + noise + 1e-7, (sigma, point)


def test_error_of_the_tail_falls_as_one_over_m(tmp_path):
    pixels = random_images(60, (1, 3, 3))
    x = images_x(pixels)
    population = Population(store_of(tmp_path / "store", pixels), False)
    for sigma in (0.7, 1.5, 8.0):
        queries = repeated(queries_from(x, sigma, 1).z[0].numpy(), sigma, 200)
        oracle = posteriors(x, queries)
        error = {
            m: mean_squared_error(estimator_of("knn-stratified", population, k=4, m=m).estimate(queries), oracle).mean()
            for m in (128, 2048)
        }
        assert 11 < error[128] / error[2048] < 24, sigma  # 16, up to noise and the bias at m = 128


def test_tail_mass_and_variance_are_right_on_average(tmp_path):
    pixels = random_images(60, (1, 3, 3))
    x = images_x(pixels)
    population = Population(store_of(tmp_path / "store", pixels), False)
    for sigma in (1.0, 3.0, 80.0):
        queries = repeated(queries_from(x, sigma, 1).z[0].numpy(), sigma, 100)
        oracle = posteriors(x, queries)[0]
        estimate = estimator_of("knn-stratified", population, k=10, m=2000).estimate(queries)
        tail = np.sort(oracle.p)[:-10].sum()
        assert estimate.tail_mass.mean() == pytest.approx(tail, rel=0.03)
        assert estimate.variance.mean() == pytest.approx(oracle.variance / 9, rel=0.03)
        assert estimate.ess.mean() == pytest.approx(1 / np.sum(oracle.p**2), rel=0.05)


def test_at_the_largest_sigma_the_control_variate_makes_the_tail_nearly_free_of_noise(tmp_path):
    """Weights are nearly equal: without the tail's known mean the error would be that of m = 16 plain draws."""
    pixels = random_images(60, (1, 3, 3))
    x = images_x(pixels)
    population = Population(store_of(tmp_path / "store", pixels), False)
    queries = queries_from(x, 80.0, 40)
    oracle = posteriors(x, queries)
    estimate = estimator_of("knn-stratified", population, k=4, m=16).estimate(queries)
    plain = np.mean([o.variance for o in oracle]) / 16 / 9
    assert mean_squared_error(estimate, oracle).mean() < plain / 500
