"""What a group of queries may cost a GPU at the size of ImageNet-64, by the model of `benchmarks/gpu_budgets.py`."""

from collections.abc import Iterator

import pytest

from benchmarks.gpu_budgets import DIM, IMAGES, SIDE, Budget, budgets, conditional_budgets, estimator_budget, exact
from postmean.engine.population import queries_per_pass
from postmean.estimators.by_class import WORKSPACE
from postmean.runs.memory import memory
from tests.support.settings import manifest


@pytest.fixture(autouse=True)
def device() -> Iterator[None]:
    """None: the model has no values."""
    yield


def test_a_group_of_queries_keeps_to_its_budget() -> None:
    keeps_to_its_budget(estimator_budget("exact", exact))


@pytest.mark.slow
def test_all_keep_to_their_budgets() -> None:
    *estimators, self_join = budgets()
    for budget in estimators:
        keeps_to_its_budget(budget, flips="flips" in budget.name)
    assert self_join.queries >= 1024
    # 12 288 pixels of an image, read once for 4 096 distances of four bytes and twice for its norm
    assert self_join.products["distances"] <= 5
    assert self_join.peak_bytes <= _planned(flips=False)


@pytest.mark.slow
def test_a_conditional_shard_keeps_to_its_budget() -> None:
    alone, together = conditional_budgets()
    assert together.launches <= 1000 < alone.launches
    assert together.syncs <= 60
    assert together.products["shard"] <= 2.1  # the pixels, padded: once for log-weights, once for means
    assert together.product_share >= 0.5
    assert together.peak_bytes <= 2 * 1.1 * IMAGES * DIM + WORKSPACE


@pytest.mark.parametrize(
    ("side", "images", "device_bytes", "hold"),
    [(256, IMAGES, 80e9, False), (256, 50_000, 80e9, True), (128, 50_000, 24e9, True), (64, IMAGES, 80e9, True)],
)
def test_tiles_of_large_images_leave_room_for_the_rest(side: int, images: int, device_bytes: float, hold: bool) -> None:
    plan = manifest(store_shape=(images, 3, side, side), flips=False)
    planned = memory(plan, images, 0, 512, on_gpu=True, device_bytes=int(device_bytes)).device
    assert planned <= device_bytes
    assert (planned >= 2 * images * 3 * side**2) == hold  # float16 pixels


def keeps_to_its_budget(budget: Budget, flips: bool = False) -> None:
    assert budget.queries >= 256
    # the pixels once, never a copy of them; then what they are multiplied with, the product, and what follows it
    assert max(budget.products.values()) <= 1.3
    assert max(budget.passes.values()) <= (1.6 if flips else 1.3)
    assert budget.product_share >= 0.5
    assert budget.syncs <= 20
    assert budget.launches <= 1000
    assert budget.peak_bytes <= _planned(flips)


def _planned(flips: bool) -> int:
    """Bytes of a GPU by `postmean plan`."""
    shape = (IMAGES, 3, SIDE, SIDE)
    plan = manifest(store_shape=shape, flips=flips)
    queries = queries_per_pass("cuda", IMAGES * (2 if flips else 1))
    planned = memory(plan, IMAGES, 0, queries, on_gpu=True, device_bytes=141 * 10**9).device
    assert planned < 1.6 * 2 * IMAGES * DIM + (1 << 34)  # not far more than it takes
    return planned
