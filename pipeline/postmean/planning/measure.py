"""Estimates some of a run's records in this process: seconds and bytes per record, and how the time grows with N.

A sample's population stands for that of the whole data set (`workload`). A record takes a + b M seconds: a for its
noise, random draws and packing, b M for work over the M members. Measuring on the store and on a quarter of it tells
the two apart.
"""

import time
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from postmean.contract.commit import FileDigest
from postmean.contract.manifest import Manifest
from postmean.contract.plan import Plan, ShardPlan
from postmean.contract.records import Records
from postmean.contract.settings import EstimatorSettings
from postmean.contract.tuples import TupleBlock
from postmean.engine.population import Population
from postmean.engine.products import int8_product
from postmean.estimators.replica import Replica
from postmean.estimators.traits import traits_of
from postmean.planning.sampled_population import SampledPopulation
from postmean.planning.workload import Workload, spread
from postmean.shards.codecs import codec
from postmean.shards.run_reader import layout_of

_SECONDS = 15.0  # approximate time to estimate on the store
_FEWEST = 256  # records to measure, however long they take
_SHARE = 4


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a record costs one actor on this machine, for the planned data set."""

    fixed_seconds: float
    """a"""
    growing_seconds: float
    """b M"""
    setup_seconds: float
    """Once per actor, before its first record"""
    bytes: float

    @property
    def seconds(self) -> float:
        return self.fixed_seconds + self.growing_seconds


def measure(work: Workload, split: bool) -> Measured:
    """Measure a sample of the workload's records.

    Args:
        split: separate `growing_seconds` from `fixed_seconds`, as needed for another N or another machine. If not set,
            all of the time counts as fixed.
    """
    manifest = work.manifest
    seconds, setup, records = _estimate(work)
    began = time.perf_counter()
    record_bytes = _record_bytes(work, records)
    packing = (time.perf_counter() - began) / len(records)
    fixed, growing = seconds, 0.0
    if split:
        small = work.thinned(_SHARE)
        share = len(small.store) / len(work.store)
        small_seconds, _, _ = _estimate(small)
        growing = min(seconds, max(0.0, (seconds - small_seconds) / (1 - share)))
        fixed, growing = seconds - growing, growing * work.stands_for
    return Measured(
        fixed_seconds=fixed + packing,
        growing_seconds=growing,
        setup_seconds=setup * work.images / len(work.store),
        bytes=record_bytes + _grown_bytes(manifest, records, work.stands_for),
    )


def queries_at_once(work: Workload, on_gpu: bool) -> int:
    """Queries per pass over a population: a group of the estimator, or a class's records in a shard."""
    if work.manifest.recipe.conditional:
        return max(1, work.manifest.shards.records_per_shard // work.classes)
    device = "cuda" if on_gpu else "cpu"
    flips = work.manifest.recipe.flips
    return SampledPopulation(work.store, flips, device=device, stands_for=work.stands_for).queries_at_a_time


def product_seconds(work: Workload, queries: int) -> float:
    """Seconds on this machine for the log-weight of one member and query, timed on the product with one tile."""
    pixels = Population(work.store, False, device=work.manifest.device, exact_products=True).pixels
    start, stop, tile = next(pixels.tiles())
    split = torch.ones((2 * queries, pixels.columns), dtype=torch.int8, device=pixels.device)
    int8_product(split, tile)
    repeats, began = 0, time.perf_counter()
    while repeats < 4 or time.perf_counter() - began < 0.5:
        int8_product(split, tile)
        if split.is_cuda:
            torch.cuda.synchronize()
        repeats += 1
    return (time.perf_counter() - began) / repeats / (stop - start) / queries


def _estimate(work: Workload) -> tuple[float, float, Records]:
    """(seconds per record, seconds before the first, the records) of a sample grouped like a shard."""
    manifest = work.manifest
    population_of = partial(SampledPopulation, stands_for=work.stands_for)
    replica = Replica(manifest, work.store, work.certified_sigma, population_of)
    most = manifest.shards.records_per_shard
    if manifest.recipe.conditional:  # as many per class as in a shard of the planned data set
        most = max(_FEWEST, round(most * work.store.classes / work.classes))
    few = spread(work.sample, 16)
    setup = _timed(replica, few)[0]
    seconds = _timed(replica, few)[0]
    sample = spread(work.sample, max(_FEWEST, min(most, int(_SECONDS * len(few) / seconds))))
    if manifest.recipe.conditional:  # every class is set up on its own
        setup += _timed(replica, sample)[0] - seconds
    seconds, records = _timed(replica, sample)
    setup = max(0.0, setup - seconds * (1 if manifest.recipe.conditional else len(few) / len(records)))
    return seconds / len(records), setup, records


def _timed(replica: Replica, block: TupleBlock) -> tuple[float, Records]:
    began = time.perf_counter()
    records = replica.estimate(block)
    return time.perf_counter() - began, records


def _record_bytes(work: Workload, records: Records) -> float:
    """Bytes per record, from shards of the run's size, or one shard with the whole sample if that is smaller."""
    manifest = work.manifest
    size = min(manifest.shards.records_per_shard, len(records))
    plan = Plan(np.array([0]), np.array([manifest.tuples - 1]), np.array([work.records]))
    layout = layout_of(replace(manifest, segments=()), plan)
    total = count = 0
    for start in range(0, len(records) - size + 1, size):
        part = records.slice(start, start + size)
        row = ShardPlan(0, int(part.tuple_id[0]), int(part.tuple_id[-1]), size)
        files = codec(manifest.shards.format).encode(part, row, layout)
        total += sum(FileDigest.of(path, data).size for path, data in files.items())  # hashed, as an actor does
        count += size
    return total / count


def _grown_bytes(manifest: Manifest, records: Records, stands_for: float) -> float:
    """Bytes per record that sparse means gain because every member but the source stands for several."""
    dense = 2 * int(np.prod(manifest.store_shape[1:]))
    gained = 0.0
    for means in (records.mean, records.mean_next):
        if means is not None and stands_for != 1:
            pairs = means.count[means.count > 0].astype(np.float64)
            grown = _grown(manifest.estimator, pairs, stands_for)
            is_sparse = (grown <= manifest.shards.max_support) & (8 * grown < dense)
            gained += float((np.where(is_sparse, 8 * grown, dense) - 8 * pairs).sum())
    return gained / len(records)


def _grown(settings: EstimatorSettings, pairs: np.ndarray, stands_for: float) -> np.ndarray:
    """Pairs that means with `pairs` over the sample have over the planned data set."""
    if not traits_of(settings.name).support_is_drawn:
        return 1 + (pairs - 1) * stands_for
    # n draws from e members of equal weight hit e (1 - exp(-n / e)) of them
    n, pairs = settings.n, np.minimum(pairs, settings.n - 0.5)
    members = pairs
    for _ in range(100):
        members = pairs / -np.expm1(-n / members)
    members = 1 + (members - 1) * stands_for
    return members * -np.expm1(-n / members)
