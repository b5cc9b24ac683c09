"""Training speed by source of targets, and memory over a long stream.

    python benchmarks/streaming.py speed --store cifar10.store     # live and from shards, against single-sample targets
    python benchmarks/streaming.py memory --store cifar10.store    # of server and reader, live, without training

The trainer makes single-sample targets itself: no estimator, no shards, nothing to wait for. One network trains on each
kind of batches in turns, some steps at a time; start-up is not counted. The trainer has one thread and the fleet one
actor, so that each has a core on a two-core machine. The network is small: training is fast and needs many targets.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from indexed import make_index

from postmean.contract.image_store import ImageStore
from postmean.contract.plan import make_plan
from postmean.shards.run_folder import RunFolder
from postmean.storage.open import open_storage
from postmean.training.model.preconditioning import Denoiser
from postmean.training.presets import PRESETS
from postmean.training.stream.batch import TargetBatch
from postmean.training.stream.stream import TargetStream

COMMAND = [sys.executable, "-m", "postmean"]
os.environ["NO_PROXY"] = "127.0.0.1"
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}
BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    for name, size in (("speed", 25), ("memory", 20_000)):
        kind = kinds.add_parser(name)
        kind.add_argument("--store", type=Path, required=True, help="image store; it is indexed if it is not")
        kind.add_argument("--preset", default="edm-cifar10")
        kind.add_argument("--steps", type=int, default=size)
        kind.add_argument("--rounds", type=int, default=8)
    args = parser.parse_args()
    make_index(args.store, args.preset)
    with tempfile.TemporaryDirectory() as folder:
        if args.kind == "speed":
            speed(args.store, args.preset, args.steps, args.rounds, Path(folder))
        else:
            memory(args.store, args.preset, args.steps)


def speed(store: Path, preset: str, steps: int, rounds: int, folder: Path) -> None:
    """Print images/s of training on each kind of targets, round after round."""
    job = [preset, f"--store={store}", f"--tuples={(1 + rounds * steps) * BATCH}", "--actors=1"]
    job.append("--records-per-shard=64")  # several shards per round
    run("generate", *job, f"--out={folder / 'shards'}")
    single = single_sample(folder / "shards", folder / "single")
    step = training_step(preset, store)
    with serving(job) as (_, url):
        streams = {
            "single-sample": TargetStream.open(single, store, BATCH),
            "shards": TargetStream.open(folder / "shards", store, BATCH),
            "live": TargetStream.open(url, store, BATCH, follow_seconds=600),
        }
        batches = {name: iter(stream) for name, stream in streams.items()}
        for name in streams:
            step(next(batches[name]))
        ratios: dict[str, list[float]] = {name: [] for name in streams}
        waits = dict.fromkeys(streams, 0.0)
        print("images/s   " + "".join(f"{name:>15}" for name in streams))
        for number in range(rounds):
            seconds = {}
            for name, stream in streams.items():
                began, waited = time.perf_counter(), stream.wait_seconds
                for _ in range(steps):
                    step(next(batches[name]))
                seconds[name] = time.perf_counter() - began
                waits[name] += (stream.wait_seconds - waited) / seconds[name] / rounds
                ratios[name].append(seconds["single-sample"] / seconds[name])
            print(f"round {number:<5}" + "".join(f"{steps * BATCH / s:>15.2f}" for s in seconds.values()), flush=True)
        for name, stream in streams.items():
            batches[name].close()
            stream.close()
    for name, speeds in ratios.items():
        print(
            f"{name}: waits {waits[name]:.3%}; {statistics.median(speeds):.3f} of the speed with single-sample targets"
        )


def training_step(preset: str, store: Path) -> Callable[[TargetBatch], None]:
    """A step of the preset's loss and optimiser on a small network, with one thread."""
    torch.set_num_threads(1)
    config = PRESETS[preset]
    network = replace(config.network, channels=16, layers_per_block=1)
    denoiser = Denoiser(network.build(ImageStore.open(store).image_shape, 0), config.preconditioning).train()
    optimiser = config.optimiser.make(denoiser.parameters())

    def step(batch: TargetBatch) -> None:
        optimiser.zero_grad(set_to_none=True)
        config.loss(denoiser, denoiser, replace(batch, label=None)).mean().backward()
        optimiser.step()

    return step


def single_sample(run: Path, out: Path) -> Path:
    """The same tuples with the source image as target: a run that certifies every tuple."""
    manifest = RunFolder(open_storage(run)).read_manifest()
    certified = np.full(manifest.store_shape[0], np.inf, np.float32)
    plan = make_plan(manifest.tuple_source(), manifest.tuples, certified, manifest.shards.records_per_shard)
    RunFolder(open_storage(out)).begin(manifest, plan, certified)
    return out


def run(*arguments: str) -> str:
    """Standard output of a command."""
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
            if printed := re.search(r"at (http://[0-9.:]+);", line):
                yield process.pid, printed[1]
                return
        raise SystemExit("postmean serve ended")
    finally:
        process.terminate()
        process.communicate()


def memory(store: Path, preset: str, steps: int) -> None:
    """Print the memory of reader and server during a live stream."""
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
    """Memory of a process in megabytes, without the memory-mapped store."""
    anonymous = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(anonymous[1]) / 1e3 if anonymous else 0.0


if __name__ == "__main__":
    main()
