"""Every estimator's tuples per second and error against float64, with and without the certificate, in one run.

    python benchmarks/estimators.py --data STORE_OR_SOURCE --noise edm|ict --json FILE

Each is measured as in throughput.py, in turns over the rounds; rates are medians, ratios are to the paper's way. The
certificate is for estimators of the exact mean: stf and single-sample estimate something else.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import numpy as np
from paper_way import PaperWay
from throughput import (
    SIGMAS,
    at_fixed_sigmas,
    enough_tuples,
    mse,
    noisy_rows,
    open_data,
    our_means,
    replica_for,
    run_ours,
    run_paper,
    searched_share,
)

from postmean.base.cores import usable_cores
from postmean.base.progress import Progress
from postmean.contract.image_store import to_unit
from postmean.engine.process_setup import prepare_process
from postmean.estimators.traits import table
from postmean.neighbours.self_join import self_join


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="image store, or a source that `postmean import` reads")
    parser.add_argument("--noise", choices=("edm", "ict"), required=True)
    parser.add_argument("--records", type=int, default=512, help="uncertified tuples a round and estimator")
    parser.add_argument("--baseline-tuples", type=int, default=256, help="tuples a round of the paper's way")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mse-tuples", type=int, default=16, help="tuples a sigma compared with float64")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    prepare_process(usable_cores())
    with tempfile.TemporaryDirectory() as folder:
        report = measure(open_data(options.data, Path(folder)), options)
    print_table(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


def measure(store, options: argparse.Namespace) -> dict:
    join = self_join(store, False, False)
    paper = PaperWay(to_unit(store.images).reshape(len(store), store.dim))
    ways = [
        (name, c)
        for name, traits in table().items()
        for c in ((True, False) if traits.estimates_exact_mean else (False,))
    ]
    replicas = {(name, c): replica_for(store, options.noise, name, join if c else None, False) for name, c in ways}
    source = replicas[ways[0]][0].tuple_source()
    first = 300_000 * 1024 if options.noise == "ict" else 0
    sizes = {way: enough_tuples(options.records, searched_share(source, r[2], first)) for way, r in replicas.items()}
    rates: dict = {way: [] for way in ways}
    baseline = []
    with Progress("estimators", (options.rounds + 1) * len(ways), "runs") as progress:
        runs = 0
        for turn in range(options.rounds + 1):
            if turn:
                baseline.append(run_paper(paper, store, source, first + turn * 4096, options.baseline_tuples))
            for way, (_, replica, certified) in replicas.items():
                # the first round warms up: page cache, norms, directions
                records = options.records if turn else max(1, options.records // 16)
                start = first + turn * sizes[way]
                rates[way].append(run_ours(replica, source, certified, start, sizes[way], records))
                runs += 1
                progress.update(runs)
    blocks, exacts = at_fixed_sigmas(store, source, options.mse_tuples, False)
    rows = []
    for way, (_, replica, certified) in replicas.items():
        errors = [mse(our_means(replica, store, source, certified, b), e) for b, e in zip(blocks, exacts, strict=True)]
        rate = statistics.median(rates[way][1:])
        rows.append(
            {
                "estimator": way[0],
                "certificate": way[1],
                "tuples_per_s": rate,
                "ratio": rate / statistics.median(baseline),
                "searched_share": searched_share(source, certified, first),
                "mse_by_sigma": by_sigma(errors),
            }
        )
    z = [noisy_rows(store, source, block) for block in blocks]
    paper_errors = [
        mse(paper.means(zs, b.sigma, np.random.default_rng(0)), e) for zs, b, e in zip(z, blocks, exacts, strict=True)
    ]
    return {
        "data": str(store.header.source.get("source", store.path)),
        "images": len(store),
        "dim": store.dim,
        "noise": options.noise,
        "threads": usable_cores(),
        "baseline_tuples_per_s": statistics.median(baseline),
        "baseline_mse_by_sigma": by_sigma(paper_errors),
        "estimators": rows,
    }


def by_sigma(errors: list[float]) -> list[dict[str, float]]:
    """Rows as in throughput.py."""
    return [{"sigma": sigma, "mse": error} for sigma, error in zip(SIGMAS, errors, strict=True)]


_SHOWN = (1.4, 2.8, 5.6, 11.0, 22.0, 45.0, 80.0)


def print_table(report: dict) -> None:
    print(f"{report['images']:,} x {report['dim']:,}, {report['noise']} noise, {report['threads']} threads")
    print(f"| estimator | certificate | tuples/s | ratio | MSE at σ = {' | '.join(map(str, _SHOWN))} |")
    print("|---" * (4 + len(_SHOWN)) + "|")
    errors = shown(report["baseline_mse_by_sigma"])
    print(f"| the paper's way | no | {report['baseline_tuples_per_s']:,.0f} | 1 | {errors} |")
    for row in report["estimators"]:
        errors = shown(row["mse_by_sigma"])
        kind = "yes" if row["certificate"] else "no"
        print(f"| {row['estimator']} | {kind} | {row['tuples_per_s']:,.0f} | {row['ratio']:.2g} | {errors} |")


def shown(rows: list[dict[str, float]]) -> str:
    return " | ".join(f"{row['mse']:.1e}" for row in rows if row["sigma"] in _SHOWN)


if __name__ == "__main__":
    main()
