"""Workload of a run: its number of records, for the store itself or for a larger data set it samples.

If the store is a sample of n out of N images, F = N / n. If the posterior is over one class, F is the ratio of images
per class, N / C to n / c. The run over the whole data set is planned on the sample with one assumption: the images left
out are like those at hand. Every sum over a population then has F times as many terms of the same distribution, so

- the certificate's sum is F times as large: an image's certified sigma is that of a tolerance F times smaller;
- a member at hand stands for F members (`SampledPopulation`), which decides about candidates, supports and groups.
"""

import math
import time
from dataclasses import dataclass, replace

import numpy as np

from postmean.base.errors import ConfigError
from postmean.base.progress import NoProgress, ShowProgress
from postmean.contract.image_blocks import ImageBlocks
from postmean.contract.image_store import ImageStore
from postmean.contract.manifest import Manifest
from postmean.contract.plan import uncertified
from postmean.contract.tuples import TupleBlock
from postmean.estimators.traits import traits_of
from postmean.neighbours.certificate import certified_sigma
from postmean.neighbours.self_join import SelfJoin
from postmean.planning.config import SampleSettings
from postmean.runs.config import JobConfig
from postmean.runs.job import Job, check_index, resolve

_COUNTED = 1 << 22  # most tuples to look at: a few seconds
_SPANS = 256  # ranges of tuples, evenly spread over the run because a curriculum makes its parts differ
_KEPT = 1 << 14  # most records kept to measure on


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A run on a store, or on a data set that the store is a sample of."""

    manifest: Manifest
    """For the store at hand."""
    store: ImageStore
    certified_sigma: np.ndarray | None
    """float32 [n], those of the store's images within the planned data set"""
    images: int
    """N, of the planned data set"""
    classes: int
    """C, of the planned data set"""
    stands_for: float
    """F: members of a population of the planned data set per member at hand"""
    records: int
    records_error: float
    """Relative standard error of the number of records, 0 if all tuples were counted."""
    shards: int
    certificate_seconds: float
    """To compute the certificate of the planned data set, as generate does first; 0 if it was computed before."""
    sample: TupleBlock
    """Records of a run on the store at hand, spread evenly over their noise levels; at most 16 384"""

    def thinned(self, share: int) -> "Workload":
        """The same run planned on a random 1 / share of the store's images."""
        count = max(2, len(self.store) // share)
        rows = np.sort(np.random.Generator(np.random.Philox(key=0)).permutation(len(self.store))[:count])
        store = self.store
        header = replace(store.header, shape=(count, *store.image_shape))
        labels = None if store.labels is None else store.labels[rows]
        small = replace(store, header=header, blocks=ImageBlocks(store.pixels(rows)), labels=labels)
        certified = None if self.certified_sigma is None else self.certified_sigma[rows]
        manifest = replace(self.manifest, store_shape=header.shape)
        _, _, sample = _count(manifest, certified, _COUNTED // 4)
        stands_for = self.stands_for * len(self.store) / count
        return replace(
            self, manifest=manifest, store=small, certified_sigma=certified, stands_for=stands_for, sample=sample
        )


def of_job(job: Job) -> Workload:
    """The workload of a prepared job, exact: from its plan."""
    _, _, sample = _count(job.manifest, job.certified_sigma)
    return Workload(
        manifest=job.manifest,
        store=job.store,
        certified_sigma=job.certified_sigma,
        images=len(job.store),
        classes=job.store.classes,
        stands_for=1.0,
        records=job.plan.total_records,
        records_error=0.0,
        shards=len(job.plan),
        certificate_seconds=0.0,
        sample=sample,
    )


def workload(
    config: JobConfig, sample_of: SampleSettings | None = None, progress: ShowProgress = NoProgress
) -> Workload:
    """The workload of these settings, without a plan.

    Args:
        sample_of: the data set, if the store is a sample of it.
        progress: shows what is fetched of a store at a URL.
    Raises:
        ConfigError: the data set is not the store itself, and the estimator searches a FAISS index.
    """
    store = ImageStore.open(config.store, progress)
    manifest = resolve(config, store)
    check_index(manifest, store)
    sample_of = sample_of or SampleSettings()
    images, classes = sample_of.images or len(store), sample_of.classes or store.classes
    growth = images / len(store)
    if manifest.recipe.conditional:
        growth *= store.classes / classes
    if growth != 1:
        refuse_index(manifest, f"--images {images:,}")
    began, certified = time.perf_counter(), None
    if manifest.estimator.certificate:
        join = SelfJoin.load(store, manifest.recipe.flips, manifest.recipe.conditional)
        certified = certified_sigma(join, manifest.estimator.tolerance / growth, store.dim)
    seconds = time.perf_counter() - began
    records, error, sample = _count(manifest, certified)
    return Workload(
        manifest=manifest,
        store=store,
        certified_sigma=certified,
        images=images,
        classes=classes,
        stands_for=growth,
        records=records,
        records_error=error,
        shards=-(-records // manifest.shards.records_per_shard),
        certificate_seconds=seconds * images / len(store),
        sample=sample,
    )


def refuse_index(manifest: Manifest, flag: str) -> None:
    """Raise ConfigError if the estimator searches a FAISS index, because that holds only the images at hand."""
    searched = manifest.estimator
    if traits_of(searched.name).searches and searched.index != "exact":
        raise ConfigError(f"{flag}: the cost of --index {searched.index} is not extrapolated: plan with --index exact")


def _count(
    manifest: Manifest, certified_sigma: np.ndarray | None, counted: int = _COUNTED
) -> tuple[int, float, TupleBlock]:
    """(records, relative standard error of their number, a sample of them)."""
    source, tuples = manifest.tuple_source(), manifest.tuples
    certified = manifest.plan_certificate(certified_sigma)
    width = counted // _SPANS
    if tuples <= counted:
        firsts = np.arange(0, tuples, width)
    else:
        firsts = np.linspace(0, tuples - width, _SPANS).astype(np.int64)
    parts: list[TupleBlock] = []
    looked_at = 0
    for first in firsts.tolist():
        block = source.block(first, min(first + width, tuples))
        looked_at += len(block)
        parts.append(block.select(uncertified(source, block, certified)))
    every = _concatenate(parts)
    records, sample = len(every), spread(every, _KEPT)
    if looked_at == tuples:
        return records, 0.0, sample
    share = records / looked_at
    return round(share * tuples), math.sqrt((1 - share) / max(1, records)), sample


def spread(block: TupleBlock, count: int) -> TupleBlock:
    """At most `count` tuples of the block, evenly spread over its noise levels, which decide a record's cost."""
    order = np.argsort(block.sigma, kind="stable")
    count = min(count, len(block))
    return block.select(np.sort(order[(np.arange(count) * len(block) + len(block) // 2) // max(1, count)]))


def _concatenate(blocks: list[TupleBlock]) -> TupleBlock:
    nexts = [b.sigma_next for b in blocks if b.sigma_next is not None]
    return TupleBlock(
        np.concatenate([b.tuple_id for b in blocks]),
        np.concatenate([b.entry for b in blocks]),
        np.concatenate([b.sigma for b in blocks]),
        np.concatenate(nexts) if nexts else None,
    )
