"""What a group of queries costs a GPU at the size of ImageNet-64, by a model (`roofline`): no GPU is needed.

    python -m benchmarks.gpu_budgets [--images 1281167]

tests/gpu/test_gpu_budgets.py holds the limits.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.roofline import Costs, Read, on_model
from postmean.contract.image_blocks import ImageBlocks
from postmean.contract.image_store import ImageStore
from postmean.contract.store_header import SCHEMA_VERSION, StoreHeader
from postmean.engine.class_blocks import ClassBlocks, make_blocks
from postmean.engine.dense_means import dense_means
from postmean.engine.log_weights import log_weights
from postmean.engine.pixels import Pixels, padded_size
from postmean.engine.population import Population
from postmean.estimators.auto import Auto
from postmean.estimators.by_class import ByClass
from postmean.estimators.estimate import Estimator, Queries
from postmean.estimators.exact import Exact
from postmean.neighbours.block_join import BlockJoin, Nearest

IMAGES, SIDE = 1_281_167, 64
DIM = 3 * SIDE**2

# the most work: every query is spread over many members
READ: Read = {
    "__post_init__": True,  # z is finite
    "posterior_weights": False,  # no log-weight is too imprecise
    "count_true": 1 << 20,
    "positions": 0,
    "checked_means": True,
    "_group": 1.0,
    "__init__": 0,  # no z needs a second product
    "by_row": 0.0,
    "to_host": 0.0,
    "distance2": 1.0,  # of the likeliest member, for the density
    "_not_left_out": 0.0,
    "bins_of": 700,  # of squared distances
    "add": 0,  # K distances are known
    "_listed": 128,  # distances of an image that are among the nearest so far
    "_block": True,  # no weight has to be recomputed
    "_supports": 0.0,  # all means are dense
}
CLASSES, QUERIES = 1000, 2048  # of a conditional run, a shard of the default size


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What one group of queries takes, or some rows of a unit of the self-join."""

    name: str
    queries: int
    """That share a pass over the pixels"""
    passes: dict[str, float]
    """Bytes moved by a pass over the pixels, by name, as a multiple of those of the pixels"""
    products: dict[str, float]
    """Likewise, of the matrix products alone: the pixels once, and what they are multiplied with"""
    product_share: float
    """Share of the products in the time"""
    launches: int
    syncs: int
    seconds: float
    peak_bytes: int
    """On the device, from loading on"""


def budgets(images: int = IMAGES) -> list[Budget]:
    """The budgets of the estimators and of the self-join."""
    return [
        estimator_budget("exact", exact, images),
        estimator_budget("exact, flips", exact, images, flips=True),
        estimator_budget("auto, no query with few candidates", auto, images),
        self_join_budget(images),
    ]


def estimator_budget(
    name: str, make: Callable[[Population], Estimator], images: int = IMAGES, flips: bool = False
) -> Budget:
    """The budget of a group of queries, all of which are spread over many members."""
    with on_model(READ) as begin:
        costs = begin()
        population = _population(images, flips, torch.float16)
        count = population.queries_at_a_time
        _ = population.norm2, population.spread
        estimator = make(population)
        z = torch.empty((count, DIM), device="cuda")
        sigma = np.full(count, 20.0)
        queries = Queries(z, sigma, np.arange(count), np.random.default_rng, np.ones(count, bool))
        peak, costs = costs.peak_bytes, begin()
        estimator.estimate(queries)
        passes = {
            "log-weights": _cost(begin, lambda: log_weights(population, z, sigma)),
            "means": _cost(
                begin, lambda: dense_means(population, torch.empty((count, len(population)), device="cuda"), 2e-7)
            ),
        }
        return _budget(name, count, population.pixels.stored.nbytes, costs, passes, peak)


