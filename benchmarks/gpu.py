"""What the engine reaches on a GPU, at the size of ImageNet-64, on synthetic images with a natural spectrum.

    make gpu [PYTHON=python3]        # tests on the GPU, then this
    python benchmarks/gpu.py [--images 1281167] [--out FOLDER]

It needs numpy, scipy and torch alone. It writes FOLDER/gpu.json and FOLDER/gpu.md. Rates are medians over the rounds.
The share of the card's rate is 4 N D operations a query over the time of the whole estimate, divided by the rate of
the engine's float16 product measured in the same run.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from training_step import training_step

from postmean.contract.image_blocks import ImageBlocks
from postmean.contract.image_store import ImageStore
from postmean.contract.store_header import SCHEMA_VERSION, StoreHeader
from postmean.engine.pixels import gpu_tile_rows
from postmean.engine.population import Population
from postmean.engine.process_setup import prepare_process
from postmean.engine.products import float16_product, int8_product
from postmean.estimators.auto import Auto
from postmean.estimators.estimate import Queries
from postmean.estimators.exact import Exact
from postmean.neighbours.block_join import BlockJoin, Nearest
from postmean.neighbours.join_plan import default_block

SIDE = 64
DIM = 3 * SIDE**2
SIGMAS = (2.0, 4.0, 5.6, 8.0, 11.0, 16.0, 32.0, 80.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1_281_167)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder of gpu.json and gpu.md")
    options = parser.parse_args()
    prepare_process(torch.get_num_threads())
    report = measure(options.images, options.rounds, options.device)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "gpu.json").write_text(json.dumps(report, indent=1) + "\n")
    (options.out / "gpu.md").write_text(page(report))
    print(page(report))


def measure(images: int, rounds: int, device: str) -> dict:
    store = synthetic_store(images, device)
    torch.cuda.empty_cache()
    total = torch.cuda.mem_get_info(device)[1]
    report = {
        "device": torch.cuda.get_device_name(device),
        "memory_bytes": total,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "images": images,
        "dim": DIM,
        "product_rates": product_rates(device),
    }
    began = time.perf_counter()
    population = Population(store, False, device=device)
    _ = population.norm2, population.mean
    torch.cuda.synchronize()
    report["load_seconds"] = time.perf_counter() - began
    report["pixels_on_device"] = str(population.pixels.stored.device), str(population.pixels.stored.dtype)
    rates = report["product_rates"]
    exact = Exact(population, rounding=2e-7)
    report["exact"] = [exact_rate(exact, sigma, rounds, rates["float16"]) for sigma in (11.0, 80.0)]
    began = time.perf_counter()
    auto = Auto(population, 1e-6)
    torch.cuda.synchronize()
    report["auto_setup_seconds"] = time.perf_counter() - began
    report["auto"] = [auto_rate(auto, sigma, rounds) for sigma in SIGMAS]
    report["peak_bytes"] = torch.cuda.max_memory_allocated()
    del auto, exact, population
    torch.cuda.empty_cache()
    report["exact_with_flips"] = exact_rate(
        Exact(Population(store, True, device=device), rounding=2e-7), 11.0, rounds, rates["float16"]
    )
    torch.cuda.empty_cache()
    report["self_join"] = self_join_rate(Population(store, False, device=device, exact_products=True), rounds)
    torch.cuda.empty_cache()
    report["training_step"] = training_step(device)
    return report


def synthetic_store(images: int, device: str) -> ImageStore:
    """Images whose spectrum falls as 1 / frequency, as natural images' does; in memory, not on a disk."""
    pixels = np.empty((images, 3, SIDE, SIDE), np.uint8)
    generator = torch.Generator(device).manual_seed(0)
    frequency = torch.fft.fftfreq(SIDE, device=device).square()[:, None] + torch.fft.rfftfreq(SIDE, device=device) ** 2
    amplitude = 1 / frequency.sqrt().clamp(min=1 / SIDE)
    mixing = torch.tensor([[1.0, 0.2, 0.1], [1.0, 0.0, -0.1], [1.0, -0.2, 0.1]], device=device)
    for start in range(0, images, 8192):
        noise = torch.randn((min(8192, images - start), 3, SIDE, SIDE), generator=generator, device=device)
        smooth = torch.fft.irfft2(torch.fft.rfft2(noise) * amplitude)
        smooth = torch.einsum("cd,ndhw->nchw", mixing, smooth / smooth.std())
        part = (127.5 + 60 * smooth).clamp_(0, 255).to(torch.uint8)
        pixels[start : start + len(part)] = part.cpu().numpy()
    shape = (images, 3, SIDE, SIDE)
    header = StoreHeader(schema_version=SCHEMA_VERSION, shape=shape, class_names=None, source={}, fingerprint="")
    return ImageStore(Path("synthetic"), header, ImageBlocks(pixels), None)


