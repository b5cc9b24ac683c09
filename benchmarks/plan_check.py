"""Predictions of `postmean plan` against what `postmean generate` then takes, for several jobs.

    python benchmarks/plan_check.py --store cifar10.store [--seconds 45] [--sample sample.store] --json FILE

Each job is planned, given enough tuples to take about `--seconds`, planned again and generated, back to back. Memory is
the largest of any actor, without the memory-mapped store. CPU is the actors' CPU time per record, including loading: it
tells a wrong plan from a busy machine. --sample names a store of fewer images of the same data set: each job is also
planned from that (--images) and compared with the same run.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from indexed import make_index

JOBS = {
    "edm auto": ("edm-cifar10", "--no-flips", "--estimator=auto"),
    "edm knn-snis": ("edm-cifar10", "--no-flips", "--estimator=knn-snis"),
    "edm exact": ("edm-cifar10", "--no-flips", "--estimator=exact"),
    "edm conditional": ("edm-cifar10", "--no-flips", "--conditional", "--estimator=auto"),
    "ict auto": ("ict-cifar10", "--no-flips", "--estimator=auto"),
}
"""Presets differ in noise and solver alone: they serve any store."""

_COLUMNS = ("seconds", "records", "bytes", "memory", "cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", required=True, help="image store; it is indexed if it is not")
    parser.add_argument("--sample", help="store of a random sample of the same images")
    parser.add_argument("--seconds", type=float, default=45, help="of a run, about")
    parser.add_argument("--jobs", nargs="*", choices=tuple(JOBS), default=tuple(JOBS))
    parser.add_argument("--actors", type=int, nargs="*", default=(1, 2))
    parser.add_argument("--records-per-shard", type=int, default=512, help="small enough for several shards an actor")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    print(f"predicted / measured\n{'job':<18}{'actors':>6}{'tuples':>10}" + "".join(f"{c:>29}" for c in _COLUMNS))
    for job in options.jobs:
        for store in filter(None, (options.store, options.sample)):
            make_index(store, JOBS[job][0], flips=False, conditional="--conditional" in JOBS[job])
        for actors in options.actors:
            rows.append(check(options, job, actors))
            print_row(rows[-1])
    off = [abs(r["predicted"]["seconds"] / r["measured"]["seconds"] - 1) for r in rows]
    print(f"seconds: {sum(o <= 0.25 for o in off)} of {len(off)} runs within 25 %, the worst is off by {max(off):.0%}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def check(options: argparse.Namespace, job: str, actors: int) -> dict:
    """One job: planned, generated, compared."""
    settings = [*JOBS[job], f"--actors={actors}", f"--records-per-shard={options.records_per_shard}", "--json"]
    store = f"--store={options.store}"
    pilot = command("plan", *settings, store, "--tuples=1000000")
    # whole rounds of shards: in a short run, the idle actors of a partial last round would count too much
    a_round = options.records_per_shard * actors
    rounds = max(1, round(options.seconds * actors * pilot["records_per_second_per_actor"] / a_round))
    tuples = round(rounds * a_round * pilot["tuples"] / pilot["records"])
    plan = command("plan", *settings, store, f"--tuples={tuples}")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        measured = generate(*settings, store, f"--tuples={tuples}", f"--out={out}")
        measured["bytes"] = sum(path.stat().st_size for path in (out / "shards").iterdir())
    row = {"job": job, "actors": actors, "tuples": tuples, "predicted": predicted(plan), "measured": measured}
    if options.sample:
        images = f"--images={plan['images']}"
        row["from_sample"] = predicted(
            command("plan", *settings, f"--store={options.sample}", images, f"--tuples={tuples}")
        )
    return row


def predicted(plan: dict) -> dict:
    """The plan's values of what is measured."""
    return {
        "seconds": plan["seconds"],
        "records": plan["records"],
        "bytes": plan["bytes"],
        "memory": plan["memory_bytes_per_actor"],
        "cpu": 1 / plan["records_per_second_per_actor"],
    }


def command(*arguments: str) -> dict:
    """The report of one command."""
    done = subprocess.run([sys.executable, "-m", "postmean", *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def generate(*arguments: str) -> dict:
    """Seconds, records, an actor's most memory and CPU seconds per record, sampled while the command runs."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "postmean", "generate", *arguments], stdout=subprocess.PIPE, text=True
    )
    memory, cpu, idle = 0, {}, {}
    while process.poll() is None:
        for actor in actors_of(process.pid):
            try:
                memory = max(memory, own_bytes(actor))
                cpu[actor] = cpu_seconds(actor)
            except (OSError, KeyError, ValueError, IndexError):
                continue  # it has ended
            idle.setdefault(actor, cpu[actor])
        time.sleep(0.05)
    seconds = time.monotonic() - began
    report = json.loads(process.communicate()[0])
    return {
        "seconds": seconds,
        "records": report["records"],
        "memory": memory,
        "cpu": sum(cpu[actor] - idle[actor] for actor in cpu) / report["records"],
    }


def actors_of(pid: int) -> list[int]:
    """Process ids of the actors below this process."""
    parents, actors = {}, []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                if (folder / "cmdline").read_bytes().startswith(b"ray::EstimatorActor"):
                    actors.append(int(folder.name))
            except OSError:
                continue
    return [actor for actor in actors if pid in ancestors(actor, parents)]


def ancestors(pid: int, parents: dict[int, int]) -> set[int]:
    seen = set()
    while pid in parents and pid not in seen:
        seen.add(pid)
        pid = parents[pid]
    return seen


def own_bytes(pid: int) -> int:
    """Memory of a process without the memory-mapped store."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) * 1024


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / 100  # USER_HZ


def print_row(row: dict) -> None:
    names = {"predicted": "", "from_sample": "  from a sample"}
    for name, title in names.items():
        if name in row:
            cells = [compared(c, row[name][c], row["measured"][c]) for c in _COLUMNS]
            print(
                f"{title or row['job']:<18}{row['actors']:>6}{row['tuples']:>10,}" + "".join(f"{c:>29}" for c in cells)
            )
    sys.stdout.flush()


def compared(column: str, predicted: float, measured: float) -> str:
    scale, unit = {"bytes": (1e-6, "MB"), "memory": (1e-6, "MB"), "cpu": (1e3, "ms"), "seconds": (1, "s")}.get(
        column, (1, "")
    )
    return f"{predicted * scale:,.4g} / {measured * scale:,.4g} {unit} {predicted / measured:.2f}"


if __name__ == "__main__":
    main()
