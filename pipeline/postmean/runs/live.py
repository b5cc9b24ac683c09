"""The live run: a fleet makes shards as trainers ask for them, a server passes them on, nothing is written to disk."""

from collections.abc import Callable
from typing import NoReturn

from postmean.base.errors import GenerationError
from postmean.base.extras import check_installed
from postmean.base.progress import NoProgress, Progress, ShowProgress
from postmean.contract.plan import Plan
from postmean.fleet.actor import LiveActor, LiveShard
from postmean.fleet.open_fleet import open_fleet
from postmean.fleet.outcome import Outcome
from postmean.runs.config import ServeConfig
from postmean.runs.job import for_cluster, prepare
from postmean.runs.live_shards import LiveShards
from postmean.runs.live_tls import tls_context
from postmean.shards.run_folder import RunFolder
from postmean.storage.memory import MemoryStorage
from postmean.storage.serve_token import find_or_make_token


class LiveDriver:
    """Passes the fleet's shards to waiting readers. A listener of the fleet.

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


def serve(
    config: ServeConfig, on_ready: Callable[[int], None] = lambda port: None, progress: ShowProgress = NoProgress
) -> NoReturn:
    """Plan a run and serve its shards as trainers ask for them, until interrupted. Writes nothing.

    Args:
        on_ready: called with the port once readers may connect.
        progress: shows the plan, then how far the slowest trainer is.
    Raises:
        ConfigError: settings that contradict each other, or an address or certificate that cannot be used.
        DataError: no store, or one that is not indexed.
        GenerationError: no actor could start.
    """
    check_installed("generate", "ray", "uvicorn")  # before it plans for minutes
    from postmean.runs.live_server import LiveServer  # imports uvicorn

    tls = tls_context(config.tls_certificate, config.tls_key)
    token = find_or_make_token()
    job = prepare(for_cluster(config, None), None, progress)
    job.check_store(progress)
    memory = MemoryStorage()
    job.begin(RunFolder(memory))
    shards = LiveShards(len(job.plan), config.depth, config.trainers)
    store = str(job.store.path.resolve())
    with (
        LiveServer(config.host, config.port, memory.files, shards, token, tls) as server,
        progress("serve", job.plan.total_records, "records") as line,
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
        outcome = fleet.make(shards, LiveDriver(job.plan, shards, line))
    raise GenerationError(f"no actor could make a shard: {outcome.stopped_by or next(iter(outcome.failed.values()))}")
