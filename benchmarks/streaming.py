"""Training speed by where targets come from, and memory over a long stream.

    python benchmarks/streaming.py speed --store cifar10.store     # live and from shards, against single-sample targets
    python benchmarks/streaming.py memory --store cifar10.store    # of server and reader, live, without training

Single-sample targets are made by the trainer itself: no estimator, no shards, nothing to wait for. The trainer computes
with one thread and the fleet has one actor, so that each has a core of a machine with two. A small network makes the
trainer fast, and so the demand on targets high. Rates are those after the first tenth of the steps: start-up, also that
of the fleet, is not counted.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np

COMMAND = [sys.executable, "-m", "pipeline.cli.main"]
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1", "NO_PROXY": "127.0.0.1"}
BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    for name, size in (("speed", 100), ("memory", 20_000)):
        kind = kinds.add_parser(name)
        kind.add_argument("--store", type=Path, required=True, help="indexed with --flips")
        kind.add_argument("--preset", default="edm-cifar10")
        kind.add_argument("--steps", type=int, default=size)
        kind.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.kind == "speed":
            speed(args.store, args.preset, args.steps, args.rounds, Path(folder))
        else:
            memory(args.store, args.preset, args.steps)


def speed(store: Path, preset: str, steps: int, rounds: int, folder: Path) -> None:
    """Print images/s of training on each kind of targets, round after round."""
    job = [preset, f"--store={store}", f"--tuples={steps * BATCH}", "--actors=1"]
    run("generate", *job, f"--out={folder / 'shards'}")
    single = single_sample(folder / "shards", folder / "single")
    ratios: dict[str, list[float]] = {"shards": [], "live": []}
    print(f"{'targets':<14} {'images/s':>9} {'waits':>7}")
    for number in range(rounds):
        rates = {}
        for name in ("single-sample", "shards", "live"):
            out = folder / f"{name}-{number}"
            if name == "live":
                with serving(job) as (_, url):
                    found = train(store, preset, url, out, steps)
            else:
                found = train(store, preset, str(folder / "shards" if name == "shards" else single), out, steps)
            rates[name], waits = found
            print(f"{name:<14} {rates[name]:>9.2f} {waits:>7.2%}", flush=True)
        for name, found in ratios.items():
            found.append(rates[name] / rates["single-sample"])
    for name, found in ratios.items():
        print(f"{name}: {statistics.median(found):.3f} of the speed with single-sample targets, median of {rounds}")


def single_sample(run: Path, out: Path) -> Path:
    """The same tuples with the source image as target: a run whose certificate has no end."""
    from pipeline.contract.plan import make_plan
    from pipeline.shards.run_folder import RunFolder
    from pipeline.shards.storage import open_storage

    manifest = RunFolder(open_storage(run)).read_manifest()
    certified = np.full(manifest.store_shape[0], np.inf, np.float32)
    folder = RunFolder(open_storage(out))
    folder.write_certified_sigma(certified)
    folder.write_plan(make_plan(manifest.tuple_source(), manifest.tuples, certified, manifest.records_per_shard))
    folder.write_manifest(manifest)
    return out


def train(store: Path, preset: str, targets: str, out: Path, steps: int) -> tuple[float, float]:
    """Images/s, and the share of the time waited for targets, after the first tenth of the steps."""
    place = [f"--store={store}", f"--targets={targets}", f"--out={out}", "--device=cpu"]
    size = [f"--batch-size={BATCH}", f"--steps={steps}", "--network.channels=16", "--network.layers-per-block=1"]
    if targets.startswith("http"):
        place.append("--follow-seconds=600")
    run("train", preset, *place, *size, f"--log-every={max(1, steps // 10)}")
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    images = [1000 * (late["kimg"] - early["kimg"]) for early, late in pairwise(lines)]
    seconds = [n / line["images_per_second"] for n, line in zip(images, lines[1:], strict=True)]
    waited = sum(line["data_wait_share"] * s for line, s in zip(lines[1:], seconds, strict=True))
    return sum(images) / sum(seconds), waited / sum(seconds)


def run(*arguments: str) -> str:
    """What a command prints."""
    done = subprocess.run([*COMMAND, *arguments], env=ONE_THREAD, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


@contextmanager
def serving(job: list[str]) -> Iterator[tuple[int, str]]:
    """Process id and URL of `postmean serve`."""
    process = subprocess.Popen([*COMMAND, "serve", *job, "--port=0"], env=ONE_THREAD, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"at (http://[0-9.:]+);", line):
                yield process.pid, found[1]
                return
        raise SystemExit("postmean serve ended")
    finally:
        process.terminate()
        process.communicate()


def memory(store: Path, preset: str, steps: int) -> None:
    """Print what reader and server have in memory as a live stream goes by."""
    from training.stream import TargetStream

    job = [preset, f"--store={store}", f"--tuples={steps * BATCH}", "--actors=1", "--records-per-shard=256"]
    print(f"{'tuples':>9} {'reader MB':>10} {'server MB':>10}")
    with serving(job) as (server, url):
        stream = TargetStream.open(url, store, BATCH, follow_seconds=600)
        for step, _ in enumerate(stream):
            if step % max(1, steps // 12) == 0:
                print(f"{step * BATCH:>9,} {_own(os.getpid()):>10.0f} {_own(server):>10.0f}", flush=True)
        print(f"waited {stream.wait_seconds:.1f} s in all")
        stream.close()


def _own(pid: int) -> float:
    """Megabytes of a process's own memory: the image store, which is mapped, does not count."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1e3 if found else 0.0


if __name__ == "__main__":
    main()
