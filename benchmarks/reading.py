"""Reading speed of the same records: postmean, webdataset, litData and mosaicml-streaming, in turns.

    python benchmarks/reading.py speed          # records a second, 3 072 and 12 288 values, sparse and dense
    python benchmarks/reading.py resume         # the first batch at random places of a million records

Each side delivers batches of 256: eight numbers a record, and its mean as float32 (a sparse mean is summed from the
images of a store, in the same way by all). One process each, without worker processes; postmean reads the next two
shards in threads of their own, litData the next file. Files are in the page cache. postmean compares SHA-256 of every
shard, the others check nothing. The others run in environments of their own, made by `uv run --with`, as they want
other versions of numpy. `stream` is postmean's TargetStream, which makes z and eps of the same tuples too.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from shard_codecs import smooth_images

from postmean.base.flags import with_flags
from postmean.contract.image_store import ImageStore, StoreWriter
from postmean.contract.manifest import SCHEMA_VERSION, Manifest
from postmean.contract.plan import make_plan
from postmean.contract.recipe import TargetRecipe
from postmean.contract.records import QUALITY_COLUMNS, Means, Records
from postmean.contract.settings import EstimatorSettings, ShardSettings
from postmean.shards.run_folder import RunFolder
from postmean.storage.open import open_storage
from postmean.training.stream.ahead import Ahead
from postmean.training.stream.stream import TargetStream

HERE = Path(__file__).parent
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
REQUIREMENTS = {
    "webdataset": ["webdataset", "numpy"],
    "litdata": ["litdata"],
    "mosaicml-streaming": ["mosaicml-streaming"],
}
IMAGES, SHARD, BATCH, MAX_SUPPORT = 10_000, 2048, 256, 256
CASES = {
    "sparse-3072": (32, 16_384),
    "dense-3072": (32, 8_192),
    "sparse-12288": (64, 16_384),
    "dense-12288": (64, 8_192),
}
"""Width of the images, records."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["speed", "resume"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--records", type=float, default=1.0, help="times the records of each case")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--python", nargs="*", default=[], help="SIDE=PATH: an interpreter instead of uv run")
    parser.add_argument("--json", type=Path, help="write the results here")
    args = parser.parse_args()
    if not all(os.environ.get(name) == "1" for name in ONE_THREAD):  # numpy reads them as it is loaded
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | ONE_THREAD)
    with tempfile.TemporaryDirectory() as folder:
        if args.kind == "resume":
            results = [resume(Path(folder), args.rounds, int(args.records * 1_000_000))]
        else:
            given = dict(item.split("=", 1) for item in args.python)
            results = list(speed(Path(folder), args.cases, args.rounds, args.records, given))
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")


