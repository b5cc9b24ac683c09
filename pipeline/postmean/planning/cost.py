"""The cost of a run before it runs, here or on a named fleet: its records times the measured cost of a record."""

from dataclasses import dataclass
from typing import Literal

from postmean.base.cores import usable_cores
from postmean.engine.process_setup import threads
from postmean.fleet.settings import FleetSettings
from postmean.planning.index_cost import index_cost
from postmean.planning.machines import NETWORK_SHARE, Machines
from postmean.planning.measure import Measured, measure, product_seconds, queries_at_once
from postmean.planning.workload import Workload, refuse_index
from postmean.runs.memory import memory

_CHECKED_BYTES_PER_SECOND = 1e9  # a process compares the images with their hashes once, on one core
_START_SECONDS = 25.0  # imports, Ray, the first actors' imports, shutdown: 12 s to 37 s here
_PLAN_SECONDS = 0.35e-6  # core seconds per tuple, here (benchmarks/planning.py)


@dataclass(frozen=True, kw_only=True)
class CostPlan:
    """What a run costs."""

    tuples: int
    images: int
    sample_images: int
    """Images in the measured store; not `images` if the cost is extrapolated from a sample."""
    records: int
    records_error: float
    """Relative standard error of `records`, 0 if all tuples were counted."""
    shards: int
    certified_share: float
    """Share of the tuples that the trainer makes itself, without search or storage."""
    fleet: str
    nodes: int
    gpus: int
    actors: int
    rate_is: Literal["measured", "estimated", "given"]
    """Measured here for this machine, estimated for another from measurements here, or given by the user."""
    records_per_second_per_actor: float
    seconds: float
    """The whole run: planning, loading, estimating."""
    plan_seconds: float
    load_seconds: float
    gpu_hours: float
    """All GPUs for the whole run, busy or not; 0 without GPUs."""
    core_hours: float
    """Likewise for the CPU threads of all actors."""
    index_gpu_hours: float
    """Of `postmean index` before the run, for the self-join, which the certificate needs; 0 without GPUs."""
    index_core_hours: float
    """Likewise on CPUs; 0 with GPUs."""
    money: float | None
    """Nodes times hours times the price of a node-hour; None without a price."""
    bytes_per_record: float
    bytes: int
    bytes_per_tuple: float
    replica_bytes: int
    """Read by each node from shared storage: the image store, the certificate and the index."""
    network_bytes: int
    """Replicas, shards written, and shards read once by a trainer; 0 for this machine."""
    shared_memory_bytes: int
    """The image store and the index, mapped once per machine."""
    memory_bytes_per_actor: int
    """Besides what is shared: interpreter and shards; without a GPU also workspace and columns, with one that is too
    small for the images a copy of them."""
    device_bytes_per_actor: int
    """GPU memory per actor, 0 without GPUs."""
    fits: bool
    """Whether the GPU and host memory of the fleet's machines suffice; true if they are not known."""


def estimate_cost(
    work: Workload,
    actors: int,
    machines: Machines | None = None,
    price: float | None = None,
    records_per_second: float | None = None,
) -> CostPlan:
    """Measure a sample of the workload's records in this process and extrapolate.

    Args:
        actors: number of all actors. machines: None is this machine. price: of a node-hour.
        records_per_second: of one actor of the fleet, measured there; None: measured here, and for other machines
            estimated from that.
    """
    manifest, threads_per_actor = work.manifest, work.manifest.threads_per_actor
    # only to extrapolate the time to other machines or more images
    split = records_per_second is None and (machines is not None or work.stands_for != 1)
    if machines is not None and split:
        refuse_index(manifest, f"--fleet {machines.name}")
    with threads(threads_per_actor):
        measured = measure(work, split) if work.records else _NOTHING
        seconds_per_record = measured.seconds
        if machines is not None and work.records and records_per_second is None:
            queries = queries_at_once(work, bool(machines.node.gpus))
            there = machines.product_seconds(threads_per_actor, work.store.dim, queries)
            growing = measured.growing_seconds * there / product_seconds(work, queries)
            if machines.node.gpus:  # several shards at a time: the rest is done meanwhile
                at_a_time = FleetSettings().at_a_time("cuda")
                seconds_per_record = max(growing, measured.fixed_seconds / at_a_time)
            else:
                seconds_per_record = measured.fixed_seconds + growing
    index = index_cost(work, machines)
    if records_per_second is not None and work.records:
        seconds_per_record = 1 / records_per_second
    nodes = machines.nodes if machines else 1
    on_gpu = bool(machines.node.gpus) if machines else manifest.device == "cuda"
    gpus = actors if on_gpu else 0
    device_bytes, queries = machines.node.device_bytes if machines else 0, queries_at_once(work, on_gpu)
    needed = memory(manifest, work.images, work.classes, queries, on_gpu, device_bytes)
    plan_seconds = manifest.tuples * _PLAN_SECONDS / usable_cores() + work.certificate_seconds
    load_seconds = _START_SECONDS + measured.setup_seconds if work.records else 0.0
    if machines and machines.node.gpus and work.records:  # a GPU computes norms and coordinates in a second
        load_seconds = _START_SECONDS + needed.replica / _CHECKED_BYTES_PER_SECOND
    if machines and work.records:
        load_seconds += 8 * needed.replica / (machines.node.network_bits_per_second * NETWORK_SHARE)
    # the actor with most shards decides
    busiest = min(work.records, -(-work.shards // actors) * manifest.shards.records_per_shard)
    seconds = plan_seconds + load_seconds + busiest * seconds_per_record
    size = round(measured.bytes * work.records)
    on_node = needed.shared + -(-actors // nodes) * needed.actor
    fits = machines is None or (
        on_node <= machines.node.host_bytes and needed.device <= (machines.node.device_bytes or needed.device)
    )
    return CostPlan(
        tuples=manifest.tuples,
        images=work.images,
        sample_images=len(work.store),
        records=work.records,
        records_error=work.records_error,
        shards=work.shards,
        certified_share=1 - work.records / manifest.tuples,
        fleet=machines.name if machines else "here",
        nodes=nodes,
        gpus=gpus,
        actors=actors,
        rate_is="given" if records_per_second is not None else "estimated" if machines else "measured",
        records_per_second_per_actor=1 / seconds_per_record if work.records else 0.0,
        seconds=seconds,
        plan_seconds=plan_seconds,
        load_seconds=load_seconds,
        gpu_hours=gpus * seconds / 3600,
        core_hours=actors * threads_per_actor * seconds / 3600,
        index_gpu_hours=index.gpu_hours,
        index_core_hours=index.core_hours,
        money=None if price is None else price * nodes * seconds / 3600,
        bytes_per_record=measured.bytes,
        bytes=size,
        bytes_per_tuple=size / manifest.tuples,
        replica_bytes=needed.replica,
        network_bytes=nodes * needed.replica + 2 * size if machines else 0,
        shared_memory_bytes=needed.shared,
        memory_bytes_per_actor=needed.actor,
        device_bytes_per_actor=needed.device,
        fits=fits,
    )


_NOTHING = Measured(fixed_seconds=0.0, growing_seconds=0.0, setup_seconds=0.0, bytes=0.0)
