"""Time and memory to plan a run: which of its tuples are records, and in which shard.

    python benchmarks/planning.py --tuples 3276800000 --images 1281167 --noise ict --json FILE

The certificate is made up (log-normal around sigma 4, the spread of 64x64 ImageNet): only the data set's size matters.
"""

import argparse
import json
import resource
import time
from pathlib import Path

import numpy as np

from postmean.base.cores import usable_cores
from postmean.base.progress import Progress
from postmean.contract.noise import ICTNoise, LogNormalNoise
from postmean.contract.plan import make_plan
from postmean.contract.process import EDMProcess
from postmean.contract.tuples import TupleSource


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tuples", type=int, default=400_000_000)
    parser.add_argument("--images", type=int, default=1_281_167)
    parser.add_argument("--noise", choices=("edm", "ict"), default="ict")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    noise = LogNormalNoise() if options.noise == "edm" else ICTNoise()
    source = TupleSource(seed=0, images=options.images, flips=False, noise=noise, process=EDMProcess())
    certified = np.exp(np.random.default_rng(0).normal(np.log(4.0), 0.25, options.images)).astype(np.float32)
    threads = usable_cores()
    began = time.perf_counter()
    with Progress("plan", options.tuples, "tuples") as progress:
        plan = make_plan(source, options.tuples, certified, 2048, threads, progress.update)
    report = {
        "tuples": options.tuples,
        "images": options.images,
        "noise": options.noise,
        "threads": threads,
        "seconds": time.perf_counter() - began,
        "core_seconds": time.process_time(),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "records": plan.total_records,
        "plan_file_bytes": len(plan.to_bytes()),
    }
    print(
        f"{report['tuples']:,} tuples in {report['seconds']:.1f} s ({report['core_seconds']:.0f} core-seconds), "
        f"{report['peak_bytes'] / 1e9:.2f} GB at most; "
        f"{report['records']:,} records, plan of {report['plan_file_bytes'] / 1e6:.1f} MB"
    )
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
