"""The memory that a run takes: of a node, of an actor on it, and of that actor's GPU."""

import math
from dataclasses import dataclass

import torch

from postmean.contract.manifest import Manifest
from postmean.engine import class_blocks, pixels
from postmean.engine.population import workspace_bytes
from postmean.engine.ragged import TABLE_BYTES
from postmean.estimators.by_class import WORKSPACE
from postmean.estimators.traits import traits_of
from postmean.fleet.settings import FleetSettings
from postmean.neighbours.candidates import DIRECTIONS
from postmean.neighbours.faiss_gpu import TEMPORARY
from postmean.neighbours.faiss_spec import FaissSpec
from postmean.runs.job import Job

_INTERPRETER_BYTES = 430_000_000  # Python, torch, FAISS and Ray in an actor
_SMALL_TILE = 16 << 20
_RECORD_BYTES = 28  # a value, of eps, z, x, means and encoded bytes: the most held at once


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes."""

    replica: int
    """What a node loads: the image store, the certificate and the index."""
    shared: int
    """Mapped once per machine: the image store, and the index."""
    actor: int
    """An actor besides that."""
    device: int
    """An actor's GPU; 0 without one."""


def actor_bytes(job: Job, settings: FleetSettings) -> int:
    """Memory that an actor of this job asks of its node, besides the store and the index, which all of a node share."""
    if settings.memory_per_actor is not None:
        return round(settings.memory_per_actor * 1e9)
    manifest, store = job.manifest, job.store
    queries = manifest.queries_per_pass
    if manifest.recipe.conditional:
        queries = max(1, manifest.shards.records_per_shard // store.classes)
    return memory(manifest, len(store), store.classes, queries, manifest.device == "cuda").actor


def memory(manifest: Manifest, count: int, classes: int, queries: int, on_gpu: bool, device_bytes: int = 0) -> Memory:
    """The memory of a run.

    Args:
        count: images. classes: of them.
        queries: per pass over a population.
        device_bytes: memory of a GPU, which decides how it keeps the pixels; 0 if it is not known.
    """
    dim, settings = math.prod(manifest.store_shape[1:]), manifest.estimator
    members = count * (2 if manifest.recipe.flips else 1)
    population = members // (classes if manifest.recipe.conditional else 1)
    searches = traits_of(settings.name).searches and settings.index != "exact"
    index = FaissSpec(settings.index).size(members, dim) if searches else 0
    images = population * count // members
    queries = min(queries, manifest.shards.records_per_shard)
    store = count * dim
    shard = FleetSettings().at_a_time("cuda" if on_gpu else "cpu") * manifest.shards.records_per_shard
    actor, device = _INTERPRETER_BYTES + shard * dim * _RECORD_BYTES, 0
    if on_gpu:
        need = workspace_bytes(population, images, dim, queries) + pixels.RESERVE
        need += index + TEMPORARY if searches else 0
        padding = 0
        if manifest.recipe.conditional and not manifest.recipe.flips:  # classes may share products
            need = max(need, WORKSPACE + pixels.RESERVE)
            padding = class_blocks.MULTIPLE * classes
        rows, columns = pixels.padded_size(count + padding, dim, torch.float16)
        tile = min(images, pixels.gpu_tile_rows(dim)) * columns
        left = device_bytes - need if device_bytes else float("inf")
        place, kept = pixels.place_of(rows * columns, tile, 2, left) or ("host", 6 * tile)
        device = round(need) + kept
        actor += rows * columns if place == "host" else 0
    else:
        columns = 8 * members
        if traits_of(settings.name).keeps_directions and not manifest.recipe.conditional:
            columns += 4 * (DIRECTIONS + 2) * members
        # a signed copy of a small set; log-weights, a copy of those of spread rows, a mask; tiles and their products,
        # which of a class are copies; images that are summed
        signed = store if store <= pixels.SIGNED_BYTES and not manifest.recipe.conditional else 0
        tile = max(_SMALL_TILE, min(images, pixels.cpu_tile_rows(dim)) * dim)
        tiles = (16 if manifest.recipe.conditional else 6) * tile
        actor += signed + columns + 9 * population * queries + tiles + TABLE_BYTES
        if manifest.recipe.solver == "heun":  # of Euler points: two inputs, two sums and their change
            actor += 32 * queries * dim
    return Memory(replica=store + 4 * count + index, shared=store + index, actor=round(actor), device=round(device))
