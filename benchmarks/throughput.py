"""Tuples per second of the estimator engine against the paper's way, and its error against float64, in one run.

    python benchmarks/throughput.py --data STORE_OR_SOURCE --noise edm|ict [--conditional] [--solver heun] --json FILE

Both run in this process on all cores, in turns; rates are medians over the rounds. Ours plans the
tuples, takes the certified ones as they are, and estimates, prunes and packs the records of the others, in shards of
2 048 as a run does. It writes none.
With --solver heun, pairs of means, at each tuple and at its Euler point, are made in turns too.
"""

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from paper_way import PaperWay

from postmean.base.cores import usable_cores
from postmean.cli import import_images
from postmean.contract.image_store import ImageStore, to_unit
from postmean.contract.manifest import Manifest
from postmean.contract.noise import ICTNoise, LogNormalNoise
from postmean.contract.noisy import noisy
from postmean.contract.plan import uncertified
from postmean.contract.recipe import TargetRecipe
from postmean.contract.settings import EstimatorSettings
from postmean.contract.tuples import TupleBlock
from postmean.engine.process_setup import prepare_process
from postmean.estimators.float64 import exact_mean
from postmean.estimators.replica import Replica
from postmean.estimators.traits import traits_of
from postmean.fleet.settings import ActorSettings
from postmean.neighbours.certificate import certified_sigma
from postmean.neighbours.self_join import SelfJoin, self_join
from postmean.runs.config import JobConfig
from postmean.runs.job import resolve

SIGMAS = (0.3, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0, 11.0, 16.0, 22.0, 32.0, 45.0, 80.0)

RATIO = 0.988
"""sigma' / sigma of the Euler steps whose error is measured, as late in iCT's curriculum."""

