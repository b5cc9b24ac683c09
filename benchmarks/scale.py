"""How cost grows with the number of images N: time and memory of each step at several N, and the fitted exponents.

    python benchmarks/scale.py --images 50000 100000 200000 400000 --json scale.json
    python benchmarks/scale.py --images 12500 25000 50000 --side 64 --steps store index-rows query

The images are synthetic, with the power spectrum of photographs, in batches shaped as those of downsampled ImageNet.
Every step is a process of one thread, and its seconds are CPU time, which other work disturbs less than wall time.

    import      postmean import of the batches
    store       the same images written into a store by this script: for the steps that need no import
    index-rows  the self-join of 1024 images (128 of 64x64) with all others, in units as `postmean index` makes them:
                the index is that for every image, so it grows by one power more
    plan        the certificate of all images (with the distances of index-rows) and the plan of --tuples tuples
    set-up      what an actor does before its first shard
    query       a record: what an actor does for each of --records records, with the exact sum over all images
    verify      hash, compare and recompute the run: 32 records and as many certified tuples
    train       open the run and take the first batch

Of two cores that were busy with other work, N = 50 000 takes some two minutes, and 400 000 some ten (3x16x16).
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np

STEPS = ("import", "store", "index-rows", "plan", "set-up", "query", "verify", "train")
ROWS = {16: 1024, 64: 128}
"""Images of index-rows by side."""
_BLOCK = 1000
_SHARD = 128


def main() -> None:
    """Print the table, or run one step of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[50_000, 100_000, 200_000, 400_000])
    parser.add_argument("--side", type=int, choices=tuple(ROWS), default=16)
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=[step for step in STEPS if step != "store"])
    parser.add_argument("--tuples", type=int, default=2_000_000, help="of the plan")
    parser.add_argument("--records", type=int, default=512, help="made of it; a multiple of 128")
    parser.add_argument("--folder", type=Path, help="for the stores, which stay there; default a temporary one")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--step", choices=(*STEPS, ""), default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        run_step(options)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        results = [
            {"images": images, "step": step} | measure(options, folder, images, step)
            for images in options.images
            for step in options.steps
        ]
    print_table(results, options.images)
    if options.json:
        options.json.write_text(json.dumps({"arguments": sys.argv[1:], "results": results}, indent=1) + "\n")


def measure(options: argparse.Namespace, folder: Path, images: int, step: str) -> dict[str, float]:
    """Run a step in its own process; its seconds and peak bytes."""
    about = [f"--images={images}", f"--side={options.side}", f"--tuples={options.tuples}"]
    command = [sys.executable, __file__, *about, f"--records={options.records}", f"--folder={folder}"]
    began = time.monotonic()
    done = subprocess.run([*command, f"--step={step}"], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    took: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    wall = time.monotonic() - began
    print(f"{images:>9,} {step:<10} {took['seconds']:9.2f} s {wall:7.0f} s in all", file=sys.stderr, flush=True)
    return took


def print_table(results: list[dict[str, Any]], sizes: list[int]) -> None:
    """Markdown: seconds by N with their exponent, and peak memory with its growth an image."""
    print("| step | " + " | ".join(f"{n:,}" for n in sizes) + " | exponent | peak memory | bytes an image |")
    print("|---|" + "---|" * (len(sizes) + 3))
    for step in dict.fromkeys(result["step"] for result in results):
        rows = [result for result in results if result["step"] == step]
        n, seconds, peak = (np.array([row[key] for row in rows], float) for key in ("images", "seconds", "bytes"))
        exponent = growth = "–"
        if len(rows) > 1:
            exponent = f"{np.polyfit(np.log(n), np.log(seconds), 1)[0]:.2f}"
            growth = f"{np.polyfit(n, peak, 1)[0]:,.0f}"
        times = " | ".join(f"{s:.3g} s" for s in seconds)
        print(f"| {step} | {times} | {exponent} | {peak.max() / 1e6:,.0f} MB | {growth} |")


def run_step(options: argparse.Namespace) -> None:
    """Run a step in this process and print what it took as JSON."""
    images, folder = options.images[0], options.folder / f"{options.side}-{options.images[0]}"
    folder.mkdir(parents=True, exist_ok=True)
    work = Work(folder, images, options.side, options.tuples, options.records)
    step: Callable[[], Callable[[], object]] = getattr(work, options.step.replace("-", "_") + "_")
    ready = step()  # everything that is not to be timed
    began = time.process_time()
    ready()
    seconds = time.process_time() - began
    if options.step == "query":
        seconds /= options.records
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "bytes": peak}))


