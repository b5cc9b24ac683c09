"""Hashes of the shards of small runs: every preset, format, solver and estimator, on scikit-learn's digits.

    python benchmarks/shard_hashes.py > before.json      # then change the code
    python benchmarks/shard_hashes.py --compare before.json

`files` is over the names and bytes of plan, certificate and shards; `content` is over the decoded columns alone, so it
survives a change of the file format. Bytes depend on the machine and on torch's version: compare on one machine.
"""

import argparse
import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from sklearn.datasets import load_digits

from postmean.base.flags import with_flags
from postmean.cli.index import run as index
from postmean.contract.image_store import ImageStore, StoreWriter
from postmean.contract.presets import PRESETS
from postmean.estimators.replica import Replica
from postmean.runs.config import GenerateConfig, presets
from postmean.runs.job import prepare
from postmean.shards.run_folder import RunFolder
from postmean.storage.open import open_storage

IMAGES, MANY = 400, 3000
"""Images of the small store, and of the one on which `auto` looks for candidates."""
RENAMED = {"found": "support_size"}
"""Columns of version 0.1 that have a new name: old -> new."""
ESTIMATORS = ("auto", "exact", "knn-snis", "knn-stratified", "posterior-mc", "stf", "single-sample")


def cases() -> dict[str, dict[str, Any]]:
    """Settings of every run by name."""
    runs: dict[str, dict[str, Any]] = {name: {"preset": name} for name in PRESETS}
    small = {"preset": "edm-digits", "k": 32, "n": 16, "m": 16}
    for estimator in ESTIMATORS:
        runs[f"edm-digits {estimator}"] = small | {"estimator": estimator}
        runs[f"ict-digits heun {estimator}"] = small | {
            "preset": "ict-digits",
            "solver": "heun",
            "estimator": estimator,
        }
    for format in ("webdataset", "zarr"):
        for solver in ("euler", "heun"):
            for contained in (False, True):
                about = {"format": format, "solver": solver, "self_contained": contained}
                name = f"ict-digits {format} {solver}{' self-contained' if contained else ''}"
                runs[name] = {"preset": "ict-digits", "tuples": 1500} | about
    runs["flips conditional"] = {"preset": "edm-digits", "flips": True, "conditional": True}
    runs["flips conditional heun"] = {"preset": "ict-digits", "flips": True, "conditional": True, "solver": "heun"}
    runs["no certificate"] = {"preset": "edm-digits", "certificate": False}
    runs["tolerance 1e-7"] = {"preset": "edm-digits", "tolerance": 1e-7}
    runs["index ivf8-sq8"] = small | {"estimator": "knn-stratified", "index": "ivf8-sq8", "nprobe": 2}
    runs["index flat"] = small | {"estimator": "knn-snis", "index": "flat"}
    runs["many images"] = {"preset": "edm-digits", "images": MANY}
    runs["many images flips heun"] = {"preset": "ict-digits", "images": MANY, "flips": True, "solver": "heun"}
    return runs


def make_store(path: Path, images: int) -> ImageStore:
    """Digits as grey 8x8 images with labels, noisy copies beyond the first 1 797, and every index of them."""
    digits = load_digits()
    rows = np.arange(images) % len(digits.images)
    noise = (
        np.random.default_rng(0).integers(-40, 41, (images, 8, 8))
        * (np.arange(images) >= len(digits.images))[:, None, None]
    )
    pixels = np.clip(np.rint(digits.images[rows] * (255 / 16)) + noise, 0, 255).astype(np.uint8)[:, None]
    with StoreWriter(path, tuple("0123456789"), {"importer": "digits"}) as writer:
        writer.append(pixels, digits.target[rows])
        store = writer.finish()
    for flags in ([], ["--flips"], ["--conditional"], ["--flips", "--conditional"]):
        index([str(path), *flags, "--threads", "1"])
    for name in ("flat", "ivf8-sq8"):
        index([str(path), "--index", name, "--threads", "1"])
    return store


def run_hashes(store: ImageStore, out: Path, preset: str, **settings: Any) -> dict[str, str]:
    """Hashes of one run, made by one replica in this process."""
    _, config = presets(GenerateConfig, store=store.path, out=str(out))[preset]
    config = with_flags(config, **{"tuples": 4000, "records_per_shard": 256, "device": "cpu"} | settings)
    run = RunFolder(open_storage(out))
    job = prepare(config, run)
    job.begin(run)
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    replica = Replica(job.manifest, job.store, job.certified_sigma)
    files, content = hashlib.sha256(), hashlib.sha256()
    for shard in range(len(job.plan)):
        run.commit_shard(job.plan[shard], replica.records(job.plan[shard]))
        arrays = run.read_shard(shard).to_arrays()
        arrays = {RENAMED.get(name, name): array for name, array in arrays.items()}
        for name in sorted(arrays):
            content.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
            content.update(np.ascontiguousarray(arrays[name]).tobytes())
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        name = path.relative_to(out).as_posix()
        if not name.startswith(("manifest", "commits", "config", "status", "leases")):
            files.update(name.encode() + b"\0" + path.read_bytes())
    return {"files": files.hexdigest()[:16], "content": content.hexdigest()[:16], "shards": str(len(job.plan))}


def main() -> int:
    """Print the hashes as JSON, or what differs from an earlier output."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compare", type=Path, help="output of an earlier call")
    arguments = parser.parse_args()
    stdout, sys.stdout = sys.stdout, sys.stderr
    with tempfile.TemporaryDirectory() as folder:
        stores = {count: make_store(Path(folder) / f"{count}.store", count) for count in (IMAGES, MANY)}
        after = {
            name: run_hashes(stores[settings.pop("images", IMAGES)], Path(folder) / f"run-{number}", **settings)
            for number, (name, settings) in enumerate(cases().items())
        }
    sys.stdout = stdout
    if arguments.compare is None:
        print(json.dumps(after, indent=1))
        return 0
    before = json.loads(arguments.compare.read_text())
    differing = 0
    for name in sorted({*before, *after}):
        a, b = before.get(name, {}), after.get(name, {})
        for kind in sorted({*a, *b}):
            if a.get(kind) != b.get(kind):
                differing += kind == "content"
                print(f"{name}: {kind} was {a.get(kind)}, is {b.get(kind)}")
    same = sum(before.get(name, {}).get("files") == hashes["files"] for name, hashes in after.items())
    print(f"{len(after)} runs: files of {same} are the same, columns of {len(after) - differing} are the same")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
