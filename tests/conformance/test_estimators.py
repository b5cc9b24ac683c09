"""What every estimator must do: be finite and right within its own statistical error, on every kind of data set."""

import numpy as np
import pytest

from postmean.base.errors import ConfigError, EstimatorError
from postmean.engine.population import Population
from postmean.estimators.choose import make_estimator
from postmean.estimators.estimate import Estimate, Queries
from postmean.estimators.traits import traits_of
from tests.support.posterior_examples import (
    DATA_SETS,
    ESTIMATORS,
    clusters,
    constant_images,
    estimator_of,
    images_x,
    mean_squared_error,
    near_duplicates,
    permuted,
    posteriors,
    queries_from,
    random_images,
    settings_of,
    store_of,
)

SIGMAS = (0.002, 0.02, 0.3, 1.0, 4.0, 80.0)
EXACT_MSE = 1e-7
STATISTICAL = 12.0  # mean squared errors over a few queries stay within this many times their expectation


def expected_mse(name: str, oracle: list, k: int, draws: int) -> float:
    """Expected mean squared error per dimension of an estimator, averaged over the queries; an upper bound for stf."""
    dim = oracle[0].x.shape[1]
    size = len(oracle[0].x)
    match name:
        case "exact":
            return 0.0
        case "auto":
            return 1e-6 / STATISTICAL  # its tolerance
        case "posterior-mc":
            per_query = [o.variance / draws for o in oracle]
        case "knn-stratified" if k >= size:
            return 0.0
        case "knn-snis" | "knn-stratified":
            per_query = [o.snis_trace(o.proposal(k)) / draws for o in oracle]
        case _:
            per_query = [4.0 * dim for _ in oracle]  # stf and single-sample: checked against their own definitions
    return float(np.mean(per_query)) / dim


def assert_sound(estimate: Estimate, population: Population, x: np.ndarray) -> None:
    """Columns in range, and supports that sum to 1 and make the mean."""
    size = len(estimate.mean)
    assert estimate.mean.shape == (size, population.dim)
    assert estimate.mean.dtype == np.float32
    assert np.isfinite(estimate.mean).all()
    assert np.abs(estimate.mean).max() <= 1 + 1e-5
    for name in ("ess", "top_weight", "variance", "tail_mass", "support_size"):
        column = getattr(estimate, name)
        assert column.shape == (size,), name
        assert np.isfinite(column).all(), name
    assert (estimate.ess >= 1 - 1e-6).all()
    assert (estimate.ess <= len(population) * (1 + 1e-4)).all()
    assert ((estimate.top_weight > 0) & (estimate.top_weight <= 1 + 1e-6)).all()
    assert (estimate.variance >= 0).all()
    assert ((estimate.tail_mass >= 0) & (estimate.tail_mass <= 1)).all()
    assert (estimate.support_size >= 0).all()
    assert len(estimate.support) == size
    for row, pair in enumerate(estimate.support):
        if pair is None:
            continue
        member, weight = pair
        assert len(np.unique(member)) == len(member)
        assert member.min() >= 0
        assert member.max() < len(population)
        assert weight.min() > 0
        assert weight.sum(dtype=np.float64) == pytest.approx(1, abs=1e-6)
        assert np.square(weight.astype(np.float64) @ x[member] - estimate.mean[row]).mean() < EXACT_MSE


@pytest.mark.parametrize("flips", [False, True], ids=["no flips", "flips"])
@pytest.mark.parametrize("data", DATA_SETS)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_sigma_is_finite_and_right_within_the_statistical_error(tmp_path, name, data, flips):
    pixels = DATA_SETS[data]()
    population = Population(store_of(tmp_path / "store", pixels), flips)
    x = images_x(pixels, flips)
    for k in {3, 4 * len(x) if flips else len(x)} if name.startswith("knn") else {3}:
        estimator = estimator_of(name, population, k=k)
        for sigma in SIGMAS:
            queries = queries_from(x, sigma, 6)
            oracle = posteriors(x, queries)
            estimate = estimator.estimate(queries)
            assert_sound(estimate, population, x)
            allowed = EXACT_MSE + STATISTICAL * expected_mse(name, oracle, min(k, len(x)), 64)
            assert mean_squared_error(estimate, oracle).mean() <= allowed, (k, sigma)


