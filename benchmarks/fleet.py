"""How the fleet scales: two actors against one, and the dispatcher's own cost with many actors and a million shards.

python benchmarks/fleet.py actors --store cifar10.store      # records/s of 1 and of 2 actors, side by side
python benchmarks/fleet.py dispatcher                        # 64 actors of no cost on 8 nodes of this machine
"""

import argparse
import json
import os
import resource
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from indexed import make_index


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    actors = kinds.add_parser("actors")
    actors.add_argument("--store", type=Path, required=True, help="image store; it is indexed if it is not")
    actors.add_argument("--preset", default="edm-cifar10")
    actors.add_argument("--tuples", type=int, default=600_000)
    actors.add_argument("--rounds", type=int, default=3)
    dispatcher = kinds.add_parser("dispatcher")
    dispatcher.add_argument("--nodes", type=int, default=8)
    dispatcher.add_argument("--actors", type=int, default=64)
    dispatcher.add_argument("--shards", type=int, default=1_000_000)
    dispatcher.add_argument("--seconds", type=float, default=120, help="stop after so long, the rest not dispatched")
    args = parser.parse_args()
    if args.kind == "actors":
        compare_actors(args.store, args.preset, args.tuples, args.rounds)
    else:
        dispatch(args.nodes, args.actors, args.shards, args.seconds)


def compare_actors(store: Path, preset: str, tuples: int, rounds: int) -> None:
    """Print records/s of 1 and of 2 actors, one core each, between their first and their last shards."""
    make_index(store, preset)
    ratios = []
    print(f"{'actors':>6} {'records/s':>10} {'seconds':>8}")
    for _ in range(rounds):
        rates = {}
        for actors in (1, 2):
            with tempfile.TemporaryDirectory() as out:
                began = time.monotonic()
                command = [sys.executable, "-m", "postmean", "generate", preset, f"--store={store}"]
                more = [f"--out={out}", f"--tuples={tuples}", f"--actors={actors}", "--records-per-shard=512"]
                done = subprocess.run([*command, *more], capture_output=True, text=True)
                if done.returncode:
                    raise SystemExit(done.stderr)
                rates[actors] = _steady_rate(Path(out), actors)
                print(f"{actors:>6} {rates[actors]:>10,.0f} {time.monotonic() - began:>8.1f}", flush=True)
        ratios.append(rates[2] / rates[1] / 2)
    print(f"efficiency of 2 actors: median {statistics.median(ratios):.2f} of {[round(r, 2) for r in ratios]}")


def _steady_rate(out: Path, actors: int) -> float:
    """Records per second from when every actor has made shards to just before the first runs out."""
    commits = sorted((out / "commits").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    first, last = 2 * actors, len(commits) - actors - 1
    if last <= first:
        raise SystemExit(f"{len(commits)} shards are too few: pass more --tuples")
    records = sum(json.loads(path.read_text())["records"] for path in commits[first + 1 : last + 1])
    seconds = (commits[last].stat().st_mtime_ns - commits[first].stat().st_mtime_ns) / 1e9
    return records / seconds


class NoCost:
    """An actor whose shards cost nothing."""

    def placed(self) -> None:
        pass

    def load(self) -> None:
        pass

    def make(self, shard: int) -> dict[str, Any]:
        return {"shard": shard, "tuples": 1, "records": 1, "bytes": 1, "seconds": 0.0}


def dispatch(nodes: int, actors: int, shards: int, seconds: float) -> None:
    """Print the dispatcher's time per shard and the driver's memory."""
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    import ray
    from ray.cluster_utils import Cluster

    from postmean.fleet.backlog import PlannedShards
    from postmean.fleet.dispatcher import Dispatcher
    from postmean.fleet.ray_calls import RayCalls
    from postmean.fleet.ray_thread import RayThread
    from postmean.fleet.settings import FleetSettings

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(nodes):
        cluster.add_node(num_cpus=-(-actors // nodes), object_store_memory=80 << 20)
    ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)
    print(f"{nodes} nodes of {actors // nodes} CPUs, {actors} actors, a plan of {shards:,} shards", flush=True)
    before, beginning = _memory(), time.perf_counter()
    backlog = PlannedShards(range(shards))
    backlog.limit = actors  # one shard per actor, so that all are hired; no more until all are ready
    began, cpu, done = 0.0, 0.0, 0

    class StartAndStop:
        """Releases the shards once all actors are ready, and ends the run when its time is over."""

        def made(self, shard: Any) -> None:
            pass

        def failed(self, shard: int, cause: str) -> None:
            pass

        def tick(self, outcome: Any) -> None:
            nonlocal began, cpu, done
            if outcome.ready == actors and backlog.limit is not None:
                print(f"all actors ready after {time.perf_counter() - beginning:.0f} s", flush=True)
                backlog.limit, began, cpu, done = None, time.perf_counter(), time.process_time(), outcome.done
            if began and time.perf_counter() - began > seconds:
                backlog.is_closed = True

    calls = RayCalls(RayThread(), NoCost, (), {"num_cpus": 1, "max_restarts": 0})
    fleet = FleetSettings(actors=actors, min_actors=actors, attempts=3, shard_seconds=600.0, start_seconds=600.0)
    outcome = Dispatcher(calls, fleet, actors, backlog, [StartAndStop()]).run()
    wall, used, done = time.perf_counter() - began, time.process_time() - cpu, outcome.done - done
    print(f"{done:,} shards in {wall:.1f} s: {done / wall:,.0f} a second")
    print(f"driver: {1e6 * wall / done:.0f} us a shard, {1e6 * used / done:.0f} us of CPU time")
    print(f"driver memory: {_memory() / 1e6:.0f} MB at most, {(_memory() - before) / 1e6:.0f} MB of it for the run")
    ray.shutdown()
    cluster.shutdown()


def _memory() -> int:
    """Peak memory of this process in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
