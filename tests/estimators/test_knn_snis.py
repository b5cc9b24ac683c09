"""`knn-snis` against Niedoba et al. 2024: its draws, its consistency, and Theorems 4.1 and 4.2."""

import numpy as np
import pytest

from postmean.engine.population import Population
from tests.support.posterior_examples import (
    Posterior,
    chi_square_p,
    clusters,
    estimator_of,
    images_x,
    posterior,
    random_images,
    repeated,
    store_of,
)


class Point:
    """A point whose posterior spreads over many images, and `knn-snis` estimates of it."""

    def __init__(self, path, pixels: np.ndarray, sigma: float, seed: int = 0) -> None:
        self.x = images_x(pixels)
        self.sigma = sigma
        self.z = self.x[0] + sigma * np.random.default_rng([seed, 5]).standard_normal(self.x.shape[1])
        self.z = self.z.astype(np.float32)
        self.population = Population(store_of(path, pixels), False)

    @property
    def oracle(self) -> Posterior:
        return posterior(self.x, self.z, self.sigma)

    def estimates(self, k: int, n: int, times: int, seed: int = 0):
        return estimator_of("knn-snis", self.population, k=k, n=n).estimate(
            repeated(self.z, self.sigma, times, seed=seed)
        )

    def squared_errors(self, k: int, n: int, times: int) -> np.ndarray:
        return np.square(self.estimates(k, n, times).mean - self.oracle.mean).sum(1)


@pytest.mark.parametrize("k", [1, 4, 12, 29, 30])
def test_draws_and_weights_follow_equations_11_and_13(tmp_path, k):
    """Weight j is proportional to count_j p_j / q_j: dividing by p_j / q_j must leave whole counts, drawn from q."""
    point = Point(tmp_path / "store", random_images(30, (1, 2, 3)), 0.9)
    oracle = point.oracle
    q = oracle.proposal(k)
    n, counts = 500, np.zeros(30)
    for member, weight in point.estimates(k, n, 12).support:
        share = weight / (oracle.p / q)[member]
        count = share / share.sum() * n
        assert np.abs(count - np.round(count)).max() < 0.02
        counts[member] += np.round(count)
    assert counts.sum() == 12 * n
    assert chi_square_p(counts, q) > 1e-3
    tail = np.argsort(-oracle.log_likelihood)[k:]
    if len(tail) > 1:
        assert chi_square_p(counts[tail], np.ones(30 - k)) > 1e-3  # uniform on the complement of the neighbours
        assert np.allclose(point.estimates(k, n, 1).tail_mass, q[tail].sum(), rtol=1e-3)


def test_single_draws_are_independent_draws_of_the_proposal(tmp_path):
    point = Point(tmp_path / "store", random_images(20, (1, 2, 3)), 0.9)
    q = point.oracle.proposal(6)
    drawn = np.array([member[0] for member, _ in point.estimates(6, 1, 4000).support])
    assert chi_square_p(np.bincount(drawn, minlength=20), q) > 1e-3
    pairs = np.bincount(drawn[::2] * 20 + drawn[1::2], minlength=400)
    assert chi_square_p(pairs, np.outer(q, q).ravel()) > 1e-3


@pytest.mark.parametrize(("k", "sigma"), [(60, 1.0), (60, 8.0), (6, 1.0), (6, 8.0), (20, 2.0)])
def test_error_falls_as_one_over_n_at_the_rate_of_equation_63(tmp_path, k, sigma):
    point = Point(tmp_path / "store", random_images(60, (1, 3, 3)), sigma)
    trace = point.oracle.snis_trace(point.oracle.proposal(k))
    for n in (128, 512, 2048):
        errors = point.squared_errors(k, n, 300) * n
        deviation = errors.std() / np.sqrt(len(errors))
        assert abs(errors.mean() - trace) < 4.5 * deviation + 8 * trace / n, n


def test_bias_vanishes(tmp_path):
    """The mean of many estimates is right within its standard error at n = 2048, and off at n = 2."""
    point = Point(tmp_path / "store", random_images(60, (1, 3, 3)), 1.0)

    def worst_z_score(n: int) -> float:
        means = point.estimates(4, n, 600).mean.astype(np.float64)
        return float(np.abs((means.mean(0) - point.oracle.mean) / (means.std(0) / np.sqrt(600))).max())

    assert worst_z_score(2048) < 4.5
    assert worst_z_score(2) > 6


@pytest.mark.parametrize("images", [random_images, clusters], ids=["random", "clusters"])
def test_theorems_4_1_and_4_2_bound_the_trace_of_the_covariance(tmp_path, images):
    """Traces by Eq. 63 for every sigma and k, and measured traces for some."""
    pixels = images()
    size = len(pixels)
    for number, sigma in enumerate((0.05, 0.3, 1.0, 2.0, 5.0, 30.0)):
        point = Point(tmp_path / f"store{number}", pixels, sigma)
        oracle = point.oracle
        likelihood = np.exp(oracle.log_likelihood - oracle.log_likelihood.max())
        order = np.argsort(-likelihood)
        uniform = oracle.snis_trace(np.full(size, 1 / size))
        for k in (1, 2, 5, 11, size - 1, size):
            z_q = likelihood[order[:k]].sum() + (size - k) * likelihood[order[k - 1]]
            trace = oracle.snis_trace(oracle.proposal(k))
            tail = likelihood[order[k:]].sum() / likelihood.sum()
            first = z_q / likelihood.sum() * oracle.variance
            second = (1 - tail) * oracle.variance + (size - k) / size * uniform
            assert trace <= first * (1 + 1e-9), (sigma, k)
            assert trace <= second * (1 + 1e-9), (sigma, k)
            if k in (5, size) and sigma in (1.0, 5.0):
                n, times = 400, 200
                covariance = point.estimates(k, n, times).mean.var(0, ddof=1).sum() * n
                assert covariance <= min(first, second) * (1 + 5 * np.sqrt(2 / times) + 8 / n) + 1e-9


def test_proposal_equals_the_posterior_where_k_is_n_or_the_mass_is_on_the_neighbours(tmp_path):
    """The estimate is then plain Monte Carlo: every weight is a whole multiple of 1/n."""
    for number, (k, sigma) in enumerate([(40, 3.0), (200, 3.0), (10, 0.05)]):
        point = Point(tmp_path / f"store{number}", random_images(), sigma)
        estimate = point.estimates(k, 128, 5)
        for _, weight in estimate.support:
            np.testing.assert_allclose(weight * 128, np.round(weight * 128), atol=1e-6)
        assert (estimate.tail_mass < 1e-6).all()
        assert (estimate.support_size == min(k, 40)).all()
