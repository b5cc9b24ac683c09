"""Measured errors against closed forms from a brute-force posterior."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from postmean.contract.image_store import ImageStore
from postmean.engine.population import Population
from postmean.neighbours.search import ExactSearch, Neighbours
from postmean.report.cells import Cell, CellStore
from postmean.report.decompose import decompose
from postmean.report.evaluate import Evaluation
from postmean.report.memo_search import MemoSearch
from postmean.report.points import Points
from postmean.report.settings import Method, ReportSettings


def posterior_variance(store: ImageStore, points: Points) -> np.ndarray:
    """By definition, per dimension, float64 [P]."""
    x = store.images.reshape(len(store), -1) / 127.5 - 1
    variance = []
    for z in points.z.astype(np.float64):
        log_weight = -np.square(z - x).sum(1) / (2 * points.sigma**2)
        p = np.exp(log_weight - log_weight.max())
        p /= p.sum()
        variance.append(p @ np.square(x - p @ x).mean(1))
    return np.array(variance)


def cell_of(store: ImageStore, settings: ReportSettings, method: Method, sigma: float, tmp_path) -> Cell:
    keep = CellStore(tmp_path / "out", store.header.fingerprint, settings, None)
    Evaluation(store, settings).cells([(method, sigma)], keep, lambda done: None)
    cell = keep.read(method, sigma)
    assert cell is not None
    return cell


@pytest.mark.parametrize("sigma", [1.5, 2.0])
def test_single_sample_is_unbiased_and_varies_as_the_posterior(store, settings, sigma, tmp_path):
    many = replace(settings, points=8, repeats=400)
    cell = cell_of(store, many, Method(estimator="single-sample", source="redrawn"), sigma, tmp_path)
    expected = posterior_variance(store, Points(Population(store, False), many, sigma)).mean()
    assert cell.posterior_variance == pytest.approx(expected, rel=1e-2)
    assert cell.mse == pytest.approx(expected, rel=0.08)
    assert cell.variance == pytest.approx(expected, rel=0.08)
    assert abs(cell.bias2) < 0.02 * expected


def test_fixed_and_redrawn_sources_have_one_error_but_another_bias(store, settings, tmp_path):
    """Averaged over many points; all error from a fixed source is bias."""
    many = replace(settings, points=50, repeats=40)
    fixed = cell_of(store, many, Method(estimator="single-sample", source="fixed"), 1.5, tmp_path)
    redrawn = cell_of(store, many, Method(estimator="single-sample", source="redrawn"), 1.5, tmp_path)
    assert fixed.variance < 1e-20 and fixed.bias2 == pytest.approx(fixed.mse)
    assert abs(fixed.mse - redrawn.mse) < 4 * (fixed.mse_se + redrawn.mse_se)
    assert redrawn.bias2 < 0.1 * fixed.bias2


@pytest.mark.parametrize("n", [4, 32])
def test_posterior_mc_varies_as_the_posterior_over_n(store, settings, n, tmp_path):
    many = replace(settings, points=8, repeats=200)
    cell = cell_of(store, many, Method(estimator="posterior-mc", n=n), 2.0, tmp_path)
    assert cell.mse == pytest.approx(cell.posterior_variance / n, rel=0.12)
    assert cell.variance == pytest.approx(cell.posterior_variance / n, rel=0.12)
    assert abs(cell.bias2) < 0.1 * cell.mse


def test_mse_is_squared_bias_plus_variance(store, settings, tmp_path):
    for method in settings.methods(has_network=False):
        cell = cell_of(store, settings, method, 2.0, tmp_path)
        assert cell.mse == pytest.approx(cell.bias2 + cell.variance, rel=1e-9, abs=1e-18), method.label
    assert cell_of(store, settings, Method(estimator="auto"), 2.0, tmp_path).mse < 1e-6


def test_decomposition_is_unbiased():
    """Gaussian estimates of known bias and variance."""
    rng = np.random.default_rng(0)
    points, repeats, dim, bias, spread = 400, 4, 50, 0.3, 2.0
    reference = rng.standard_normal((points, dim))
    means = reference[:, None] + bias + spread * rng.standard_normal((points, repeats, dim))
    errors = decompose(means, reference)
    np.testing.assert_allclose(errors.mse, errors.bias2 + errors.variance, rtol=1e-12)
    for name, truth in (("bias2", bias**2), ("variance", spread**2), ("mse", bias**2 + spread**2)):
        values = getattr(errors, name)
        assert abs(values.mean() - truth) < 4 * values.std() / np.sqrt(points), name


class CountingSearch(ExactSearch):
    """Counts the points that are searched."""

    searched = 0

    def search(self, z: torch.Tensor, sigma: np.ndarray, k: int) -> Neighbours:
        CountingSearch.searched += len(z)
        return super().search(z, sigma, k)


def test_memo_search_searches_each_point_once_and_finds_the_same(store, settings):
    population = Population(store, False)
    points = Points(population, settings, 1.5)
    CountingSearch.searched = 0
    memo = MemoSearch(CountingSearch(population), 12)
    queries = points.queries(np.arange(len(points)), 5)
    most = memo.search(queries.z, queries.sigma, 12)
    fewer = memo.search(queries.z, queries.sigma, 3)
    assert CountingSearch.searched == len(points)
    for k, neighbours in ((12, most), (3, fewer)):
        plain = ExactSearch(population).search(queries.z, queries.sigma, k)
        np.testing.assert_array_equal(neighbours.member, plain.member)
        np.testing.assert_allclose(neighbours.distance2, plain.distance2, rtol=1e-5)


def test_repetitions_draw_independently_and_do_not_depend_on_the_batch(store, settings):
    points = Points(Population(store, False), settings, 1.5)
    queries = points.queries(np.arange(4), 3)
    draws = [queries.generator(row).random() for row in range(12)]
    assert len(set(draws)) == 12
    alone = points.queries(np.array([2]), 3)
    assert [alone.generator(row).random() for row in range(3)] == draws[6:9]


def test_missed_mass_and_recall_of_an_inverted_file(store, settings, tmp_path):
    from postmean.neighbours.faiss_search import build
    from postmean.neighbours.faiss_spec import FaissSpec

    build(store, FaissSpec("ivf4-sq8"), False)
    with_index = replace(settings, index="ivf4-sq8", nprobe=1)
    exact, approximate = (
        Method(estimator="knn-snis", k=8, n=16, index=index, nprobe=nprobe)
        for index, nprobe in (("exact", None), ("ivf4-sq8", 1))
    )
    cells = [cell_of(store, with_index, method, 2.0, tmp_path) for method in (exact, approximate)]
    assert cells[0].recall == 1.0 and cells[0].neighbours_found == 8
    assert cells[1].recall is not None and 0 < cells[1].recall < 1
    assert cells[0].missed_mass is not None and cells[1].missed_mass is not None
    assert 0 < cells[0].missed_mass < cells[1].missed_mass < 1


def test_missed_mass_is_what_brute_force_finds(store, settings):
    points = Points(Population(store, False), settings, 2.0)
    queries = points.queries(np.arange(4), 1)
    missed = points.missed_mass(ExactSearch(points.population).search(queries.z, queries.sigma, 60))
    x = store.images.reshape(60, -1) / 127.5 - 1
    for row, z in enumerate(points.z.astype(np.float64)):
        p = np.exp(-np.square(z - x).sum(1) / 8)
        p = np.sort(p / p.sum())[::-1]
        np.testing.assert_allclose(missed[row], 1 - np.append(0, np.cumsum(p)), atol=1e-3)