def speed(folder: Path, cases: list[str], rounds: int, share: float, given: dict[str, str]) -> Iterator[dict]:
    """Print one line of records a second for each case."""
    sides = ["postmean", "stream", *REQUIREMENTS]
    print(f"{'records/s':18}" + "".join(f"{side:>20}" for side in sides) + f"{'best of the others':>20}", flush=True)
    for name in cases:
        width, records = CASES[name]
        path = folder / f"{width}.store"
        store = ImageStore.open(path) if path.exists() else make_store(path, (3, width, width))
        count = max(1, int(records * share) // SHARD) * SHARD
        case = folder / "case"
        run = make_case(case, store, count, name.startswith("dense"))
        speeds = in_turns(case, run, store, rounds, given)
        best = max(speeds[side] for side in REQUIREMENTS)
        print(f"{name:18}" + "".join(f"{speeds[s]:>20,.0f}" for s in sides) + f"{speeds['postmean'] / best:>19.1f}x")
        yield {"case": name, "records": count, "records_per_second": speeds}
        shutil.rmtree(case)


def in_turns(case: Path, run: RunFolder, store: ImageStore, rounds: int, given: dict[str, str]) -> dict[str, float]:
    """Median records a second of each side; every side reads once before, and all must have read the same."""
    others = {side: start(side, case, given) for side in REQUIREMENTS}
    try:
        checks = {side: ask(process, "check")[2] for side, process in others.items()}
        for side, found in checks.items():
            ours = read_ours(run, store, check=True)[2]
            assert abs(found - ours) < 1e-6 * abs(ours), (side, found, ours)
        read_stream(run, store)
        seconds: dict[str, list[float]] = {side: [] for side in ("postmean", "stream", *others)}
        for _ in range(rounds):
            seconds["postmean"].append(read_ours(run, store)[1])
            seconds["stream"].append(read_stream(run, store))
            for side, process in others.items():
                seconds[side].append(ask(process, "go")[1])
    finally:
        for process in others.values():
            process.stdin.close()  # type: ignore[union-attr]
            process.wait()
    total = run.read_plan().total_records
    return {side: total / statistics.median(times) for side, times in seconds.items()}


def read_ours(run: RunFolder, store: ImageStore, check: bool = False) -> tuple[int, float, float]:
    """Records, seconds and checksum of one pass over the run."""
    began, seen, checksum = time.perf_counter(), 0, 0.0
    reader = RunFolder(run.storage)
    shards = range(len(reader.read_plan()))
    ahead = Ahead(reader.read_parts, shards, 2, "reading", 2)  # as TargetStream does
    for _ in shards:
        for part in ahead.take():  # of 256 records each
            numbers = np.stack([part.tuple_id, part.sigma, part.label, *(getattr(part, n) for n in QUALITY_COLUMNS)], 1)
            means = part.mean.decode(store)
            seen += len(part)
            if check:
                checksum += float(np.abs(means).sum(dtype=np.float64) + numbers.sum(dtype=np.float64))
    return seen, time.perf_counter() - began, checksum


def read_stream(run: RunFolder, store: ImageStore) -> float:
    """Seconds of one pass of the trainer's stream, whose thread works ahead."""
    began = time.perf_counter()
    stream = TargetStream.open(run.storage.url, store, BATCH)
    for _ in stream:
        pass
    stream.close()
    return time.perf_counter() - began


def start(side: str, case: Path, given: dict[str, str]) -> subprocess.Popen:
    """A process of another side, which has written the records."""
    python = [given[side]] if side in given else ["uv", "run", "--no-project", "--python", sys.executable]
    if side not in given:
        python += [word for name in REQUIREMENTS[side] for word in ("--with", name)] + ["python"]
    process = subprocess.Popen(
        # -P: beside the script lies streaming.py, the name of a side's library
        [*python, "-P", str(HERE / "reading_sides.py"), side, str(case)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | ONE_THREAD,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line == "ready\n":
            return process
    raise SystemExit(f"{side} ended before it was ready: run benchmarks/reading_sides.py {side} by hand")


def ask(process: subprocess.Popen, what: str) -> tuple[float, float, float]:
    """Records, seconds and checksum of one pass."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(f"{what}\n")
    process.stdin.flush()
    for line in process.stdout:
        words = line.split()
        if len(words) == 3 and words[0].isdecimal():
            return float(words[0]), float(words[1]), float(words[2])
    raise SystemExit("a side ended")


def resume(folder: Path, rounds: int, records: int) -> dict:
    """Print the seconds from opening a run to its first batch, at random places."""
    store = make_store(folder / "store", (3, 32, 32))
    make_case(folder / "case", store, records, False)
    rng, seconds = np.random.default_rng(0), []
    for _ in range(4 * rounds):
        place = int(rng.integers(records // BATCH)) * BATCH
        began = time.perf_counter()
        stream = TargetStream.open(folder / "case/postmean", ImageStore.open(store.path), BATCH, start_tuple=place)
        batch = next(iter(stream))
        seconds.append(time.perf_counter() - began)
        assert batch.tuple_id[0] == place
        stream.close()
    print(
        f"{records:,} records: first batch after {statistics.median(seconds):.3f} s, at most {max(seconds):.3f} s, "
        f"at {len(seconds)} places"
    )
    return {"records": records, "seconds": seconds}


def make_store(path: Path, shape: tuple[int, int, int]) -> ImageStore:
    """Images of smooth noise."""
    rng = np.random.default_rng(0)
    with StoreWriter(path, tuple("0123456789"), {"importer": "benchmark"}) as writer:
        for _ in range(0, IMAGES, 1000):
            pixels = np.rint((smooth_images(rng, 1000, shape) + 1) * 127.5).astype(np.uint8)
            writer.append(pixels, rng.integers(0, 10, 1000))
        return writer.finish()


def make_case(folder: Path, store: ImageStore, records: int, dense: bool) -> RunFolder:
    """A run in which every tuple is a record, and the same records as plain arrays for the other sides.

    Supports of sparse means are as in a run: 1 to 256 images, most of them few.
    """
    manifest = manifest_of(store, records)
    source = manifest.tuple_source()
    manifest = with_flags(manifest, tuple_fingerprint=source.fingerprint())
    plan = make_plan(source, records, None, SHARD)
    run = RunFolder(open_storage(folder / "postmean"))
    run.begin(manifest, plan, None)
    rng = np.random.default_rng(1)
    kept: dict[str, list[np.ndarray]] = {name: [] for name in ("numbers", "count", "entry", "weight", "dense")}
    for shard in range(len(plan)):
        row = plan[shard]
        block = source.block(row.first_tuple, row.last_tuple + 1)
        part = Records(
            tuple_id=block.tuple_id,
            sigma=block.sigma,
            sigma_next=None,
            label=store.label(block.entry),
            mean=make_means(rng, row.records, store, dense),
            mean_next=None,
            ess=1 + 100 * rng.random(row.records, np.float32),
            top_weight=rng.random(row.records, np.float32),
            variance=rng.random(row.records, np.float32),
            tail_mass=np.zeros(row.records, np.float32),
            support_size=np.full(row.records, 2048, np.int32),
        )
        run.commit_shard(row, part)
        numbers = [part.tuple_id, part.sigma, part.label, *(getattr(part, name) for name in QUALITY_COLUMNS)]
        kept["numbers"].append(np.stack(numbers, 1))  # type: ignore[arg-type]
        for name in ("count", "entry", "weight", "dense"):
            kept[name].append(getattr(part.mean, name))
    for name, parts in kept.items():
        assert parts, "too few records for a shard: pass larger --records"
        np.save(folder / f"{name}.npy", np.concatenate(parts))
    (folder / "images.npy").symlink_to(store.path / "images.npy")
    return run


def make_means(rng: np.random.Generator, records: int, store: ImageStore, dense: bool) -> Means:
    if dense:
        images = smooth_images(rng, records, store.image_shape).astype(np.float16)
        return Means(np.full(records, -1, np.int32), np.empty(0, np.uint32), np.empty(0, np.float32), images)
    count = np.minimum(1 + rng.lognormal(1.5, 1.5, records).astype(np.int32), MAX_SUPPORT)
    weight = rng.random(count.sum(), np.float32)
    weight /= np.repeat(np.add.reduceat(weight, np.cumsum(count) - count), count)
    entry = rng.integers(0, len(store), count.sum()).astype(np.uint32)
    return Means(count, entry, weight, np.empty((0, *store.image_shape), np.float16))


def manifest_of(store: ImageStore, tuples: int) -> Manifest:
    return Manifest(
        schema_version=SCHEMA_VERSION,
        code_version="benchmark",
        store_fingerprint=store.header.fingerprint,
        store_shape=store.header.shape,
        classes=store.classes,
        recipe=TargetRecipe(),
        seed=0,
        tuples=tuples,
        estimator=EstimatorSettings(name="exact", certificate=False),
        shards=ShardSettings(records_per_shard=SHARD, max_support=MAX_SUPPORT),
        device="cpu",
        threads_per_actor=1,
        queries_per_pass=512,
        tuple_fingerprint="",
    )


if __name__ == "__main__":
    main()
