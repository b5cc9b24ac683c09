"""The driver of a run that is stored: makes the missing shards with a fleet and records progress in the run folder."""

import os
from contextlib import suppress

import numpy as np

from postmean.base.environment import STORE_CACHE
from postmean.base.errors import GenerationError
from postmean.base.progress import ShowProgress
from postmean.fleet.actor import EstimatorActor, ShardDone
from postmean.fleet.backlog import PlannedShards
from postmean.fleet.open_fleet import RunTotals, open_fleet
from postmean.fleet.outcome import Outcome
from postmean.fleet.settings import ActorSettings
from postmean.runs.config import GenerateConfig
from postmean.runs.failures import failed_shards, remove_failure, write_failure
from postmean.runs.job import Job
from postmean.runs.lease import Lease
from postmean.runs.memory import actor_bytes
from postmean.runs.pace import Pace
from postmean.runs.status import DriverLog
from postmean.shards.run_folder import RunFolder


class FolderDriver:
    """Drives one call of generate. A listener of the fleet.

    Args:
        missing: shards to make, rising, int64 [n].
        lease: held by this driver; losing it ends the run.
        log: told of every shard.
        progress: shows the records.
    """

    def __init__(
        self,
        config: GenerateConfig,
        job: Job,
        run: RunFolder,
        missing: np.ndarray,
        lease: Lease,
        log: DriverLog,
        progress: ShowProgress,
    ) -> None:
        self._config, self._job, self._run, self._lease, self._log = config, job, run, lease, log
        self._backlog = PlannedShards(missing)
        self._failed_before = set(failed_shards(run.storage))
        self._records_done = job.plan.total_records - int(job.plan.records[missing].sum())
        self._progress = progress("generate", job.plan.total_records, "records")
        self.pace = pace_of(config, run, self._backlog)
        """Says whether the trainers ended the run."""
        self.written = self.records_written = 0
        """Shards made so far, and their records."""

    def run(self) -> Outcome:
        """Make the missing shards, as far as possible."""
        out, store, manifest = self._run.storage.url, self._job.store.url, self._job.manifest
        with (
            self.pace,
            self._progress,
            open_fleet(
                self._config.fleet,
                ActorSettings(threads_per_actor=manifest.threads_per_actor, device=manifest.device),
                actor=EstimatorActor,
                arguments=(out, store, os.environ.get(STORE_CACHE)),
                shards=len(self._backlog),
                totals=RunTotals(out, manifest.tuples, self._job.plan.total_records),
                memory=actor_bytes(self._job, self._config.fleet),
            ) as fleet,
        ):
            self._progress.start_at(self._records_done)
            return fleet.make(self._backlog, self)

    def made(self, shard: ShardDone) -> None:
        number = shard["shard"]
        self._backlog.settle(number)
        self._records_done += shard["records"]
        self.written += 1
        self.records_written += shard["records"]
        self._log.add(shard["records"], shard["bytes"])
        if number in self._failed_before:
            remove_failure(self._run.storage, number)
        self._progress.update(self._records_done)

    def failed(self, shard: int, cause: str) -> None:
        self._backlog.settle(shard)
        with suppress(GenerationError):  # disk full: that is why the shard failed too
            write_failure(self._run.storage, self._job.plan[shard], cause)

    def tick(self, outcome: Outcome) -> None:
        self._lease.check()
        self.pace.check()
        self._log.retries = outcome.retries
        if not outcome.ready:
            # Ray and the replicas take half a minute to start: keep it out of the rate
            self._progress.start_at(self._records_done)


def pace_of(config: GenerateConfig, run: RunFolder, backlog: PlannedShards) -> Pace:
    """The pace given by the settings."""
    follow = config.follow
    return Pace(run, backlog, follow.ahead, follow.trainers, follow.delete_consumed, follow.trainer_seconds)