SHARD = 2048
"""Records: the default of `postmean generate`."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="image store, or a source that `postmean import` reads")
    parser.add_argument("--noise", choices=("edm", "ict"), required=True)
    parser.add_argument("--conditional", action="store_true", help="posterior over the tuple's class")
    parser.add_argument("--solver", choices=("euler", "heun"), default="euler", help="heun: pairs of means too")
    parser.add_argument("--estimator", default="auto")
    parser.add_argument("--no-certificate", dest="certificate", action="store_false")
    parser.add_argument("--records", type=int, default=4096, help="uncertified tuples a round of ours")
    parser.add_argument("--baseline-tuples", type=int, default=256, help="tuples a round of the paper's way")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mse-tuples", type=int, default=16, help="tuples a sigma compared with float64")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = open_data(options.data, Path(folder))
        report = measure(store, options)
    print_table(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


def open_data(data: str, folder: Path) -> ImageStore:
    """The store itself, or one imported from a source into the folder."""
    if not (Path(data) / "header.json").is_file():
        import_images.run([data, str(folder / "store"), "--channels", "rgb"])
        data = str(folder / "store")
    return ImageStore.open(data)


def replica_for(
    store: ImageStore,
    noise: str,
    estimator: str,
    join: SelfJoin | None,
    conditional: bool,
    solver: Literal["euler", "heun"] = "euler",
) -> tuple[Manifest, Replica, np.ndarray | None]:
    """Manifest, replica and certified_sigma of a run with these settings; no self-join means no certificate."""
    config = JobConfig(
        store=store.path,
        tuples=1 << 40,
        recipe=TargetRecipe(
            noise=LogNormalNoise() if noise == "edm" else ICTNoise(), solver=solver, conditional=conditional
        ),
        estimator=EstimatorSettings(name=estimator, certificate=join is not None),
        actor=ActorSettings(threads_per_actor=usable_cores()),
    )
    manifest = resolve(config, store)
    certified = certified_sigma(join, manifest.estimator.tolerance, store.dim) if join else None
    return manifest, Replica(manifest, store, certified), certified


def measure(store: ImageStore, options: argparse.Namespace) -> dict:
    prepare_process(usable_cores())
    began = time.perf_counter()
    wanted = options.certificate and traits_of(options.estimator).estimates_exact_mean
    join = self_join(store, False, options.conditional) if wanted else None
    join_seconds = time.perf_counter() - began
    manifest, replica, certified = replica_for(store, options.noise, options.estimator, join, options.conditional)
    source = manifest.tuple_source()
    # late in iCT's curriculum: step 300 000 of 400 000, at the second finest grid
    first = 300_000 * 1024 if options.noise == "ict" else 0
    share = searched_share(source, certified, first)
    tuples = enough_tuples(options.records, share)
    paper = PaperWay(to_unit(store.images).reshape(len(store), store.dim))
    ours, theirs, pairs = [], [], []
    pair_replica = None
    if options.solver == "heun":
        _, pair_replica, _ = replica_for(store, options.noise, options.estimator, join, options.conditional, "heun")
    for warmed in filter(None, (replica, pair_replica)):
        run_ours(warmed, source, certified, first, tuples, max(1, options.records // 16))
    for turn in range(options.rounds):
        theirs.append(run_paper(paper, store, source, first + turn * tuples, options.baseline_tuples))
        ours.append(run_ours(replica, source, certified, first + turn * tuples, tuples, options.records))
        if pair_replica:
            pairs.append(run_ours(pair_replica, source, certified, first + turn * tuples, tuples, options.records))
    rate, baseline = statistics.median(ours), statistics.median(theirs)
    heun = {}
    if pairs:
        heun = {"pairs_per_s": statistics.median(pairs), "pairs_over_tuples": statistics.median(pairs) / rate}
    return {
        "data": str(store.header.source.get("source", store.path)),
        "images": len(store),
        "dim": store.dim,
        "noise": options.noise,
        "conditional": options.conditional,
        "estimator": options.estimator,
        "certificate": manifest.estimator.certificate,
        "threads": manifest.threads_per_actor,
        "self_join_seconds": join_seconds,
        "baseline_tuples_per_s": baseline,
        "tuples_per_s": rate,
        "ratio": rate / baseline,
        **heun,
        "searched_share": share,
        "mse_by_sigma": errors(replica, pair_replica, paper, store, source, certified, options),
    }


def searched_share(source, certified, first: int) -> float:
    block = source.block(first, first + 400_000)
    return float(uncertified(source, block, certified).mean())


def enough_tuples(records: int, share: float) -> int:
    """Tuples that have so many records, with room for chance: a round ends with its last record."""
    return round(1.05 * records / share)


def run_ours(replica: Replica, source, certified, first: int, tuples: int, records: int) -> float:
    """Tuples per second up to the last of so many records: planned, certified, estimated and packed in shards."""
    began = time.perf_counter()
    block = source.block(first, first + tuples)
    block = block.select(np.flatnonzero(uncertified(source, block, certified))[:records])
    for start in range(0, len(block), SHARD):
        replica.estimate(block.select(np.arange(start, min(start + SHARD, len(block)))))
    return (int(block.tuple_id[-1]) + 1 - first) / (time.perf_counter() - began)


def noisy_rows(store: ImageStore, source, block: TupleBlock) -> np.ndarray:
    """z of these tuples, float32 [n, D]."""
    return noisy(source, store, block)[2].reshape(len(block), store.dim)


def run_paper(paper: PaperWay, store: ImageStore, source, first: int, tuples: int) -> float:
    began = time.perf_counter()
    block = source.block(first, first + tuples)
    paper.means(noisy_rows(store, source, block), block.sigma, np.random.default_rng(0))
    return tuples / (time.perf_counter() - began)


def errors(
    replica: Replica, pair_replica: Replica | None, paper: PaperWay, store: ImageStore, source, certified, options
) -> list[dict]:
    """Mean squared error per dimension at fixed sigmas, certified tuples included, of ours and of the paper's way."""
    blocks, exacts = at_fixed_sigmas(store, source, options.mse_tuples, options.conditional)
    rows = []
    for sigma, block, exact in zip(SIGMAS, blocks, exacts, strict=True):
        searched = float(uncertified(source, block, certified).mean())
        mean = our_means(replica, store, source, certified, block)
        row = {"sigma": sigma, "mse": mse(mean, exact), "searched": searched}
        if pair_replica:
            row["mse_next"] = error_next(pair_replica, store, source, block, options.conditional)
        if not options.conditional:
            z = noisy_rows(store, source, block)
            row["baseline_mse"] = mse(paper.means(z, block.sigma, np.random.default_rng(0)), exact)
        rows.append(row)
    return rows


