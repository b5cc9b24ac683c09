"""How much of the int8 matrix rate of this machine's CPU the full softmax reaches, on synthetic images of any size.

    python benchmarks/engine.py --images 50000 --dim 3072 --json FILE

`gpu.py` measures a GPU.

With --data, the images are those of a store. The matrix rate is measured on the product's own shapes. The engine's rate
counts 4 N D operations per query for the log-weights and 2 N D for the means, divided by the time of the whole
estimate, which includes splitting z, softmax, quality and packing. The workspace is the most memory that the population
and its estimates add to the process, sampled every few milliseconds, without the memory-mapped store.
"""

import argparse
import json
import math
import statistics
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from postmean.base.cores import usable_cores
from postmean.contract.image_store import ImageStore, StoreWriter, to_unit
from postmean.engine.population import Population
from postmean.engine.process_setup import prepare_process
from postmean.engine.products import int8_product
from postmean.estimators.estimate import Queries
from postmean.estimators.exact import Exact


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="image store; default synthetic images")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--dim", type=int, default=3072, help="3 times a square")
    parser.add_argument("--queries", type=int, help="default: those that share a pass")
    parser.add_argument("--sigma", type=float, default=16.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    prepare_process(usable_cores())
    with tempfile.TemporaryDirectory() as folder:
        report = measure(options, Path(folder) / "store")
    print(
        f"{report['images']:,} x {report['dim']:,} on the CPU: {report['queries_per_s']:,.0f} queries/s, "
        f"{report['engine_tops']:.2f} of {report['matrix_tops']:.2f} int8 TOP/s: {report['share']:.0%}; "
        f"{report['workspace_bytes'] / 1e6:,.0f} MB of workspace"
    )
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


def measure(options: argparse.Namespace, path: Path) -> dict:
    store = ImageStore.open(options.data) if options.data else synthetic_store(options, path)
    before = anonymous_bytes()
    population = Population(store, flips=False)
    options.queries = options.queries or population.queries_at_a_time
    estimator = Exact(population, rounding=2e-7)
    source = np.arange(options.queries)
    x = to_unit(store.pixels(source)).reshape(options.queries, -1)
    generator = np.random.default_rng(1)
    z = torch.from_numpy(x + options.sigma * generator.standard_normal(x.shape, dtype=np.float32))
    sigma = np.full(options.queries, options.sigma)
    queries = Queries(z, sigma, source, np.random.default_rng)
    estimator.estimate(queries.select(np.arange(2)))
    seconds, rates = [], []
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        peak = pool.submit(peak_bytes, stop)
        for _ in range(options.rounds):
            rates.append(matrix_rate(population, options.queries))
            began = time.perf_counter()
            estimator.estimate(queries)
            seconds.append(time.perf_counter() - began)
        stop.set()
    operations = 6.0 * len(store) * store.dim * options.queries
    engine, matrix = operations / statistics.median(seconds), statistics.median(rates)
    return {
        "images": len(store),
        "dim": store.dim,
        "queries_per_s": options.queries / statistics.median(seconds),
        "engine_tops": engine / 1e12,
        "matrix_tops": matrix / 1e12,
        "share": engine / matrix,
        "workspace_bytes": peak.result() - before,
    }


def synthetic_store(options: argparse.Namespace, path: Path) -> ImageStore:
    """Images of independent uniform pixels."""
    side = math.isqrt(options.dim // 3)
    generator = np.random.default_rng(0)
    with StoreWriter(path, None, {"importer": "synthetic"}) as writer:
        for start in range(0, options.images, 8192):
            count = min(8192, options.images - start)
            writer.append(generator.integers(0, 256, (count, 3, side, side), dtype=np.uint8), None)
        return writer.finish()


def peak_bytes(stop: threading.Event) -> int:
    """Most bytes that the process had before `stop` was set, without the memory-mapped store."""
    most = 0
    while not stop.wait(0.003):
        most = max(most, anonymous_bytes())
    return most


def anonymous_bytes() -> int:
    """Memory of this process, without the memory-mapped store."""
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) * 1024


def matrix_rate(population: Population, queries: int) -> float:
    """int8 operations per second of the product of one tile with the split queries."""
    _, _, tile = next(population.pixels.tiles())
    split = torch.randint(-127, 127, (2 * queries, population.dim), dtype=torch.int8)
    repeats = 8
    int8_product(split, tile)
    began = time.perf_counter()
    for _ in range(repeats):
        int8_product(split, tile)
    return repeats * 2.0 * len(tile) * len(split) * population.dim / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
