"""The cost of a job before it runs: a few of its records are estimated here, and the rest follows by proportion."""

import time
from dataclasses import dataclass, replace

import numpy as np

from pipeline.contract.plan import ShardPlan, shard_tuples
from pipeline.contract.records import Records
from pipeline.contract.tuples import TupleBlock
from pipeline.fleet.actor import prepare_process
from pipeline.fleet.job import Job
from pipeline.fleet.replica import Replica
from pipeline.neighbours.candidates import DIRECTIONS
from pipeline.shards.codec import codec
from pipeline.shards.run_folder import layout_of

_SAMPLE = 256  # records measured: a second or two at CIFAR-10's size
_RAY_SECONDS = 8.0  # start of an embedded Ray and its first actors
_INTERPRETER_BYTES = 600_000_000  # Python, torch, FAISS and Ray in an actor


@dataclass(frozen=True, kw_only=True)
class CostPlan:
    """What a run takes on this kind of machine."""

    tuples: int
    records: int
    shards: int
    certified_share: float
    """Of the tuples: made by the trainer, with no search and no storage."""
    actors: int
    records_per_second_per_actor: float
    """Measured on a sample of the run's own records."""
    seconds: float
    """Of the whole run with these actors."""
    bytes_per_record: float
    bytes: int
    bytes_per_tuple: float
    shared_memory_bytes: int
    """The image store, mapped once a machine."""
    memory_bytes_per_actor: int
    """Beyond the shared store: interpreter, workspace and one shard of records."""


def estimate_cost(job: Job, actors: int) -> CostPlan:
    """Measure a sample of the job's records in this process and extrapolate."""
    records = job.plan.total_records
    rate, record_bytes = _measure(job) if records else (0.0, 0.0)
    dim = job.store.dim
    population = job.manifest.store_shape[0] * (2 if job.manifest.flips else 1)
    searched = job.manifest.estimator
    replica = 8 * population + (0 if searched.index in ("exact", "sq8") else 4 * population * dim)
    if searched.name == "auto" and not job.manifest.conditional:
        replica += 4 * (DIRECTIONS + 2) * population
    # log-weights and their softmax, tiles, and a shard's z, mean and encoded bytes
    workspace = 2 * (256 << 20) + 6 * (16 << 20) + job.manifest.records_per_shard * dim * 14
    return CostPlan(
        tuples=job.manifest.tuples,
        records=records,
        shards=len(job.plan),
        certified_share=1 - records / job.manifest.tuples,
        actors=actors,
        records_per_second_per_actor=rate,
        seconds=_RAY_SECONDS + records / (rate * actors) if records else 0.0,
        bytes_per_record=record_bytes,
        bytes=round(record_bytes * records),
        bytes_per_tuple=record_bytes * records / job.manifest.tuples,
        shared_memory_bytes=population * dim // (2 if job.manifest.flips else 1),
        memory_bytes_per_actor=_INTERPRETER_BYTES + replica + workspace,
    )


def _measure(job: Job) -> tuple[float, float]:
    """(records a second of one actor, bytes a record), on records spread evenly over the run."""
    prepare_process(job.manifest.threads_per_actor)
    replica = Replica(job.manifest, job.store, job.certified_sigma)
    sample = _sample(job)
    replica.estimate(sample.select(np.arange(min(8, len(sample)))))  # norms, page cache, kernels
    began = time.perf_counter()
    records = replica.estimate(sample)
    seconds = time.perf_counter() - began
    return len(records) / seconds, _record_bytes(job, records)


def _record_bytes(job: Job, records: Records) -> float:
    """Bytes a record, from shards of the run's size, or one as large as the sample."""
    size = min(job.manifest.records_per_shard, len(records))
    encode, layout = codec(job.manifest.format).encode, replace(layout_of(job.manifest, job.plan), earlier_segments=())
    total = count = 0
    for start in range(0, len(records) - size + 1, size):
        part = records.slice(start, start + size)
        row = ShardPlan(0, int(part.tuple_id[0]), int(part.tuple_id[-1]), size)
        total += sum(map(len, encode(part, row, layout).values()))
        count += size
    return total / count


def _sample(job: Job) -> TupleBlock:
    source = job.manifest.tuple_source()
    certified = job.manifest.plan_certificate(job.certified_sigma)
    shards = np.unique(np.linspace(0, len(job.plan) - 1, 8).astype(int))
    each = max(1, _SAMPLE // len(shards))
    blocks = []
    for shard in shards:
        block = shard_tuples(source, job.plan[int(shard)], certified)
        blocks.append(block.select(np.linspace(0, len(block) - 1, min(each, len(block))).astype(int)))
    nexts = [b.sigma_next for b in blocks if b.sigma_next is not None]
    return TupleBlock(
        np.concatenate([b.tuple_id for b in blocks]),
        np.concatenate([b.entry for b in blocks]),
        np.concatenate([b.sigma for b in blocks]),
        np.concatenate(nexts) if nexts else None,
    )
