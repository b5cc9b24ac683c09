"""Small runs for the trainer's tests: exact brute-force float64 posterior means, written through RunFolder."""

import dataclasses
from pathlib import Path

import numpy as np

from postmean.contract.image_store import ImageStore, to_unit
from postmean.contract.manifest import Manifest
from postmean.contract.plan import make_plan, shard_tuples
from postmean.contract.records import Records, pack_means
from postmean.contract.tuples import TupleSource
from postmean.shards.run_folder import RunFolder
from postmean.storage.open import open_storage
from tests.support.settings import manifest as imagined


def entries_of(store: ImageStore, flips: bool) -> np.ndarray:
    """All entries of the data set in [-1, 1], float64 [entries, D]."""
    count = len(store) * (2 if flips else 1)
    return to_unit(store.pixels(np.arange(count))).reshape(count, -1).astype(np.float64)


def posterior_mean(
    z: np.ndarray, sigma: np.ndarray, x: np.ndarray, same: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """E[x | z, sigma] by the full sum in float64.

    Args:
        z: [n, D].
        x: [entries, D].
        same: bool [n, entries]: which entries count for each z; None for all.
    Returns:
        means [n, D] and weights [n, entries].
    """
    squared = np.stack([((row - x) ** 2).sum(1) for row in z.astype(np.float64)])
    log_weight = -squared / (2 * sigma.astype(np.float64)[:, None] ** 2)
    if same is not None:
        log_weight[~same] = -np.inf
    weight = np.exp(log_weight - log_weight.max(1, keepdims=True))
    weight /= weight.sum(1, keepdims=True)
    return weight @ x, weight


def exact_targets(store: ImageStore, manifest: Manifest, source: TupleSource, start: int, stop: int) -> dict:
    """z, sigma, mean (and mean_next at the Euler point) of tuples start .. stop - 1 in float64, flat."""
    x = entries_of(store, source.flips)
    block = source.block(start, stop)
    z = x[block.entry] + block.sigma[:, None].astype(np.float64) * source.eps(block.tuple_id, store.dim)
    same = None
    if manifest.recipe.conditional:
        labels = store.label(np.arange(source.entries))
        same = labels[None] == labels[block.entry][:, None]
    mean, weight = posterior_mean(z, block.sigma, x, same)
    found = {"block": block, "x": x[block.entry], "z": z, "mean": mean, "weight": weight}
    if manifest.recipe.solver == "heun":
        ratio = (block.sigma_next / block.sigma)[:, None].astype(np.float64)
        z_next = mean + ratio * (z - mean)
        found["mean_next"], found["weight_next"] = posterior_mean(z_next, np.maximum(block.sigma_next, 1e-6), x, same)
    return found


def make_run(
    path: Path,
    store: ImageStore,
    tuples: int,
    certified_sigma: np.ndarray | None = None,
    records_per_shard: int = 64,
    max_support: int = 16,
    commit: bool = True,
    **settings: object,
) -> Manifest:
    """A run of exact targets, as `postmean generate` would leave it. Settings override the manifest's fields."""
    defaults = {
        "store_fingerprint": store.header.fingerprint,
        "store_shape": store.header.shape,
        "classes": store.classes,
        "seed": 7,
        "tuples": tuples,
        "certificate": certified_sigma is not None,
        "records_per_shard": records_per_shard,
        "max_support": max_support,
        "tuple_fingerprint": "",
    }
    manifest = imagined(**defaults | settings)
    source = manifest.tuple_source()
    if not manifest.tuple_fingerprint:
        manifest = dataclasses.replace(manifest, tuple_fingerprint=source.fingerprint())
    run = RunFolder(open_storage(str(path)))
    plan = make_plan(source, tuples, certified_sigma, records_per_shard)
    run.begin(manifest, plan, certified_sigma)
    for shard in range(len(plan) if commit else 0):
        commit_exact_shard(run, store, manifest, shard, certified_sigma)
    return manifest


def commit_exact_shard(
    run: RunFolder, store: ImageStore, manifest: Manifest, shard: int, certified_sigma: np.ndarray | None
) -> None:
    """Compute and write one shard."""
    source, row = manifest.tuple_source(), run.read_plan()[shard]
    block = shard_tuples(source, row, certified_sigma)
    exact = exact_targets(store, manifest, source, row.first_tuple, row.last_tuple + 1)
    rows = block.tuple_id - row.first_tuple
    weight = exact["weight"][rows]

    def pack(mean: np.ndarray, weights: np.ndarray):
        support = [(np.flatnonzero(w > 1e-12), w[w > 1e-12]) for w in weights]
        return pack_means(mean.reshape(-1, *store.image_shape).astype(np.float32), support, manifest.shards.max_support)

    heun = manifest.recipe.solver == "heun"
    x = entries_of(store, source.flips)
    variance = (weight @ np.square(x) - np.square(exact["mean"][rows])).mean(1)
    run.commit_shard(
        row,
        Records(
            tuple_id=block.tuple_id,
            sigma=block.sigma,
            sigma_next=block.sigma_next,
            label=store.label(block.entry),
            mean=pack(exact["mean"][rows], weight),
            mean_next=pack(exact["mean_next"][rows], exact["weight_next"][rows]) if heun else None,
            ess=np.maximum(1 / (weight**2).sum(1), 1).astype(np.float32),
            top_weight=np.minimum(weight.max(1), 1).astype(np.float32),
            variance=np.maximum(variance, 0).astype(np.float32),
            tail_mass=np.zeros(len(block), np.float32),
            support_size=np.full(len(block), source.entries, np.int32),
        ),
    )
