"""What a driver, a status and a trainer take of a run of many shards: seconds and peak memory by number of shards.

    python benchmarks/many_shards.py --shards 1000 253000 --folder /tmp/many
    python benchmarks/many_shards.py --shards 253000 --records 12952 --folder /tmp/billions

The runs are synthetic: the digits, 16 tuples a shard or --records of them, and a commit record for each shard but one,
which the real `postmean generate` makes when it resumes the run. Every tuple is a record, so `make` writes the plan
without an enumeration (benchmarks/planning.py measures that). Each step is a process of its own.
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
from dataclasses import dataclass
from pathlib import Path

import numpy as np

READ = 64
"""Shards at the run's beginning that have files, to read them."""


def main() -> None:
    """Print the table, or run one step of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, nargs="+", default=[1_000, 253_000])
    parser.add_argument("--format", choices=("webdataset", "zarr"), default="webdataset")
    parser.add_argument("--records", type=int, default=16, help="of a shard")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--folder", type=Path, required=True, help="for the runs: 1 GB for 253 thousand shards")
    parser.add_argument("--step", choices=(*STEPS, ""), default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        run_step(args.step, Run(args.folder, args.shards[0], args.records, args.format))
        return
    print(f"{'step':<8} {'shards':>9} {'seconds':>8} {'peak MB':>8}")
    for shards in args.shards:
        for step in args.steps:
            command = [sys.executable, __file__, f"--shards={shards}", f"--records={args.records}"]
            command.append(f"--format={args.format}")
            done = subprocess.run(
                [*command, f"--folder={args.folder}", f"--step={step}"], capture_output=True, text=True
            )
            if done.returncode:
                raise SystemExit(done.stderr)
            took = json.loads(done.stdout.splitlines()[-1])
            print(f"{step:<8} {shards:>9,} {took['seconds']:>8.1f} {took['bytes'] / 1e6:>8.0f}", flush=True)


@dataclass(frozen=True)
class Run:
    """A synthetic run."""

    folder: Path
    shards: int
    records: int
    format: str

    def settings(self) -> "GenerateConfig":
        return GenerateConfig.preset(
            "edm-digits",
            store=self.folder / "digits.store",
            out=str(self.folder / f"{self.format}-{self.shards}-{self.records}"),
            tuples=self.records * self.shards,
            records_per_shard=self.records,
            certificate=False,
            estimator="single-sample",
            format=self.format,
            actors=1,
        )


def run_step(step: str, run: Run) -> None:
    """Run a step in this process and print what it took as JSON."""
    run.folder.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    STEPS[step](run)
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))


def make(synthetic: Run) -> None:
    """Write the run's files, commit records included."""
    from tests.support.stores import digits_store

    if not (synthetic.folder / "digits.store").exists():
        digits_store(synthetic.folder / "digits.store")
    config = synthetic.settings()
    shutil.rmtree(config.out, ignore_errors=True)
    run = RunFolder(open_storage(config.out))
    store, first = ImageStore.open(config.store), np.arange(synthetic.shards) * synthetic.records
    plan = Plan(first, first + synthetic.records - 1, np.full(synthetic.shards, synthetic.records))
    job = Job(store, resolve(config, store), None, plan)
    job.begin(run)
    run.storage.put("config.json", to_json(config))
    replica = Replica(job.manifest, job.store, None)
    for shard in range(READ):
        commit = run.commit_shard(job.plan[shard], replica.records(job.plan[shard]))
    text = commit.to_bytes()
    for shard in range(READ, synthetic.shards - 1):
        row = job.plan[shard]
        plain = json.loads(text) | {"shard": shard, "first_tuple": row.first_tuple, "last_tuple": row.last_tuple}
        for file, path in zip(plain["files"], run.shard_paths(shard), strict=True):
            file["path"] = path
            place = Path(config.out, path)
            os.makedirs(place.parent, exist_ok=True)
            place.touch()
        Path(config.out, commit_path(shard)).write_bytes(to_json(plain))


def resume(run: Run) -> None:
    """Make the missing shard with the real fleet."""
    assert generate(run.settings(), progress=False).written == 1


def finished(run: Run) -> None:
    """Call generate again: nothing is left to make."""
    assert generate(run.settings(), progress=False).written == 0


def status(run: Run) -> None:
    """Read the status."""
    assert read_status(open_storage(run.settings().out)).shards_done == run.shards


def verify(run: Run) -> None:
    """Verify a sample of as many shards as have files; most of those picked have none, which it finds."""
    folder = RunFolder(open_storage(run.settings().out))
    report = check_run(folder, ImageStore.open(run.settings().store), 128, shards=READ)
    assert report.committed >= run.shards - 1 and report.read == READ


def train(run: Run) -> None:
    """Open a stream and take a batch of each shard that has files."""
    config = run.settings()
    with TargetStream.open(config.out, config.store, run.records) as stream:
        for _, _ in zip(range(READ), stream, strict=False):
            pass


STEPS: dict[str, Callable[[Run], None]] = {
    "make": make,
    "resume": resume,
    "finished": finished,
    "status": status,
    "verify": verify,
    "train": train,
}

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from postmean.base.json_files import to_json
    from postmean.contract.image_store import ImageStore
    from postmean.contract.plan import Plan
    from postmean.estimators.replica import Replica
    from postmean.pipeline import GenerateConfig, generate
    from postmean.runs.job import Job, resolve
    from postmean.runs.status import read_status
    from postmean.runs.verify import check_run
    from postmean.shards.run_folder import RunFolder
    from postmean.shards.run_paths import commit_path
    from postmean.storage.open import open_storage
    from postmean.training import TargetStream

    main()