class Work:
    """The steps at one N: each method prepares a step and returns what is timed."""

    def __init__(self, folder: Path, images: int, side: int, tuples: int, records: int) -> None:
        self.folder, self.images, self.side, self.records = folder, images, side, records
        self.store, self.out = folder / "images.store", folder / "targets"
        self.config = GenerateConfig.preset(
            "edm2", store=self.store, out=str(self.out), tuples=tuples, records_per_shard=_SHARD, device="cpu"
        )

    def import_(self) -> Callable[[], object]:
        """Ten batches, written before the clock starts."""
        source = self.folder / "batches"
        shutil.rmtree(source, ignore_errors=True)
        shutil.rmtree(self.store, ignore_errors=True)
        source.mkdir()
        bounds = np.linspace(0, self.images, 11).astype(int)
        for number, (start, stop) in enumerate(pairwise(bounds.tolist()), start=1):
            rows = np.arange(start, stop)
            data = synthetic(rows, self.side).reshape(len(rows), -1)
            np.savez(source / f"train_data_batch_{number}.npz", data=data, labels=rows % 1000 + 1)
        config = ImportConfig(source=source, store=self.store, workers=1)
        return lambda: (import_images(config, progress=False), shutil.rmtree(source))

    def store_(self) -> Callable[[], object]:
        """The store, by its writer."""
        shutil.rmtree(self.store, ignore_errors=True)

        def write() -> None:
            with StoreWriter(self.store, None, {"importer": "benchmark"}) as writer:
                for start in range(0, self.images, _BLOCK):
                    writer.append(synthetic(np.arange(start, min(start + _BLOCK, self.images)), self.side), None)
                writer.finish()

        return write

    def index_rows_(self) -> Callable[[], object]:
        """Distances of the first images to all others; all images then get a self-join from them."""
        store = ImageStore.open(self.store)
        population, rows = Population(store, False, exact_products=True), range(ROWS[self.side])

        def join() -> None:
            near, block = Nearest(len(rows), 64, "cpu"), default_block(len(store))
            for start in range(len(rows), len(store), block):
                others = range(start, min(start + block, len(store)))
                BlockJoin(population, (rows, near), (others, Nearest(len(others), 64, "cpu"))).run()
            distance2, counts = near.distance2.numpy(), near.counts.numpy()
            table, at = tabulate(counts, distance2[:, -1]), np.arange(len(store)) % len(rows)
            header = SelfJoinHeader(
                store_fingerprint=store.header.fingerprint, flips=False, conditional=False, nearest=64
            )
            SelfJoin(header, distance2[at], np.full(len(store), len(store) - 1), table[at]).save(store)

        return join

    def plan_(self) -> Callable[[], object]:
        """Certificate and plan."""
        return lambda: prepare(self.config, None)

    def set_up_(self) -> Callable[[], object]:
        """A replica that makes one record: what it keeps a member is made then."""
        job = prepare(self.config, None)

        def make() -> None:
            replica = Replica(job.manifest, job.store, job.certified_sigma)
            replica.estimate(shard_tuples(job.manifest.tuple_source(), job.plan[0], job.certified_sigma).select(_ONE))

        return make

    def query_(self) -> Callable[[], object]:
        """The first shards of a run, which verify and train read; the exact sum over all images for every record."""
        shutil.rmtree(self.out, ignore_errors=True)
        shards = self.records // _SHARD
        tuples = int(prepare(self.config, None).plan.last_tuple[shards - 1]) + 1
        settings = replace(self.config, tuples=tuples, estimator=replace(self.config.estimator, name="exact"))
        run = RunFolder(open_storage(str(self.out)))
        job = prepare(settings, run)
        job.begin(run)
        replica = Replica(job.manifest, job.store, job.certified_sigma)
        replica.records(job.plan[0])
        return lambda: [run.commit_shard(job.plan[k], replica.records(job.plan[k])) for k in range(shards)]

    def verify_(self) -> Callable[[], object]:
        """The run of `query`."""
        config = VerifyConfig(out=str(self.out), store=self.store, records=32, threads=1)
        return lambda: check(not verify(config, progress=False).damaged)

    def train_(self) -> Callable[[], object]:
        """The run of `query`."""
        return lambda: next(iter(TargetStream.open(self.out, self.store, batch_size=64)))


def synthetic(rows: np.ndarray, side: int) -> np.ndarray:
    """Images of these numbers, uint8 [n, 3, side, side]: waves whose amplitude falls as 1/f, as in photographs."""
    frequency = np.fft.fftfreq(side)[:, None] ** 2 + np.fft.rfftfreq(side)[None] ** 2
    amplitude = 1 / np.sqrt(frequency + 1 / side**2)
    parts = []
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        rng = np.random.Generator(np.random.Philox(key=int(block[0])))
        noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((len(block), 3, side, side), np.float32)) * amplitude)
        noise = noise + noise.mean(1, keepdims=True) * 2  # channels are alike
        parts.append(np.clip(127.5 + noise * (55 / noise.std()), 0, 255).astype(np.uint8))
    return np.concatenate(parts)


def check(holds: bool) -> None:
    """Raise unless it holds."""
    if not holds:
        raise SystemExit("the run is damaged")


_ONE = np.array([0])

if __name__ == "__main__":
    from postmean.contract.image_store import ImageStore, StoreWriter
    from postmean.contract.plan import shard_tuples
    from postmean.engine.population import Population
    from postmean.estimators.replica import Replica
    from postmean.importers.config import ImportConfig
    from postmean.importers.run import import_images
    from postmean.neighbours.block_join import BlockJoin, Nearest
    from postmean.neighbours.distance_table import tabulate
    from postmean.neighbours.join_plan import default_block
    from postmean.neighbours.self_join import SelfJoin, SelfJoinHeader
    from postmean.pipeline import GenerateConfig
    from postmean.runs.config import VerifyConfig
    from postmean.runs.job import prepare
    from postmean.runs.verify import verify
    from postmean.shards.run_folder import RunFolder
    from postmean.storage.open import open_storage
    from postmean.training import TargetStream

    main()
