"""What it costs to recompute sampled records: time per image and query, and what follows for a larger data set.

    python benchmarks/verify.py --images 20000 --side 64 --records 128 --full 1281167

A Heun run of random images is recomputed as `postmean verify` does it, by one thread: records, certified tuples and
Euler points, as many of each. It is timed twice: with records of every sigma, and with records of the highest sigma
alone, where every image has weight. `before` is the way of version 0.1: a pass over the images for each Euler point,
and for every 64 tuples; one pass of each kind is timed. They take turns, and medians are printed. Time is linear in the
number of images: the last column multiplies by it. It is process time, so other work disturbs it little. The last two
lines are what estimators that sample cost besides: their means are compared with those of their float64 twin.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np

from postmean.base.progress import NoProgress
from postmean.contract.image_store import ImageStore, StoreWriter
from postmean.contract.manifest import Manifest
from postmean.contract.presets import PRESETS
from postmean.contract.records import QUALITY_COLUMNS, Records, pack_means
from postmean.contract.settings import EstimatorSettings
from postmean.engine.process_setup import prepare_process
from postmean.estimators.float64_twins import TWINS, TwinPoint
from postmean.estimators.twin_test import FIRST_LOOK, StoredMean, TwinTest
from postmean.fleet.settings import ActorSettings
from postmean.runs.config import JobConfig
from postmean.runs.job import resolve
from postmean.runs.recompute import recompute
from postmean.runs.verify_sample import Sample


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--records", type=int, default=128)
    parser.add_argument("--full", type=int, default=1_281_167, help="images of the data set to extrapolate to")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    prepare_process(1)
    with tempfile.TemporaryDirectory() as folder:
        measure(random_store(Path(folder) / "store", options.images, options.side), options)


def measure(store: ImageStore, options: argparse.Namespace) -> None:
    manifest = heun_manifest(store)
    samples = {name: a_sample(manifest, store, options.records, name == "high sigma") for name in ("all", "high sigma")}
    z = np.random.default_rng(0).standard_normal((64, store.dim)).astype(np.float32) * 80
    taken: dict[str, list[float]] = {name: [] for name in ("one", "64", *samples)}
    store.check()
    for _ in range(options.rounds):
        for name, count in (("one", 1), ("64", 64)):
            taken[name].append(seconds(lambda count=count: before(store, z[:count], 80.0)))
        for name, sample in samples.items():
            taken[name].append(seconds(lambda sample=sample: recompute(sample, manifest, store, None, NoProgress)))
    twins = {name: seconds(lambda name=name: twin(store, name)) for name in TWINS}
    median = {name: statistics.median(values) for name, values in taken.items()}
    tuples = 3 * options.records
    median["before"] = options.records * median["one"] + tuples / 64 * median["64"]
    print(
        f"{options.records} records, as many certified tuples and Euler points, {store.dim} values an image, one core"
    )
    print(f"{'':<24} {'seconds here':>13} {'ns an image and tuple':>22} {f'minutes at {options.full:,}':>24}")
    for name, title in (("before", "before"), ("all", "now"), ("high sigma", "now, only highest sigma")):
        each = median[name] / len(store) / tuples * 1e9
        print(
            f"{title:<24} {median[name]:>13.1f} {each:>22,.0f} {median[name] / len(store) * options.full / 60:>24.1f}"
        )
    for name, took in twins.items():
        print(f"{name}: {took:.2f} s to compare a record of sigma 80 with {FIRST_LOOK} runs of the twin, whatever N")


def twin(store: ImageStore, name: str) -> None:
    """Compare one mean with the twin's, where nearly all draws are beyond the 2048 neighbours."""
    point = TwinPoint(
        store=store,
        entries=np.arange(len(store)),
        population_mean=np.zeros(store.dim),
        z=np.random.default_rng(0).standard_normal(store.dim) * 80,
        sigma=80.0,
        neighbours=np.arange(2048),
    )
    zeros = np.zeros(store.dim)
    TwinTest(EstimatorSettings(name=name), 0).add(
        StoredMean(point=point, mean=zeros, is_dense=True, exact=zeros, slope=zeros)
    )


def seconds(work: Callable[[], object]) -> float:
    """Process time of a call."""
    began = time.process_time()
    work()
    return time.process_time() - began


def before(store: ImageStore, z: np.ndarray, sigma: float) -> np.ndarray:
    """The exact means as version 0.1 computed them: all weights first, then their sums."""
    z, rows, parts = z.astype(np.float64), 2048, []
    for start in range(0, len(store), rows):
        x = store.pixels(np.arange(start, min(start + rows, len(store)))).reshape(-1, store.dim) / 127.5 - 1.0
        distance2 = np.square(z).sum(1)[:, None] - 2 * z @ x.T + np.square(x).sum(1)
        parts.append(-distance2 / (2 * sigma**2))
    weight = np.concatenate(parts, axis=1)
    weight = np.exp(weight - weight.max(1, keepdims=True))
    weight /= weight.sum(1, keepdims=True)
    mean = np.zeros_like(z)
    for start in range(0, len(store), rows):
        x = store.pixels(np.arange(start, min(start + rows, len(store)))).reshape(-1, store.dim) / 127.5 - 1.0
        mean += weight[:, start : start + rows] @ x
    return mean


def a_sample(manifest: Manifest, store: ImageStore, count: int, is_high: bool) -> Sample:
    """Records and certified tuples: spread over sigma, or those of the highest sigma among 64 times as many."""
    source, sample = manifest.tuple_source(), Sample(count, 1)
    block = source.block(0, 64 * count)
    order = np.argsort(block.sigma)
    rows = order[-count:] if is_high else order[:: len(order) // count][:count]
    for row in rows.tolist():
        one = block.select(np.array([row]))
        mean = pack_means(np.zeros((1, *store.image_shape), np.float32), [(one.entry, np.ones(1))], 1)
        quality = {name: np.ones(1, np.float32) for name in QUALITY_COLUMNS}
        columns = {"tuple_id": one.tuple_id, "sigma": one.sigma, "sigma_next": one.sigma_next, "label": None}
        sample.records.append((one, Records(mean=mean, mean_next=mean, **columns, **quality)))
        sample.certified.append(one)
    return sample


def heun_manifest(store: ImageStore) -> Manifest:
    """The manifest of an unconditional iCT run of `auto`."""
    actor = ActorSettings(device="cpu")
    return resolve(JobConfig(store=store.path, tuples=1 << 30, recipe=PRESETS["ict"].recipe, actor=actor), store)


def random_store(path: Path, images: int, side: int) -> ImageStore:
    """Random pixels: their values do not matter for the time, but for how many images have weight."""
    rng = np.random.default_rng(0)
    with StoreWriter(path, None, {"importer": "benchmark"}) as writer:
        for start in range(0, images, 1000):
            shape = (min(1000, images - start), 3, side, side)
            writer.append(rng.integers(0, 256, shape, dtype=np.uint8), None)
        return writer.finish()


if __name__ == "__main__":
    main()
