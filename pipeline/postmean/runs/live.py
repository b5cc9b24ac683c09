"""The live run: a fleet makes shards as trainers ask for them, a server hands them on, nothing touches a disk."""

from collections.abc import Callable
from typing import Any

from postmean.base.errors import GenerationError
from postmean.base.progress import Progress
from postmean.fleet.actor import EstimatorActor, ShardDone
from postmean.fleet.open_fleet import fleet
from postmean.fleet.outcome import Outcome
from postmean.runs.config import ServeConfig
from postmean.runs.job import Job
from postmean.runs.live_server import LiveServer
from postmean.runs.live_shards import LiveShards
from postmean.shards.run_folder import RunFolder
from postmean.storage.memory import MemoryStorage


class LiveShard(ShardDone):
    """A shard with its files and commit record, by path."""

    files: dict[str, bytes]


class LiveActor(EstimatorActor):
    """An actor that returns its shards instead of committing them.

    Args:
        files: the run's manifest, plan and certificate.
        store: as for every actor.
    """

    def __init__(self, files: dict[str, bytes], store: str) -> None:
        self._memory = MemoryStorage(files)
        self._begin(RunFolder(self._memory), store)

    def make(self, shard: int) -> LiveShard:
        before = set(self._memory.files)
        done = super().make(shard)
        return LiveShard(**done, files={p: self._memory.files.pop(p) for p in set(self._memory.files) - before})


def serve(config: ServeConfig, job: Job, token: str, on_ready: Callable[[int], None]) -> None:
    """Serve until interrupted.

    Args:
        on_ready: called with the port once readers may connect.
    Raises:
        GenerationError: no actor could start.
    """
    memory = MemoryStorage()
    job.begin(RunFolder(memory))
    shards = LiveShards(len(job.plan), config.depth, config.trainers)
    store = str(job.store.path.resolve())
    made = 0

    def start_actor(options: dict[str, Any]) -> Any:
        import ray

        return ray.remote(LiveActor).options(**options).remote(memory.files, store)

    def on_done(shard: LiveShard) -> None:
        nonlocal made
        made += shard["records"]
        row = job.plan[shard["shard"]]
        metrics.done(row.last_tuple - row.first_tuple + 1)
        shards.done(shard["shard"], shard["files"])

    def on_failed(shard: int, cause: str) -> None:
        metrics.gave_up()
        shards.failed(shard, cause)

    def on_tick(outcome: Outcome) -> None:
        metrics.tick(outcome)
        at = job.plan.first_record(shards.newest())
        progress.update(at, f"{made:,} records made, {shards.held()} shards held, {outcome.ready} actors")

    try:
        with (
            LiveServer(config.host, config.port, memory.files, shards, token) as server,
            Progress("serve", job.plan.total_records, "records") as progress,
            fleet(config.fleet, job.manifest, len(job.plan), start_actor) as dispatcher,
        ):
            from postmean.fleet.metrics import DriverMetrics  # imports ray, whose environment is set only now

            metrics = DriverMetrics(memory.url, job.manifest.tuples, job.plan.total_records)
            on_ready(server.port)
            outcome = dispatcher.run(shards, on_done, on_failed, on_tick)
    finally:
        shards.close()
    raise GenerationError(f"no actor could make a shard: {outcome.stopped_by or next(iter(outcome.failed.values()))}")
