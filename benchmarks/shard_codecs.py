"""Speed and size of the shard codecs, side by side in one run: encode, write and commit, read, decode.

    python benchmarks/shard_codecs.py --json codecs.json

Records are like those of a run: supports of 1 to a few hundred pairs, heavy-tailed, and images of smooth noise.
`read` is from storage with size and SHA-256 checked, in the page cache; `decode` is from bytes in memory.
"""

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from postmean.base.cores import usable_cores
from postmean.contract.manifest import SCHEMA_VERSION, Manifest
from postmean.contract.plan import Plan
from postmean.contract.recipe import TargetRecipe
from postmean.contract.records import Means, Records
from postmean.contract.settings import EstimatorSettings, ShardSettings
from postmean.shards.codec import Layout
from postmean.shards.codecs import codec
from postmean.shards.run_folder import RunFolder
from postmean.shards.run_reader import layout_of
from postmean.storage.open import open_storage

MAX_SUPPORT = 768


@dataclass(frozen=True)
class Case:
    """Kind of records in a shard."""

    name: str
    image_shape: tuple[int, int, int]
    sparse_share: float
    self_contained: bool = False


CASES = (
    Case("sparse 3x32x32", (3, 32, 32), 1.0),
    Case("dense 3x32x32", (3, 32, 32), 0.0),
    Case("mixed 3x32x32", (3, 32, 32), 0.8),
    Case("sparse 3x64x64", (3, 64, 64), 1.0),
    Case("self-contained 3x32x32", (3, 32, 32), 0.0, self_contained=True),
)


@dataclass(frozen=True)
class Result:
    """Records per second of each step, best of the repeats."""

    case: str
    format: str
    encode: float
    commit: float
    read: float
    decode: float
    bytes_per_record: float


def make_records(case: Case, layout: Layout, rng: np.random.Generator) -> Records:
    """Random records of one shard."""
    rows = layout.total_records
    support = np.minimum(1 + rng.lognormal(1.5, 1.5, rows).astype(np.int32), MAX_SUPPORT)
    count = np.where(rng.random(rows) < case.sparse_share, support, -1).astype(np.int32)
    pairs, dense = int(np.maximum(count, 0).sum()), int((count < 0).sum())
    plain = {}
    sigma = rng.lognormal(-1.2, 1.2, rows).astype(np.float32)
    if case.self_contained:
        x = smooth_images(rng, rows, case.image_shape)
        z = x + sigma[:, None, None, None] * rng.standard_normal(x.shape, np.float32)
        plain = {"z": z, "x": np.rint((x + 1) * 127.5).astype(np.uint8)}
    return Records(
        tuple_id=np.cumsum(rng.integers(1, 10, rows)),
        sigma=sigma,
        sigma_next=None,
        label=rng.integers(0, 10, rows),
        mean=Means(
            count,
            rng.integers(0, 50_000, pairs, np.uint32),
            rng.random(pairs, np.float32),
            smooth_images(rng, dense, case.image_shape).astype(np.float16),
        ),
        mean_next=None,
        ess=1 + 100 * rng.random(rows, np.float32),
        top_weight=rng.random(rows, np.float32),
        variance=rng.random(rows, np.float32),
        tail_mass=np.zeros(rows, np.float32),
        support_size=np.full(rows, 2048, np.int32),
        plain=plain,
    )


def smooth_images(rng: np.random.Generator, count: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Images in [-1, 1] whose neighbouring pixels are alike, float32 [count, C, H, W]."""
    coarse = rng.uniform(-1, 1, (count, shape[0], shape[1] // 8, shape[2] // 8)).astype(np.float32)
    fine = coarse.repeat(8, axis=2).repeat(8, axis=3)
    return np.clip(fine + 0.05 * rng.standard_normal(fine.shape, np.float32), -1, 1)


def measure(case: Case, codec_name: str, rows: int, repeats: int, folder: Path) -> Result:
    """Time one format on one shard."""
    run = RunFolder(open_storage(folder))
    manifest = manifest_of(case, codec_name, rows)
    layout = layout_of(manifest, Plan(np.zeros(1, np.int64), np.full(1, rows), np.full(1, rows)))
    records = make_records(case, layout, np.random.default_rng(0))
    plan = Plan(records.tuple_id[:1], records.tuple_id[-1:], np.full(1, rows))
    run.begin(manifest, plan, None)
    shards, row = codec(codec_name), plan[0]
    files = shards.encode(records, row, layout)
    return Result(
        case.name,
        codec_name,
        encode=rows / best(lambda: shards.encode(records, row, layout), repeats),
        commit=rows / best(lambda: run.commit_shard(row, records), repeats),
        read=rows / best(lambda: run.read_shard(0), repeats),
        decode=rows / best(lambda: shards.decode(row, layout, files.__getitem__), repeats),
        bytes_per_record=sum(map(len, files.values())) / rows,
    )


def manifest_of(case: Case, codec_name: str, rows: int) -> Manifest:
    return Manifest(
        schema_version=SCHEMA_VERSION,
        code_version="benchmark",
        store_fingerprint="",
        store_shape=(50_000, *case.image_shape),
        classes=10,
        recipe=TargetRecipe(),
        seed=0,
        tuples=10 * rows,
        estimator=EstimatorSettings(name="exact", certificate=False),
        shards=ShardSettings(
            format=codec_name,  # type: ignore[arg-type]
            self_contained=case.self_contained,
            records_per_shard=rows,
            max_support=MAX_SUPPORT,
        ),
        device="cpu",
        threads_per_actor=1,
        queries_per_pass=512,
        tuple_fingerprint="",
    )


def best(work: Callable[[], object], repeats: int) -> float:
    """Shortest wall time in seconds."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--records", type=int, default=4096, help="records of the shard")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the results here")
    arguments = parser.parse_args()
    results = []
    print(f"{'case':24}{'format':12}{'encode/s':>11}{'commit/s':>11}{'read/s':>11}{'decode/s':>11}{'bytes':>9}")
    for case in CASES:
        for codec_name in ("webdataset", "zarr"):
            with tempfile.TemporaryDirectory() as folder:
                r = measure(case, codec_name, arguments.records, arguments.repeats, Path(folder))
            results.append(r)
            speeds = "".join(f"{speed:11,.0f}" for speed in (r.encode, r.commit, r.read, r.decode))
            print(f"{r.case:24}{r.format:12}{speeds}{r.bytes_per_record:9,.0f}", flush=True)
    if arguments.json:
        machine = {"cpus": usable_cores(), "machine": platform.machine(), "python": platform.python_version()}
        report = {"machine": machine, "records": arguments.records, "results": [asdict(r) for r in results]}
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