def seconds(work: Callable[[], object], rounds: int) -> float:
    """Median seconds of `work`, after one call that is not counted."""
    work()
    torch.cuda.synchronize()
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def product_rates(device: str) -> dict[str, float]:
    """Operations per second of the engine's products: a tile of images with 512 queries."""
    tile = torch.randint(-128, 128, (gpu_tile_rows(DIM), DIM), dtype=torch.int8, device=device)
    left = torch.randint(-127, 128, (1024, DIM), dtype=torch.int8, device=device)
    halves, queries = tile.to(torch.float16), left[:512].to(torch.float16)
    weights = torch.rand((512, len(tile)), device=device).to(torch.float16)
    operations = 2.0 * len(tile) * DIM

    def rate(rows: int, work: Callable[[], object]) -> float:
        return 20 * rows * operations / seconds(lambda: [work() for _ in range(20)], 5)

    return {
        "int8": rate(1024, lambda: int8_product(left, tile)),
        "float16": rate(512, lambda: float16_product(queries, halves.t())),
        "float16 of weights": rate(512, lambda: float16_product(weights, halves)),
    }


def queries_at(population: Population, sigma: float, count: int) -> Queries:
    """Queries made from random images of the population."""
    source = np.sort(np.random.default_rng(1).choice(len(population.images), count, replace=False))
    generator = torch.Generator(population.device).manual_seed(2)
    x = population.x(source)
    z = x + sigma * torch.randn(x.shape, generator=generator, device=x.device)
    return Queries(z, np.full(count, sigma), source, np.random.default_rng, np.ones(count, bool))


def exact_rate(exact: Exact, sigma: float, rounds: int, product_rate: float) -> dict[str, float]:
    count = 2 * exact.population.queries_at_a_time
    queries = queries_at(exact.population, sigma, count)
    taken = seconds(lambda: exact.estimate(queries), rounds)
    operations = 4.0 * len(exact.population) * DIM * count
    return {"sigma": sigma, "queries_per_s": count / taken, "share_of_float16": operations / taken / product_rate}


def auto_rate(auto: Auto, sigma: float, rounds: int) -> dict[str, float]:
    queries = queries_at(auto.population, sigma, 2 * auto.population.queries_at_a_time)
    estimate = auto.estimate(queries)
    taken = seconds(lambda: auto.estimate(queries), rounds)
    full = float((estimate.support_size == len(auto.population)).mean())
    return {"sigma": sigma, "queries_per_s": len(queries) / taken, "full_softmax": full}


def self_join_rate(population: Population, rounds: int) -> dict[str, float]:
    """Rate of a unit of the self-join, a pair of blocks, and what all units would take."""
    images = len(population.images)
    size = min(default_block(images), images // 32 * 16)
    blocks = [range(size), range(size, 2 * size)]
    taken = seconds(
        lambda: BlockJoin(population, *((b, Nearest(size, 64, population.device)) for b in blocks)).run(), rounds
    )
    pairs = size * size
    return {
        "pairs_per_s": pairs / taken,
        "hours_for_all": taken / pairs * images * (images - 1) / 2 / 3600,
        "int8_operations_per_s": 2.0 * pairs * DIM / taken,
    }


def page(report: dict) -> str:
    """The report as Markdown."""
    rates, step = report["product_rates"], report["training_step"]
    lines = [
        f"# {report['device']}, torch {report['torch']}, CUDA {report['cuda']}",
        "",
        f"{report['images']:,} synthetic images of {report['dim']:,} values, by `benchmarks/gpu.py`.",
        "",
        f"- products, 512 queries: int8 {rates['int8'] / 1e12:,.0f}, float16 {rates['float16'] / 1e12:,.0f}, "
        f"float16 of weights {rates['float16 of weights'] / 1e12:,.0f} TOP/s",
        f"- load: {report['load_seconds']:.1f} s; `auto` setup: {report['auto_setup_seconds']:.1f} s; "
        f"peak {report['peak_bytes'] / 1e9:.1f} GB; pixels kept as {report['pixels_on_device'][1]} "
        f"on {report['pixels_on_device'][0]}",
        f"- self-join: {report['self_join']['pairs_per_s'] / 1e9:.2f} G pairs/s "
        f"({report['self_join']['int8_operations_per_s'] / rates['int8']:.0%} of the int8 product), "
        f"{report['self_join']['hours_for_all']:.2f} h for all",
        f"- a training step of {step['batch']} images on a network of {step['parameters'] / 1e6:.1f} M parameters: "
        f"{1000 * step['seconds']:.1f} ms, {step['images_per_s']:,.0f} images/s, "
        f"{step['operations_per_s'] / 1e12:,.0f} TFLOP/s in bfloat16"
        f"{'' if step['loss_falls'] else ', BUT THE LOSS DOES NOT FALL'}",
        "",
        "| estimator | sigma | queries/s | share of the float16 product's rate | full softmax |",
        "|---|---|---|---|---|",
    ]
    for name, row in [("exact", r) for r in report["exact"]] + [("exact, flips", report["exact_with_flips"])]:
        lines.append(
            f"| {name} | {row['sigma']:g} | {row['queries_per_s']:,.0f} | {row['share_of_float16']:.0%} | 100 % |"
        )
    for row in report["auto"]:
        lines.append(f"| auto | {row['sigma']:g} | {row['queries_per_s']:,.0f} | | {100 * row['full_softmax']:.0f} % |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
