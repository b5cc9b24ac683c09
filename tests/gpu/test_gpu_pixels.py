"""Pixels on a GPU: tiles of all sizes, and places of all kinds, give the results of float64."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from postmean.base.errors import ConfigError
from postmean.engine import pixels as pixels_module
from postmean.engine import self_test
from postmean.engine.population import Population
from postmean.estimators.auto import Auto
from postmean.estimators.estimate import Estimate
from postmean.estimators.exact import Exact
from postmean.neighbours.self_join import self_join
from tests.support.posterior_examples import images_x, posterior, queries_from, random_images, store_of

LABELS = np.arange(1033) % 3


def _estimate(estimator: Exact | Auto, x: np.ndarray, sigma: float, count: int) -> tuple[Estimate, float]:
    """The estimate of some queries, and its mean squared error."""
    queries = replace(queries_from(x, sigma, count), from_source=np.ones(count, bool))
    exact = np.stack([posterior(x, z, sigma).mean for z in queries.z.numpy()])
    estimate = estimator.estimate(replace(queries, z=queries.z.cuda()))
    return estimate, float(np.square(estimate.mean - exact).mean())


@pytest.mark.parametrize("count", [1024, 1025, 1033], ids=["8k", "8k + 1", "odd"])
@pytest.mark.parametrize("queries", [1, 17])
@pytest.mark.parametrize("kind", ["plain", "flips", "of a class"])
def test_last_tiles_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, queries: int, kind: str
) -> None:
    monkeypatch.setattr(pixels_module, "_GPU_TILE_ROWS", 256)
    images = random_images(count, (3, 5, 7))
    label = 1 if kind == "of a class" else None
    chosen = np.arange(count) if label is None else np.flatnonzero(LABELS[:count] == label)
    store = store_of(tmp_path / "store", images, LABELS[:count])
    population = Population(store, kind == "flips", label, device="cuda")
    x = images_x(images, kind == "flips", chosen)
    for sigma in (1.0, 30.0):
        assert _estimate(Exact(population), x, sigma, queries)[1] <= 1e-8


def test_pixels_on_the_device_as_bytes_or_on_the_host_give_the_same_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixels_module, "_GPU_TILE_ROWS", 128)
    images = random_images(1000, (3, 8, 8))
    store, x = store_of(tmp_path / "store", images), images_x(images)
    need = Population(store, False, device="cuda").workspace_bytes + pixels_module.RESERVE
    size = math.prod(pixels_module.padded_size(1000, 192, torch.float16))
    means = []
    for free, dtype, where in ((3, torch.float16, "cuda"), (1.6, torch.int8, "cuda"), (0.9, torch.int8, "cpu")):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (int(need + free * size), 80 << 30))
        population = Population(store, False, device="cuda")
        assert (population.pixels.stored.dtype, population.pixels.stored.device.type) == (dtype, where)
        estimate, error = _estimate(Exact(population), x, 8.0, 20)
        assert error <= 1e-8
        means.append(estimate.mean)
    assert np.array_equal(means[0], means[1])
    assert np.array_equal(means[0], means[2])


def test_a_gpu_without_room_for_the_workspace_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(tmp_path / "store", random_images(100, (3, 8, 8)))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1 << 30, 80 << 30))
    with pytest.raises(ConfigError, match=r"1\.1 of 85\.9 GB are free, the engine needs .* GB"):
        _ = Population(store, False, device="cuda").pixels


@pytest.mark.parametrize("flips", [False, True])
def test_the_self_join_equals_that_of_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flips: bool) -> None:
    monkeypatch.setattr(pixels_module, "_GPU_TILE_ROWS", 128)
    store = store_of(tmp_path / "store", random_images(301, (3, 5, 7)), np.arange(301) % 2)
    for conditional in (False, True):
        on_cpu = self_join(store, flips, conditional, nearest=20)
        on_gpu = self_join(store, flips, conditional, nearest=20, device="cuda")
        assert np.array_equal(on_cpu.distance2, on_gpu.distance2)
        assert np.allclose(on_cpu.table, on_gpu.table, rtol=1e-5)


def test_a_gpu_that_multiplies_wrong_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    right = self_test.int8_product
    monkeypatch.setattr(self_test, "int8_product", lambda a, b: right(a, b) + 1)
    with pytest.raises(ConfigError, match=r"self-test .* failed \(int8 product\): install"):
        self_test.check_products.__wrapped__("cuda")
    monkeypatch.setattr(self_test, "int8_product", lambda a, b: torch.ones(2, 3) @ torch.ones(2, 3))
    with pytest.raises(ConfigError, match=r"failed \(.*mat1 and mat2"):
        self_test.check_products.__wrapped__("cuda")