def at_fixed_sigmas(store: ImageStore, source, count: int, conditional: bool) -> tuple[list[TupleBlock], list]:
    """The same `count` tuples at each of SIGMAS, and their exact means in float64."""
    first = source.block(0, count)
    blocks = [replace(first, sigma=np.full(count, sigma, np.float32), sigma_next=None) for sigma in SIGMAS]
    # all sigmas at once: converting the data set to float64 takes most of the time
    every = TupleBlock(
        *(np.tile(c, len(SIGMAS)) for c in (first.tuple_id, first.entry)), np.repeat(np.float32(SIGMAS), count), None
    )
    z = np.concatenate([noisy_rows(store, source, block) for block in blocks])
    return blocks, np.split(exact_means(store, source, every, z, conditional), len(SIGMAS))


def our_means(replica: Replica, store: ImageStore, source, certified, block: TupleBlock) -> np.ndarray:
    """Means that a trainer would get: the source image where it is certified, else the record's mean."""
    recorded = uncertified(source, block, certified)
    mean = to_unit(store.pixels(block.entry)).reshape(len(block), store.dim)
    if recorded.any():
        mean[recorded] = replica.estimate(block.select(recorded)).mean.decode(store).reshape(-1, store.dim)
    return mean


def error_next(replica: Replica, store: ImageStore, source, block: TupleBlock, conditional: bool) -> float:
    """Mean squared error per dimension of the means at Euler points, RATIO sigma, of the same tuples."""
    block = replace(block, sigma_next=block.sigma * np.float32(RATIO))
    records = replica.estimate(block)
    assert records.mean_next is not None
    mean, mean_next = (part.decode(store).reshape(len(block), -1) for part in (records.mean, records.mean_next))
    z = mean + np.float32(RATIO) * (noisy_rows(store, source, block) - mean)
    later = replace(block, sigma=block.sigma_next)
    return mse(mean_next, exact_means(store, source, later, z, conditional))


def exact_means(store: ImageStore, source, block: TupleBlock, z: np.ndarray, conditional: bool) -> np.ndarray:
    entries = np.arange(source.entries)
    if not conditional:
        return exact_mean(store, entries, z, block.sigma)
    label, labels = store.label(block.entry), store.label(entries)
    return np.concatenate(
        [exact_mean(store, entries[labels == c], z[i : i + 1], block.sigma[i : i + 1]) for i, c in enumerate(label)]
    )


def mse(mean: np.ndarray, exact: np.ndarray) -> float:
    return float(np.square(mean - exact).mean())


def print_table(report: dict) -> None:
    kind = "conditional " if report["conditional"] else ""
    print(
        f"{report['images']:,} x {report['dim']:,}, {kind}{report['noise']} noise, {report['threads']} threads: "
        f"{report['estimator']} {report['tuples_per_s']:,.0f} tuples/s, the paper's way "
        f"{report['baseline_tuples_per_s']:,.0f}/s: {report['ratio']:.1f}x; {report['searched_share']:.2%} searched"
    )
    if "pairs_per_s" in report:
        print(f"Heun: {report['pairs_per_s']:,.0f} pairs/s, {report['pairs_over_tuples']:.2f} of the tuples/s of Euler")
    columns = [name for name in ("mse", "mse_next", "baseline_mse") if name in report["mse_by_sigma"][0]]
    print(f"{'sigma':>6} {'searched':>9}", *(f"{name:>12}" for name in columns))
    for row in report["mse_by_sigma"]:
        print(f"{row['sigma']:>6g} {row['searched']:>9.0%}", *(f"{row[name]:>12.1e}" for name in columns))


if __name__ == "__main__":
    main()
