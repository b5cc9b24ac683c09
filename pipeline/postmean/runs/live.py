"""The live run: a fleet makes shards as trainers ask for them, a server passes them on, nothing is written to disk."""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from postmean.base.environment import STORE_CACHE
from postmean.base.errors import GenerationError
from postmean.base.extras import check_installed
from postmean.base.progress import Progress, ShowProgress, shown
from postmean.contract.plan import Plan
from postmean.fleet.actor import LiveActor, LiveShard
from postmean.fleet.open_fleet import RunTotals, open_fleet
from postmean.fleet.outcome import Outcome
from postmean.fleet.settings import ActorSettings
from postmean.runs.config import ServeConfig
from postmean.runs.job import for_cluster, prepare
from postmean.runs.live_shards import LiveShards
from postmean.runs.live_tls import tls_context
from postmean.runs.memory import actor_bytes
from postmean.shards.run_folder import RunFolder
from postmean.storage.memory import MemoryStorage
from postmean.storage.serve_token import find_or_make_token


@dataclass(frozen=True, kw_only=True)
class ServeReport:
    """What a call of serve did until it was stopped."""

    tuples: int
    """Of the run."""
    shards_made: int
    """Some of them may have been made more than once."""
    records_made: int
    retries: int
    seconds: float
    """Since readers could connect."""


class LiveDriver:
    """Passes the fleet's shards to waiting readers. A listener of the fleet.

    Args:
        progress: entered by the caller.
        stop: ends the run once it is set.
    """

    def __init__(self, plan: Plan, shards: LiveShards, progress: Progress, stop: threading.Event) -> None:
        self._plan, self._shards, self._progress, self._stop = plan, shards, progress, stop
        self.shards_made = self.records_made = 0

    def made(self, shard: LiveShard) -> None:
        self.shards_made += 1
        self.records_made += shard["records"]
        self._shards.done(shard["shard"], shard["files"])

    def failed(self, shard: int, cause: str) -> None:
        self._shards.failed(shard, cause)

    def tick(self, outcome: Outcome) -> None:
        if self._stop.is_set():
            self._shards.close()
        at = self._plan.first_record(self._shards.newest())
        held, actors = self._shards.held(), outcome.ready
        self._progress.update(at, f"{self.records_made:,} records made, {held} shards held, {actors} actors")


def serve(
    config: ServeConfig,
    on_ready: Callable[[int], None] = lambda port: None,
    progress: bool | ShowProgress = True,
    stop: threading.Event | None = None,
) -> ServeReport:
    """Plan a run and serve its shards as trainers ask for them, until it is stopped or interrupted. Writes nothing.

    Args:
        on_ready: called with the port once readers may connect.
        progress: whether to show the plan, then how far the slowest trainer is.
        stop: another thread sets it to end the call.
    Raises:
        ConfigError: settings that contradict each other, or an address or certificate that cannot be used.
        DataError: no store, or one that is not indexed.
        GenerationError: no actor could start.
    """
    check_installed("generate", "ray", "uvicorn")  # before it plans for minutes
    from postmean.runs.live_server import LiveServer  # imports uvicorn

    show, stop = shown(progress), stop or threading.Event()
    tls = tls_context(config.tls_certificate, config.tls_key)
    token = find_or_make_token()
    job = prepare(for_cluster(config, None), None, show)
    job.check_store(show)
    memory = MemoryStorage()
    job.begin(RunFolder(memory))
    shards = LiveShards(len(job.plan), config.depth, config.trainers)
    with (
        LiveServer(config.host, config.port, memory.files, shards, token, tls) as server,
        show("serve", job.plan.total_records, "records") as line,
        open_fleet(
            config.fleet,
            ActorSettings(threads_per_actor=job.manifest.threads_per_actor, device=job.manifest.device),
            actor=LiveActor,
            arguments=(memory.files, job.store.url, os.environ.get(STORE_CACHE)),
            shards=len(job.plan),
            totals=RunTotals(memory.url, job.manifest.tuples, job.plan.total_records),
            memory=actor_bytes(job, config.fleet),
        ) as fleet,
    ):
        on_ready(server.port)
        began, driver = time.monotonic(), LiveDriver(job.plan, shards, line, stop)
        outcome = fleet.make(shards, driver)
    if stop.is_set():
        return ServeReport(
            tuples=job.manifest.tuples,
            shards_made=driver.shards_made,
            records_made=driver.records_made,
            retries=outcome.retries,
            seconds=time.monotonic() - began,
        )
    raise GenerationError(f"no actor could make a shard: {outcome.stopped_by or next(iter(outcome.failed.values()))}")
