"""What a pair of images costs the self-join of `postmean index`, at several numbers of images.

    python benchmarks/index.py --images 50000 1000000 --rows 4096 --cores 1 --json FILE

A unit of the self-join multiplies two blocks of images. The first rows of the first block are joined with the whole
last block, which is `--rows` rows of a unit. The store is a sparse file with these images in it: smooth random ones.
Rounds of all numbers of images alternate, and the fastest of each counts.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from postmean.contract.image_blocks import ImageBlocks
from postmean.contract.image_store import SCHEMA_VERSION, ImageStore, StoreHeader
from postmean.engine.population import Population
from postmean.engine.process_setup import prepare_process
from postmean.neighbours.block_join import BlockJoin, Nearest
from postmean.neighbours.join_plan import JoinPlan, default_block


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[50_000, 1_000_000])
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--flips", action="store_true")
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    prepare_process(1)
    with tempfile.TemporaryDirectory() as folder:
        samples = [Sample(Path(folder), n, options.rows, options.side, options.flips) for n in options.images]
        reports = [sample.report(options.cores) for sample in samples]
        for _ in range(options.rounds - 1):
            again = [sample.report(options.cores) for sample in samples]
            reports = [min(a, b, key=lambda r: r["core_ns_a_pair"]) for a, b in zip(reports, again, strict=True)]
    for report in reports:
        print(
            f"{report['images']:,} images of {report['dim']:,} pixels, {report['rows']:,} x {report['columns']:,} "
            f"joined by {options.cores} threads: {report['core_ns_a_pair']:.1f} ns of a core a pair, "
            f"{report['core_ns_a_pair'] / 2:.1f} for each of its images; all {report['units']:,} units "
            f"{report['core_hours']:.3g} core-hours"
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"at most {peak / 1e9:.2f} GB, with the pixels that were read")
    if options.json:
        options.json.write_text(json.dumps({"reports": reports, "peak_bytes": peak}, indent=1) + "\n")


class Sample:
    """Some rows of a unit of the self-join of a store of so many images."""

    def __init__(self, folder: Path, images: int, rows: int, side: int, flips: bool) -> None:
        shape = (images, 3, side, side)
        pixels = np.memmap(folder / f"{images}.pixels", np.uint8, "w+", shape=shape)
        plan = JoinPlan.of([(None, images)], default_block(images))
        first, last = plan.blocks[0], plan.blocks[-2 if len(plan.blocks) > 1 else -1]  # a whole one
        self._rows, self._columns = range(min(rows, len(first))), range(last.start, last.stop)
        for part in (self._rows, self._columns):
            for start in range(part.start, part.stop, 1024):
                stop = min(start + 1024, part.stop)
                pixels[start:stop] = smooth_images(stop - start, side, seed=start)
        header = StoreHeader(schema_version=SCHEMA_VERSION, shape=shape, class_names=None, source={}, fingerprint="")
        store = ImageStore(folder, header, ImageBlocks(pixels), None)
        self._population, self._units = Population(store, flips, exact_products=True), len(plan.units)

    def report(self, cores: int) -> dict[str, float]:
        """Join once."""
        sides = [(part, Nearest(len(part), 64, "cpu")) for part in (self._rows, self._columns)]
        began, busy = time.perf_counter(), time.process_time()
        BlockJoin(self._population, *sides).run(cores)
        seconds, busy = time.perf_counter() - began, time.process_time() - busy
        images, pairs = len(self._population.images), len(self._rows) * len(self._columns)
        return {
            "images": images,
            "dim": self._population.dim,
            "flips": self._population.flips,
            "rows": len(self._rows),
            "columns": len(self._columns),
            "seconds": seconds,
            "core_ns_a_pair": busy / pairs * 1e9,
            "units": self._units,
            "core_hours": busy / pairs * images * (images - 1) / 2 / 3600,
        }


def smooth_images(count: int, side: int, seed: int) -> np.ndarray:
    """Random images whose distances spread as those of photographs do, uint8 [count, 3, side, side]."""
    generator = np.random.default_rng(seed)
    coarse = generator.normal(128, 50, (count, 3, 4, 4)).repeat(side // 4, 2).repeat(side // 4, 3)
    contrast = generator.uniform(0.3, 1.2, (count, 1, 1, 1))
    return np.clip(128 + contrast * (coarse - 128) + generator.normal(0, 8, coarse.shape), 0, 255).astype(np.uint8)


if __name__ == "__main__":
    main()
