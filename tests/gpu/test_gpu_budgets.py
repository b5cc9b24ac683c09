"""What a group of queries may cost a GPU at the size of ImageNet-64, by the model of `benchmarks/gpu_budgets.py`."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.gpu_budgets import DIM, IMAGES, SIDE, Budget, budgets, estimator_budget, exact
from postmean.contract.image_blocks import ImageBlocks
from postmean.contract.image_store import SCHEMA_VERSION, ImageStore, StoreHeader
from postmean.contract.tuples import TupleBlock
from postmean.planning.memory import memory
from postmean.planning.workload import Workload
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
    assert self_join.products["distances"] <= 1.5
    assert self_join.peak_bytes <= _planned(flips=False)


def keeps_to_its_budget(budget: Budget, flips: bool = False) -> None:
    assert budget.queries >= 256
    # the pixels once, never a copy of them; then what they are multiplied with, the product, and what follows it
    assert max(budget.products.values()) <= 1.3
    assert max(budget.passes.values()) <= (2.5 if flips else 1.75)
    assert budget.product_share >= 0.5
    assert budget.syncs <= 20
    assert budget.launches <= 1000
    assert budget.peak_bytes <= _planned(flips)


def _planned(flips: bool) -> int:
    """Bytes of a GPU by `postmean plan`."""
    shape = (IMAGES, 3, SIDE, SIDE)
    header = StoreHeader(schema_version=SCHEMA_VERSION, shape=shape, class_names=None, source={}, fingerprint="")
    store = ImageStore(Path("none"), header, ImageBlocks(np.broadcast_to(np.uint8(0), shape)), None)
    work = Workload(
        manifest=manifest(store_shape=shape, flips=flips),
        store=store,
        certified_sigma=None,
        images=IMAGES,
        classes=0,
        stands_for=1.0,
        records=1,
        records_error=0.0,
        shards=1,
        certificate_seconds=0.0,
        sample=TupleBlock(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32), None),
    )
    planned = memory(work, on_gpu=True, device_bytes=141 * 10**9).device
    assert planned < 1.6 * 2 * IMAGES * DIM + (1 << 34)  # not far more than it takes
    return planned
