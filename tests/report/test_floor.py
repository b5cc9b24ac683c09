"""The loss floor against brute force in float64, its information, and the noise made of it."""

import json
import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import kstest

from postmean.cli.main import run as postmean
from postmean.cli.plan import COMMAND as PLAN
from postmean.contract.image_store import ImageStore
from postmean.contract.manifest import Manifest
from postmean.contract.noise import FloorNoise
from postmean.contract.noise.floor import floor_noise
from postmean.contract.process import EDMProcess
from postmean.contract.tuples import TupleSource
from postmean.pipeline import IndexConfig, index
from postmean.report.floor import FloorSettings, floor_curve, information
from tests.support.exact_runs import entries_of, posterior_mean
from tests.support.settings import manifest
from tests.support.stores import digits_store

SIGMAS = (0.05, 0.3, 0.6, 1.2, 5.0, 80.0)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    return digits_store(tmp_path_factory.mktemp("floor") / "digits.store", 120)


def brute_force(store: ImageStore, sigma: float, flips: bool, conditional: bool, count: int = 1500) -> np.ndarray:
    """|x - E[x | z]|^2 / D of many tuples, whose expectation is the floor too: another estimator of it, in float64."""
    rng = np.random.default_rng(7)
    x = entries_of(store, flips)
    source = rng.integers(0, len(x), count)
    z = x[source] + sigma * rng.standard_normal((count, x.shape[1]))
    labels = store.label(np.arange(len(x)))
    same = labels[None] == labels[source][:, None] if conditional else None
    mean, _ = posterior_mean(z, np.full(count, sigma), x, same)
    return np.square(x[source] - mean).mean(1)


@pytest.mark.parametrize(("flips", "conditional"), [(False, False), (True, False), (False, True)])
def test_the_floor_is_the_error_of_the_exact_mean(store: ImageStore, flips: bool, conditional: bool) -> None:
    settings = FloorSettings(sigmas=SIGMAS, samples=400, flips=flips, conditional=conditional)
    for point in floor_curve(store, settings):
        errors = brute_force(store, point.sigma, flips, conditional)
        noise = math.hypot(point.standard_error, errors.std() / len(errors) ** 0.5)
        assert abs(point.floor - errors.mean()) < 4 * noise + 1e-9


def test_certified_images_add_no_more_than_their_bound(tmp_path: Path) -> None:
    store = digits_store(tmp_path / "digits.store", 120)
    settings = FloorSettings(sigmas=SIGMAS, samples=400)
    before = floor_curve(store, settings)
    index(IndexConfig(store=store.path, threads=1), progress=False)
    after = floor_curve(store, settings)
    assert before[0].certified == 0 and after[0].certified == 1 and after[0].floor == 0
    for b, a in zip(before, after, strict=True):
        assert a.bound <= 1e-8
        noise = math.hypot(a.standard_error, b.standard_error)
        assert -4 * noise - 1e-12 <= b.floor - a.floor <= 4 * noise + a.bound


def test_the_noise_loses_ln_n_nats_in_all(store: ImageStore) -> None:
    settings = FloorSettings(sigmas=tuple(np.geomspace(0.05, 300, 60)), samples=400)
    assert information(floor_curve(store, settings), store.dim) == pytest.approx(math.log(120), rel=0.03)


def test_the_noise_has_half_of_its_tuples_where_the_floor_is_and_half_everywhere() -> None:
    sigma = np.geomspace(0.01, 100, 9)
    variance = np.where(sigma > 0.5, 0.2, 1e-5)
    noise = floor_noise(sigma, variance, 64)
    rate, level = 64 * variance / sigma**2, np.log(sigma)
    expected = 0.5 * rate / np.trapezoid(rate, level) + 0.5 / np.ptp(level)
    np.testing.assert_allclose(noise.density, expected, rtol=1e-4)
    assert np.trapezoid(noise.density, np.log(noise.sigma)) == pytest.approx(1, rel=1e-3)


def test_ln_sigma_has_the_density_of_the_table() -> None:
    noise = FloorNoise(sigma=(0.1, 1.0, 2.0, 50.0), density=(0.2, 3.0, 1.0, 1.0))
    source = TupleSource(seed=3, images=5, flips=False, noise=noise, process=EDMProcess())
    level = np.log(source.block(0, 40_000).sigma.astype(np.float64))
    grid = np.linspace(*np.log([0.1, 50.0]), 20_001)
    cdf = np.concatenate(
        [[0], np.cumsum(np.convolve(np.interp(grid, np.log(noise.sigma), noise.density), [0.5, 0.5], "valid"))]
    )
    assert kstest(level, lambda at: np.interp(at, grid, cdf / cdf[-1])).pvalue > 1e-3
    assert level.min() >= grid[0] - 1e-6 and level.max() <= grid[-1] + 1e-6


def test_the_table_is_in_the_manifest() -> None:
    noise = FloorNoise(sigma=(0.1, 1.0), density=(0.2, 3.0))
    run = manifest(noise=noise)
    assert Manifest.from_dict(json.loads(json.dumps(run.to_dict())), "manifest").recipe.noise == noise


def test_the_command_writes_what_generate_reads(
    store: ImageStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sigmas = ["--sigmas", *map(str, SIGMAS)]
    assert postmean("floor", [str(store.path), "--out", str(tmp_path / "f"), "--samples", "50", *sigmas, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [point["sigma"] for point in report["points"]] == list(SIGMAS)
    assert pq.read_table(tmp_path / "f" / "floor.parquet").to_pylist() == report["points"]
    assert (tmp_path / "f" / "floor.svg").read_bytes().startswith(b"<?xml")
    saved = tmp_path / "settings.json"
    words = ["edm", "--store", str(store.path), "--tuples", "1000", "--config", str(tmp_path / "f" / "noise.yaml")]
    PLAN.parse([*words, "--save-config", str(saved)])
    noise = json.loads(saved.read_text())["recipe"]["noise"]
    assert noise["kind"] == "floor" and noise["sigma"] == report["noise"]["sigma"]
