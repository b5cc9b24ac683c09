"""The float64 twins have the distributions of the paper, and the test against them errs as rarely as it says."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kstest

from postmean.estimators import twin_test
from postmean.estimators.float64_twins import TWINS, TwinPoint
from postmean.estimators.twin_test import TwinComparison, TwinTest
from tests.support.posterior_examples import images_x, posterior, random_images, settings_of, store_of
from tests.support.twins import DRAWS, K, SmallRuns

FAULTS = ("fewer neighbours", "fewer draws", "sigma", "biased weights", "swapped")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> SmallRuns:
    return SmallRuns(tmp_path_factory.mktemp("twins") / "store")


def compared(runs: SmallRuns, name: str, seed: int, fault: str | None = None, **sizes: int) -> TwinComparison:
    test = TwinTest(settings_of(name, k=K, n=DRAWS, m=DRAWS), seed)
    for one in runs.stored(name, seed, fault, **sizes):
        test.add(one)
    return test.result()


def a_point(path: Path, k: int, sigma: float) -> tuple[TwinPoint, np.ndarray]:
    pixels = random_images(60, (1, 3, 3))
    x = images_x(pixels)
    z = x[0] + sigma * np.random.default_rng(5).standard_normal(9)
    near = np.argsort(np.square(z - x).sum(1))[:k]
    return TwinPoint(
        store=store_of(path, pixels),
        entries=np.arange(60),
        population_mean=x.mean(0),
        z=z,
        sigma=sigma,
        neighbours=near,
    ), x


@pytest.mark.parametrize(("k", "sigma"), [(60, 1.0), (6, 1.0), (6, 8.0), (20, 2.0)])
def test_the_twin_of_snis_has_the_covariance_of_equation_63(tmp_path: Path, k: int, sigma: float) -> None:
    point, x = a_point(tmp_path / "store", k, sigma)
    oracle = posterior(x, point.z, sigma)
    trace = oracle.snis_trace(oracle.proposal(k))
    settings = settings_of("knn-snis", k=k, n=2048)
    drawn = np.concatenate(list(TWINS["knn-snis"](point, settings, 400, np.random.default_rng(1))))
    assert drawn.shape == (400, 9)
    error = np.square(drawn - oracle.mean).sum(1) * 2048
    assert abs(error.mean() - trace) < 4.5 * error.std() / 20 + 8 * trace / 2048
    worst = np.abs((drawn.mean(0) - oracle.mean) / np.maximum(drawn.std(0) / 20, 1e-9)).max()
    assert worst < 5


def test_the_twin_of_snis_survives_draws_whose_weights_all_underflow(tmp_path: Path) -> None:
    point, _ = a_point(tmp_path / "store", 1, 0.001)
    settings = settings_of("knn-snis", k=1, n=1)
    drawn = np.concatenate(list(TWINS["knn-snis"](point, settings, 400, np.random.default_rng(1))))
    assert np.isfinite(drawn).all()


def test_the_twin_of_stratified_is_exact_with_all_neighbours_and_nearly_so_with_many_draws(tmp_path: Path) -> None:
    for k, m, most in ((60, 1, 1e-12), (6, 20_000, 2e-4)):
        point, x = a_point(tmp_path / f"store{k}", k, 1.5)
        settings = settings_of("knn-stratified", k=k, m=m)
        drawn = np.concatenate(list(TWINS["knn-stratified"](point, settings, 5, np.random.default_rng(1))))
        assert np.square(drawn - posterior(x, point.z, 1.5).mean).mean(1).max() < most


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", TWINS)
def test_a_planted_error_is_found(runs: SmallRuns, monkeypatch, name: str, fault: str) -> None:
    monkeypatch.setattr(twin_test, "VIRTUAL_RUNS", 399)  # the slow test has all
    assert compared(runs, name, 1, fault).is_other


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", TWINS)
def test_a_planted_error_is_found_in_all_virtual_runs_whatever_the_seed(runs, name: str, fault: str) -> None:
    assert all(compared(runs, name, seed, fault).is_other for seed in range(5))


@pytest.mark.parametrize("name", TWINS)
def test_p_values_of_right_runs_are_uniform(runs: SmallRuns, monkeypatch, name: str) -> None:
    """So the test errs as often as it says: with M virtual runs, each p is one of M + 1 equally likely values."""
    monkeypatch.setattr(twin_test, "FIRST_LOOK", 49)
    monkeypatch.setattr(twin_test, "VIRTUAL_RUNS", 49)
    found = [compared(runs, name, seed, records=8) for seed in range(80)]
    for statistic in ("size", "shift", "worst"):
        p = [getattr(one, statistic) for one in found]
        assert kstest(p, "uniform").pvalue > 1e-3, statistic


@pytest.mark.slow
@pytest.mark.parametrize("name", TWINS)
def test_right_runs_pass_for_many_seeds(runs: SmallRuns, name: str) -> None:
    """200 runs, of which 0.2 fail on average: three or more have probability 0.001."""
    failed = [seed for seed in range(200) if compared(runs, name, seed).is_other]
    assert len(failed) < 3, failed
