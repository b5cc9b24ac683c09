"""The live run: a fleet makes shards as trainers ask for them, a server hands them on, nothing touches a disk."""

from collections.abc import Callable

from postmean.base.errors import GenerationError
from postmean.base.progress import Progress
from postmean.contract.plan import Plan
from postmean.fleet.actor import LiveActor, LiveShard
from postmean.fleet.open_fleet import open_fleet
from postmean.fleet.outcome import Outcome
from postmean.runs.config import ServeConfig
from postmean.runs.job import Job
from postmean.runs.live_server import LiveServer
from postmean.runs.live_shards import LiveShards
from postmean.shards.run_folder import RunFolder
from postmean.storage.memory import MemoryStorage


class LiveDriver:
    """Hands the fleet's shards to those who wait for them. A listener of the fleet.

    Args:
        progress: entered by the caller.
    """

    def __init__(self, plan: Plan, shards: LiveShards, progress: Progress) -> None:
        self._plan, self._shards, self._progress = plan, shards, progress
        self._records_made = 0

    def made(self, shard: LiveShard) -> None:
        self._records_made += shard["records"]
        self._shards.done(shard["shard"], shard["files"])

    def failed(self, shard: int, cause: str) -> None:
        self._shards.failed(shard, cause)

    def tick(self, outcome: Outcome) -> None:
        at = self._plan.first_record(self._shards.newest())
        held, actors = self._shards.held(), outcome.ready
        self._progress.update(at, f"{self._records_made:,} records made, {held} shards held, {actors} actors")


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
    try:
        with (
            LiveServer(config.host, config.port, memory.files, shards, token) as server,
            Progress("serve", job.plan.total_records, "records") as progress,
            open_fleet(
                config.fleet,
                job.manifest,
                job.plan,
                memory.url,
                actor=LiveActor,
                arguments=(memory.files, store),
                shards=len(job.plan),
            ) as fleet,
        ):
            on_ready(server.port)
            outcome = fleet.make(shards, LiveDriver(job.plan, shards, progress))
    finally:
        shards.close()
    raise GenerationError(f"no actor could make a shard: {outcome.stopped_by or next(iter(outcome.failed.values()))}")
