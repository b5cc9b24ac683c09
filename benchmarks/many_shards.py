"""What a driver, a status and a trainer take of a run of many shards: seconds and peak memory by number of shards.

    python benchmarks/many_shards.py --shards 1000 253000 --folder /tmp/many

The runs are synthetic: the digits, 16 tuples a shard, and a commit record for each shard but one, which the real
`postmean generate` makes when it resumes the run. Each step is a process of its own.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

RECORDS = 16
"""Per shard."""
READ = 64
"""Shards at the run's beginning that have files, to read them."""


def main() -> None:
    """Print the table, or run one step of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, nargs="+", default=[1_000, 253_000])
    parser.add_argument("--format", choices=("webdataset", "zarr"), default="webdataset")
    parser.add_argument("--folder", type=Path, required=True, help="for the runs: 1 GB for 253 thousand shards")
    parser.add_argument("--step", choices=(*STEPS, ""), default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        run_step(args.step, args.folder, args.shards[0], args.format)
        return
    print(f"{'step':<8} {'shards':>9} {'seconds':>8} {'peak MB':>8}")
    for shards in args.shards:
        for step in STEPS:
            command = [sys.executable, __file__, f"--shards={shards}", f"--format={args.format}"]
            done = subprocess.run(
                [*command, f"--folder={args.folder}", f"--step={step}"], capture_output=True, text=True
            )
            if done.returncode:
                raise SystemExit(done.stderr)
            took = json.loads(done.stdout.splitlines()[-1])
            print(f"{step:<8} {shards:>9,} {took['seconds']:>8.1f} {took['bytes'] / 1e6:>8.0f}", flush=True)


def run_step(step: str, folder: Path, shards: int, format: str) -> None:
    """Run a step in this process and print what it took as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    STEPS[step](folder, shards, format)
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))


def _settings(folder: Path, shards: int, format: str) -> "GenerateConfig":
    return GenerateConfig.preset(
        "edm-digits",
        store=folder / "digits.store",
        out=str(folder / f"{format}-{shards}"),
        tuples=RECORDS * shards,
        records_per_shard=RECORDS,
        certificate=False,
        estimator="single-sample",
        format=format,
        actors=1,
    )


def make(folder: Path, shards: int, format: str) -> None:
    """Plan the run and write its files, commit records included."""
    from tests.support.stores import digits_store

    if not (folder / "digits.store").exists():
        digits_store(folder / "digits.store")
    config = _settings(folder, shards, format)
    shutil.rmtree(config.out, ignore_errors=True)
    run = RunFolder(open_storage(config.out))
    job = prepare(config, run)
    job.begin(run)
    run.storage.put("config.json", to_json(config))
    replica = Replica(job.manifest, job.store, None)
    for shard in range(READ):
        commit = run.commit_shard(job.plan[shard], replica.records(job.plan[shard]))
    text = commit.to_bytes()
    for shard in range(READ, shards - 1):
        row = job.plan[shard]
        plain = json.loads(text) | {"shard": shard, "first_tuple": row.first_tuple, "last_tuple": row.last_tuple}
        for file, path in zip(plain["files"], run.shard_paths(shard), strict=True):
            file["path"] = path
            place = Path(config.out, path)
            os.makedirs(place.parent, exist_ok=True)
            place.touch()
        Path(config.out, commit_path(shard)).write_bytes(to_json(plain))


def resume(folder: Path, shards: int, format: str) -> None:
    """Make the missing shard with the real fleet."""
    assert generate(_settings(folder, shards, format), progress=False).written == 1


def finished(folder: Path, shards: int, format: str) -> None:
    """Call generate again: nothing is left to make."""
    assert generate(_settings(folder, shards, format), progress=False).written == 0


def status(folder: Path, shards: int, format: str) -> None:
    """Read the status."""
    assert read_status(open_storage(_settings(folder, shards, format).out)).shards_done == shards


def train(folder: Path, shards: int, format: str) -> None:
    """Open a stream and take a batch of each shard that has files."""
    config = _settings(folder, shards, format)
    with TargetStream.open(config.out, config.store, RECORDS) as stream:
        for _, _ in zip(range(READ), stream, strict=False):
            pass


STEPS: dict[str, Callable[[Path, int, str], None]] = {
    "make": make,
    "resume": resume,
    "finished": finished,
    "status": status,
    "train": train,
}

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from postmean.base.json_files import to_json
    from postmean.estimators.replica import Replica
    from postmean.pipeline import GenerateConfig, generate
    from postmean.runs.job import prepare
    from postmean.runs.status import read_status
    from postmean.shards.run_folder import RunFolder
    from postmean.shards.run_paths import commit_path
    from postmean.storage.open import open_storage
    from postmean.training import TargetStream

    main()