def conditional_budgets(images: int = IMAGES) -> list[Budget]:
    """The budgets of a shard of a conditional run: one class after the other, and classes together."""
    size, count = images // CLASSES, QUERIES // CLASSES
    shape = (images, 3, SIDE, SIDE)
    with on_model(READ) as begin:
        population = _population(size, False, torch.float16)
        _ = population.norm2, population.spread
        estimator = auto(population)
        z, sigma = torch.empty((count, DIM), device="cuda"), np.full(count, 4.0)
        queries = Queries(z, sigma, np.arange(count), np.random.default_rng, np.ones(count, bool))
        each = _cost(begin, lambda: estimator.estimate(queries))
        alone = _budget(
            "conditional, class by class", QUERIES, population.pixels.stored.nbytes, each, {"shard": each}, 0
        )
    with on_model(READ) as begin:
        costs = begin()
        rows = padded_size(size, DIM, torch.float16)[0]
        header = StoreHeader(schema_version=SCHEMA_VERSION, shape=shape, class_names=None, source={}, fingerprint="")
        labels = np.repeat(np.arange(CLASSES), size)
        store = ImageStore(Path("none"), header, ImageBlocks(np.broadcast_to(np.uint8(0), shape)), labels)
        first = np.arange(CLASSES) * rows
        blocks = ClassBlocks(
            store,
            "cuda",
            torch.empty((CLASSES * rows, padded_size(size, DIM, torch.float16)[1]), dtype=torch.float16, device="cuda"),
            np.zeros(CLASSES * rows, np.int64),
            first,
            make_blocks(np.arange(CLASSES), first, rows, DIM),
        )
        _ = blocks.norm2
        blocks.__dict__["spread"] = 1.0  # a cached property
        label = np.sort(np.arange(QUERIES) % CLASSES)
        z, sigma = torch.empty((QUERIES, DIM), device="cuda"), np.full(QUERIES, 4.0)
        queries = Queries(z, sigma, label, np.random.default_rng)
        peak, costs = costs.peak_bytes, begin()
        ByClass(blocks, 256, 2.5e-4, 2e-7).estimate(queries, label)
        ratio = {"shard": costs.bytes.total() / blocks.stored.nbytes}
        together = Budget(
            name="conditional, classes together",
            queries=QUERIES,
            passes=ratio,
            products={"shard": costs.product_bytes / blocks.stored.nbytes},
            product_share=costs.product_share,
            launches=costs.launches,
            syncs=costs.syncs,
            seconds=sum(costs.seconds.values()),
            peak_bytes=max(peak, costs.peak_bytes),
        )
    times = CLASSES
    return [
        replace(alone, launches=alone.launches * times, syncs=alone.syncs * times, seconds=alone.seconds * times),
        together,
    ]


def self_join_budget(images: int = IMAGES) -> Budget:
    """The budget of 4 096 rows of a unit of the self-join."""
    with on_model(READ) as begin:
        costs, rows, columns = begin(), 4096, min(32_768, images - 4096)
        population = _population(images, False, torch.int8)
        sides = [(part, Nearest(len(part), 64, "cuda")) for part in (range(rows), range(rows, rows + columns))]
        peak = costs.peak_bytes
        costs = _cost(begin, lambda: BlockJoin(population, *sides).run())
        return _budget("self-join", rows, columns * DIM, costs, {"distances": costs}, peak)


def exact(population: Population) -> Exact:
    """The full softmax as `auto` asks for it."""
    return Exact(population, rounding=2e-7)


def auto(population: Population) -> Auto:
    """`auto` at its default tolerance."""
    return Auto(population, 1e-6)


def _population(images: int, flips: bool, dtype: torch.dtype) -> Population:
    """A population of a store without pixels, loaded."""
    shape = (images, 3, SIDE, SIDE)
    header = StoreHeader(schema_version=SCHEMA_VERSION, shape=shape, class_names=None, source={}, fingerprint="")
    store = ImageStore(Path("none"), header, ImageBlocks(np.broadcast_to(np.uint8(0), shape)), None)
    population = Population(store, flips, device="cuda", exact_products=dtype == torch.int8)
    stored = torch.empty(padded_size(images, DIM, dtype), dtype=dtype, device="cuda")
    population.__dict__["pixels"] = Pixels(stored, images, DIM, "cuda", dtype)  # a cached property
    return population


def _cost(begin: Callable[[], Costs], work: Callable[[], object]) -> Costs:
    costs = begin()
    work()
    return costs


def _budget(name: str, queries: int, pixels: int, costs: Costs, passes: dict[str, Costs], peak: int) -> Budget:
    return Budget(
        name=name,
        queries=queries,
        passes={name: part.bytes.total() / pixels for name, part in passes.items()},
        products={name: part.product_bytes / pixels for name, part in passes.items()},
        product_share=costs.product_share,
        launches=costs.launches,
        syncs=costs.syncs,
        seconds=sum(costs.seconds.values()),
        peak_bytes=max(peak, costs.peak_bytes),
    )


_TITLES = (
    "work",
    "queries a pass",
    "bytes moved a pass / bytes of the pixels",
    "of these, products",
    "products' share of the time",
    "launches",
    "syncs",
    "memory",
    "queries/s",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=IMAGES)
    options = parser.parse_args()
    print(f"{options.images:,} x {DIM:,}")
    print(f"| {' | '.join(_TITLES)} |")
    print("|---" * len(_TITLES) + "|")
    for b in [*budgets(options.images), *conditional_budgets(options.images)]:
        cells = [
            b.name,
            f"{b.queries}",
            _listed(b.passes),
            _listed(b.products),
            f"{b.product_share:.0%}",
            f"{b.launches:,}",
            f"{b.syncs}",
            f"{b.peak_bytes / 1e9:.1f} GB",
            f"{b.queries / b.seconds:,.0f}",
        ]
        print(f"| {' | '.join(cells)} |")


def _listed(ratios: dict[str, float]) -> str:
    return ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())


if __name__ == "__main__":
    main()
