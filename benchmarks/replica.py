"""Records per second of one replica, the part of an actor that is not Ray: noise, estimates, packing, encoding, hashes.

    python benchmarks/replica.py --images 1281167 --device cuda          # synthetic images of 64 x 64
    python benchmarks/replica.py --data STORE --device cuda --conditional --records-per-shard 16384

Shards are made by one thread, then by several at a time, as an actor's are. The self-join is computed on the device
first, and its time is printed. With --check, some means are compared with float64. Needs the core's dependencies.
"""

import argparse
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from gpu import synthetic_store

from postmean.contract.commit import FileDigest
from postmean.contract.image_store import ImageStore
from postmean.contract.manifest import Manifest
from postmean.contract.plan import Plan, uncertified
from postmean.contract.presets import PRESETS
from postmean.contract.tuples import TupleBlock
from postmean.engine.process_setup import prepare_process
from postmean.estimators.float64 import exact_mean
from postmean.estimators.replica import Replica
from postmean.fleet.settings import ActorSettings
from postmean.neighbours.certificate import certified_sigma
from postmean.neighbours.self_join import self_join
from postmean.runs.config import JobConfig
from postmean.runs.job import resolve
from postmean.shards.codecs import codec
from postmean.shards.run_reader import layout_of

# late in iCT's curriculum: step 300 000, at the finest grid but one
RUNS = {"edm": ("edm-cifar10", 0), "ict": ("ict-imagenet64", 300_000 * 4096)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="image store; default synthetic images")
    parser.add_argument("--images", type=int, default=50_000, help="synthetic images of 64 x 64")
    parser.add_argument("--noise", nargs="+", choices=RUNS, default=list(RUNS), help="ict makes Heun pairs")
    parser.add_argument("--flips", action="store_true")
    parser.add_argument("--conditional", action="store_true")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--at-a-time", type=int, nargs="+", default=[1, 2, 3], help="shards made side by side")
    parser.add_argument("--records-per-shard", type=int, default=2048)
    parser.add_argument("--shards", type=int, default=9, help="measured, after one that is not")
    parser.add_argument("--check", type=int, default=0, help="means to compare with float64")
    options = parser.parse_args()
    prepare_process(options.threads)
    store = ImageStore.open(options.data) if options.data else synthetic_store(options.images, options.device)
    began = time.perf_counter()
    join = self_join(store, options.flips, options.conditional, device=options.device)
    print(f"{len(store):,} x {store.dim:,} on {options.device}: self-join in {time.perf_counter() - began:.1f} s")
    if options.device == "cuda":
        torch.cuda.empty_cache()
    certified = certified_sigma(join, 1e-6, store.dim)
    for noise in options.noise:
        measure(store, certified, noise, options)


def measure(store: ImageStore, certified: np.ndarray, noise: str, options: argparse.Namespace) -> None:
    preset, first = RUNS[noise]
    recipe = replace(PRESETS[preset].recipe, flips=options.flips, conditional=options.conditional)
    actor = ActorSettings(threads_per_actor=options.threads, device=options.device)
    manifest = resolve(JobConfig(store=store.path, tuples=1 << 40, recipe=recipe, actor=actor), store)
    replica = Replica(manifest, store, certified)
    size = options.records_per_shard
    records, share = some_records(manifest, certified, first, size * (options.shards + 1))
    shards = [records.select(np.arange(a, b)) for a, b in pairwise(range(0, len(records) + 1, size))]
    make(manifest, replica, shards[0])
    rates = []
    for count in options.at_a_time:
        with ThreadPoolExecutor(count) as pool:
            began = time.perf_counter()
            size_of_all = sum(pool.map(lambda shard: make(manifest, replica, shard), shards[1:]))
            taken = time.perf_counter() - began
        rates.append(f"{size * options.shards / taken:,.0f} ({count} at a time)")
    kind = f"{noise}{' flips' * options.flips}{' conditional' * options.conditional}"
    print(
        f"{kind}, {size:,} a shard: {share:.2%} searched, "
        f"{size_of_all / size / options.shards:,.0f} bytes a record; records/s {', '.join(rates)}"
    )
    if options.check:
        rows = np.linspace(0, size - 1, options.check).astype(int)
        print(f"  mean squared error to float64: {error(manifest, replica, store, shards[1].select(rows)):.1e}")


def some_records(manifest: Manifest, certified: np.ndarray, first: int, count: int) -> tuple[TupleBlock, float]:
    """The first `count` uncertified tuples from `first` on, and their share of all tuples."""
    source, parts, seen = manifest.tuple_source(), [], 0
    while sum(map(len, parts)) < count:
        block = source.block(first + seen, first + seen + 400_000)
        parts.append(block.select(uncertified(source, block, certified)))
        seen += 400_000
    joined = [
        None if getattr(parts[0], name) is None else np.concatenate([getattr(part, name) for part in parts])
        for name in ("tuple_id", "entry", "sigma", "sigma_next")
    ]
    block = TupleBlock(*joined)  # pyright: ignore[reportArgumentType]
    return block.select(np.arange(count)), len(block) / seen


def make(manifest: Manifest, replica: Replica, block: TupleBlock) -> int:
    """Estimate, pack, encode and hash one shard; its bytes."""
    records = replica.estimate(block)
    plan = Plan(block.tuple_id[:1], block.tuple_id[-1:], np.array([len(block)]))
    files = codec(manifest.shards.format).encode(records, plan[0], layout_of(manifest, plan))
    return sum(FileDigest.of(path, data).size for path, data in files.items())


def error(manifest: Manifest, replica: Replica, store: ImageStore, block: TupleBlock) -> float:
    """Mean squared error per value of the stored means."""
    mean = replica.estimate(block).mean.decode(store).reshape(len(block), store.dim)
    z, entries = replica.noisy(block), np.arange(manifest.tuple_source().entries)
    sigma, label, labels = block.sigma.astype(np.float64), store.label(block.entry), store.label(entries)
    if not manifest.recipe.conditional or label is None:
        return float(np.square(mean - exact_mean(store, entries, z, sigma)).mean())
    exact = [exact_mean(store, entries[labels == c], z[i : i + 1], sigma[i : i + 1]) for i, c in enumerate(label)]
    return float(np.square(mean - np.concatenate(exact)).mean())


if __name__ == "__main__":
    main()
