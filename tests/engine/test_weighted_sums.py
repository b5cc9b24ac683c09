"""Sums over lists of members against plain numpy, on a CPU: bytes, mirror images, classes, lists of any length."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from postmean.engine import ragged
from postmean.engine.dense_means import dense_means
from postmean.engine.masks import few_above
from postmean.engine.population import Population
from tests.support.posterior_examples import random_images, store_of

PIXELS = random_images(60, (3, 4, 5))
LABELS = np.arange(60) % 3


@pytest.mark.parametrize("flips", [False, True], ids=["no flips", "flips"])
@pytest.mark.parametrize("label", [None, 1])
@pytest.mark.parametrize("table_bytes", [60, 700, 1 << 20])
def test_sums_are_those_of_float64(tmp_path, monkeypatch, flips, label, table_bytes) -> None:
    monkeypatch.setattr(ragged, "TABLE_BYTES", table_bytes)
    population = Population(store_of(tmp_path / "store", PIXELS, LABELS), flips, label)
    rng = np.random.default_rng(0)
    count = np.array([0, 1, 7, 0, 300, 2, 30])
    member = rng.integers(0, len(population), count.sum())
    weight = rng.random(count.sum()).astype(np.float32)
    bounds = np.concatenate([[0], np.cumsum(count)])
    sums = ragged.weighted_sums(population, bounds, member, weight).numpy()
    s = population.rows(np.arange(len(population))).numpy().astype(np.float64)
    for row, (start, stop) in enumerate(pairwise(bounds)):
        exact = weight[start:stop].astype(np.float64) @ s[member[start:stop]]
        assert np.abs(sums[row] - exact).max() <= 1e-6 * 255 * max(1.0, weight[start:stop].sum())


def test_sums_of_a_list_do_not_depend_on_its_neighbours(tmp_path) -> None:
    population = Population(store_of(tmp_path / "store", PIXELS), flips=False)
    rng = np.random.default_rng(1)
    member, weight = rng.integers(0, 60, 400), rng.random(400).astype(np.float32)
    together = ragged.weighted_sums(population, np.array([0, 100, 250, 400]), member, weight)
    alone = ragged.weighted_sums(population, np.array([0, 150]), member[100:250], weight[100:250])
    assert torch.equal(together[1], alone[0])


def test_few_above_lists_the_elements_of_rows_with_few() -> None:
    value = torch.from_numpy(np.random.default_rng(2).random((20, 50)).astype(np.float32))
    rows, threshold = np.arange(3, 18), torch.linspace(0.5, 1.0, 15)
    is_few, bounds, column, found = few_above(value, rows, threshold, 12)
    above = value.numpy()[rows] > threshold.numpy()[:, None]
    assert np.array_equal(is_few, above.sum(1) <= 12)
    for place, row in enumerate(np.flatnonzero(is_few)):
        part = slice(bounds[place], bounds[place + 1])
        assert np.array_equal(column[part], np.flatnonzero(above[row]))
        assert np.array_equal(found[part], value.numpy()[rows[row], column[part]])


def test_means_of_all_members_leave_the_weights_as_they_were(tmp_path) -> None:
    """A few heavy ones are set to 0 meanwhile."""
    population = Population(store_of(tmp_path / "store", random_images(600, (3, 8, 8))), flips=False)
    weight = torch.rand(20, 600) ** 8
    weight /= weight.sum(1, keepdim=True)
    before = weight.clone()
    dense_means(population, weight, 2e-7)
    assert torch.equal(weight, before)