@pytest.mark.parametrize("flips", [False, True], ids=["no flips", "flips"])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_conditional_posterior_runs_over_the_images_of_one_class(tmp_path, name, flips):
    pixels = random_images(41, (3, 4, 5), seed=3)
    labels = np.random.default_rng(0).integers(0, 3, 41)
    labels[labels == 2] = 1
    labels[17] = 2  # a class of one image
    store = store_of(tmp_path / "store", pixels, labels)
    for label in (0, 1, 2):
        chosen = np.flatnonzero(labels == label)
        x = images_x(pixels, flips, chosen)
        population = Population(store, flips, label)
        assert np.array_equal(population.entry, np.concatenate([chosen, chosen + 41]) if flips else chosen)
        assert np.array_equal(population.member(population.entry), np.arange(len(x)))
        for sigma in (0.002, 2.0, 80.0):
            queries = queries_from(x, sigma, 5)
            oracle = posteriors(x, queries)
            estimate = estimator_of(name, population).estimate(queries)
            assert_sound(estimate, population, x)
            allowed = EXACT_MSE + STATISTICAL * expected_mse(name, oracle, min(12, len(x)), 64)
            assert mean_squared_error(estimate, oracle).mean() <= allowed


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("data", ["random", "near duplicates", "tight clusters"])
def test_rows_depend_neither_on_their_batch_nor_on_its_order(tmp_path, name, data):
    pixels = DATA_SETS[data]()
    x = images_x(pixels)
    population = Population(store_of(tmp_path / "store", pixels), False)
    queries = queries_from(x, np.geomspace(0.002, 80, 17), 17)
    estimator = estimator_of(name, population, max_support=8)
    together = estimator.estimate(queries)
    order = np.random.default_rng(0).permutation(17)
    shuffled = estimator.estimate(permuted(queries, order))
    alone = [estimator.estimate(permuted(queries, np.array([row]))) for row in range(17)]
    for row in range(17):
        other = int(np.flatnonzero(order == row)[0])
        for estimate, at in ((shuffled, other), (alone[row], 0)):
            np.testing.assert_allclose(estimate.mean[at], together.mean[row], atol=2e-5)
            for column in ("ess", "top_weight", "variance", "tail_mass", "support_size"):
                ours, theirs = getattr(estimate, column)[at], getattr(together, column)[row]
                assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6), column


@pytest.mark.parametrize("name", ESTIMATORS)
def test_same_random_numbers_give_the_same_estimate_and_others_another(tmp_path, name):
    pixels = random_images()
    x = images_x(pixels)
    population = Population(store_of(tmp_path / "store", pixels), False)
    first, second = queries_from(x, 3.0, 8, seed=0), queries_from(x, 3.0, 8, seed=0)
    other = Queries(first.z, first.sigma, first.source, lambda row: np.random.default_rng([99, row]))
    estimator = estimator_of(name, population)
    assert np.array_equal(estimator.estimate(first).mean, estimator.estimate(second).mean)
    is_same = np.array_equal(estimator.estimate(first).mean, estimator.estimate(other).mean)
    assert is_same == (not traits_of(name).draws)


@pytest.mark.parametrize("name", [n for n in ESTIMATORS if n not in ("stf", "single-sample")])
def test_points_far_from_every_image_are_right_too(tmp_path, name):
    """A z from a sampler or a Heun step need not come from an image with noise at this sigma."""
    for number, pixels in enumerate((clusters(), constant_images(), near_duplicates())):
        x = images_x(pixels)
        population = Population(store_of(tmp_path / f"store{number}", pixels), False)
        far = queries_from(x, 5.0, 6)
        for sigma in (0.002, 0.05, 1.0):
            queries = Queries(far.z, far.sigma * (sigma / 5.0), far.source, far.generator)
            oracle = posteriors(x, queries)
            estimate = estimator_of(name, population, k=len(x)).estimate(queries)
            assert_sound(estimate, population, x)
            allowed = EXACT_MSE + STATISTICAL * expected_mse(name, oracle, len(x), 64)
            assert mean_squared_error(estimate, oracle).mean() <= allowed


def test_z_that_is_not_finite_and_sigma_0_are_refused():
    queries = queries_from(images_x(random_images()), 1.0, 3)
    for wrong in (float("nan"), float("inf")):
        z = queries.z.clone()
        z[1, 0] = wrong
        with pytest.raises(EstimatorError, match="finite"):
            Queries(z, queries.sigma, queries.source, queries.generator)
    with pytest.raises(EstimatorError, match="sigma"):
        Queries(queries.z, queries.sigma * 0, queries.source, queries.generator)


def test_settings_out_of_range_are_refused(tmp_path):
    population = Population(store_of(tmp_path / "store", random_images()), False)
    for name in ("k", "n", "m", "nprobe"):
        with pytest.raises(ConfigError, match=name):
            make_estimator(settings_of("knn-snis", **{name: 0}), population, 256)
    with pytest.raises(ConfigError, match="expected one of"):
        make_estimator(settings_of("nearest"), population, 256)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="expected exact, flat, sq8"):
        make_estimator(settings_of("knn-snis", index="hnsw"), population, 256)
