"""Generation: a job's missing shards through the fleet into the run folder."""

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from postmean.base.errors import GenerationError, MismatchError
from postmean.base.progress import Progress
from postmean.base.serialise import to_dict
from postmean.fleet.actor import EstimatorActor, ShardDone
from postmean.fleet.backlog import PlannedShards
from postmean.fleet.open_fleet import fleet
from postmean.fleet.outcome import Outcome
from postmean.runs.commits import committed_shards
from postmean.runs.config import GenerateConfig
from postmean.runs.failures import failed_shards, remove_failure, write_failure
from postmean.runs.job import Job
from postmean.runs.lease import Lease
from postmean.runs.pace import Pace
from postmean.runs.status import DriverLog
from postmean.shards.positions import TRAINERS
from postmean.shards.run_folder import RunFolder
from postmean.shards.run_paths import CERTIFIED_SIGMA, COMMITS, FAILURES, PLAN

CONFIG = "config.json"


@dataclass(frozen=True, kw_only=True)
class GenerateReport:
    """What a call of generate did."""

    out: str
    tuples: int
    records: int
    shards: int
    written: int
    """Shards written by this call."""
    all_finished: bool
    """Whether it ended, with shards left to make, because all trainers had finished."""
    retries: int
    seconds: float
    records_per_second: float
    """Of this call, start of the fleet included."""


def generate(config: GenerateConfig, job: Job, run: RunFolder) -> GenerateReport:
    """Write every missing shard; calling it again resumes, a finished run is left as it is, more tuples extend it.

    Raises:
        GenerationError: another driver is at work there; or shards failed for good: these are listed in OUT/failures
            and tried again by the next call; or no trainer came for what was made ahead.
    """
    began = time.monotonic()
    outcome, written, pace = None, [], None
    if not is_finished(job, run):
        log = DriverLog(run.storage)
        with Lease(run.storage, log.write) as lease:
            _begin(config, job, run)
            committed = committed_shards(run)
            missing = sorted(set(range(len(job.plan))) - committed.keys())
            left = sum(job.plan[shard].records for shard in missing)
            log.start(left, sum(committed.values()))
            backlog = PlannedShards(missing)
            try:
                if missing:
                    with _pace(config, run, backlog) as pace:
                        done = job.plan.total_records - left
                        outcome = _run_fleet(config, job, run, backlog, (lease, log, pace), done, written)
            finally:
                run.storage.clean_temporary()  # of actors that were killed while they wrote
            with suppress(GenerationError):  # a full disk, of which the shards have told
                log.write()
    elif config.follow.delete_consumed:
        _pace(config, run, PlannedShards([])).delete_all()
    seconds = time.monotonic() - began
    records = sum(job.plan[shard].records for shard in written)
    report = GenerateReport(
        out=run.storage.url,
        tuples=job.manifest.tuples,
        records=job.plan.total_records,
        shards=len(job.plan),
        written=len(written),
        all_finished=pace is not None and pace.all_finished,
        retries=outcome.retries if outcome else 0,
        seconds=seconds,
        records_per_second=records / seconds if written else 0.0,
    )
    _forget_failures(run, outcome)
    _raise_failures(outcome, job, run)
    if pace is not None and pace.is_stuck:
        raise GenerationError(
            f"{run.storage.url}: no trainer took a batch for {config.follow.trainer_seconds:g} s, with shards made "
            f"--ahead {config.follow.ahead}: see {run.storage.url}/{TRAINERS}, remove the file of a trainer that is "
            "gone, start the others and run the same command again"
        )
    return report


def is_finished(job: Job, run: RunFolder) -> bool:
    """Whether every shard of the job is committed."""
    complete = run.has_manifest() and run.storage.exists(PLAN)
    complete = complete and (job.certified_sigma is None or run.storage.exists(CERTIFIED_SIGMA))
    return complete and run.read_manifest() == job.manifest and len(committed_shards(run)) == len(job.plan)


def _begin(config: GenerateConfig, job: Job, run: RunFolder) -> None:
    run.storage.clean_temporary()
    fresh = RunFolder(run.storage)  # another driver may have been here since the job was prepared
    stored = fresh.read_manifest() if fresh.has_manifest() else None
    if stored is not None and job.manifest.continuing(stored, run.storage.url) != job.manifest:
        raise MismatchError(f"{run.storage.url}: another command changed this run meanwhile: run yours again")
    if stored is None and run.storage.list(COMMITS):
        raise GenerationError(
            f"{run.storage.url}: shards of a run without a manifest: remove the folder or pass another --out"
        )
    if stored != job.manifest:  # the run begins, or is extended
        job.begin(run)
        run.storage.put(CONFIG, (json.dumps(to_dict(config), indent=1) + "\n").encode())
    elif not run.storage.exists(PLAN) or (job.certified_sigma is not None and not run.storage.exists(CERTIFIED_SIGMA)):
        job.begin(run)  # they were removed because they were damaged, and come out the same


def _pace(config: GenerateConfig, run: RunFolder, backlog: PlannedShards) -> Pace:
    follow = config.follow
    return Pace(run, backlog, follow.ahead, follow.trainers, follow.delete_consumed, follow.trainer_seconds)


def _run_fleet(
    config: GenerateConfig,
    job: Job,
    run: RunFolder,
    backlog: PlannedShards,
    watch: tuple[Lease, DriverLog, Pace],
    done: int,
    written: list[int],
) -> Outcome:
    """Make the backlog's shards, after `done` records; those that were written are appended to `written`."""
    lease, log, pace = watch
    out, store = run.storage.url, str(job.store.path.resolve())
    failed_before = set(failed_shards(run.storage))

    def start_actor(options: dict[str, Any]) -> Any:
        import ray

        return ray.remote(EstimatorActor).options(**options).remote(out, store)

    def on_done(shard: ShardDone) -> None:
        nonlocal done
        backlog.settle(shard["shard"])
        done += shard["records"]
        written.append(shard["shard"])
        log.add(shard["records"], shard["bytes"])
        row = job.plan[shard["shard"]]
        metrics.done(row.last_tuple - row.first_tuple + 1)
        if shard["shard"] in failed_before:
            remove_failure(run.storage, shard["shard"])
        progress.update(done)

    def on_failed(shard: int, cause: str) -> None:
        backlog.settle(shard)
        metrics.gave_up()
        with suppress(GenerationError):  # a full disk, which is the shard's own cause too
            write_failure(run.storage, job.plan[shard], cause)

    def on_tick(outcome: Outcome) -> None:
        lease.check()
        pace.check()
        log.retries = outcome.retries
        metrics.tick(outcome)
        if not outcome.ready:
            progress.start_at(done)  # Ray and the replicas take half a minute, which is no part of the rate

    with (
        Progress("generate", job.plan.total_records, "records") as progress,
        fleet(config.fleet, job.manifest, len(backlog), start_actor) as dispatcher,
    ):
        from postmean.fleet.metrics import DriverMetrics  # imports ray, whose environment is set only now

        metrics = DriverMetrics(out, job.manifest.tuples, job.plan.total_records)
        progress.start_at(done)
        return dispatcher.run(backlog, on_done, on_failed, on_tick)


def _forget_failures(run: RunFolder, outcome: Outcome | None) -> None:
    """Take back failures of shards that are committed all the same, by actors whose answers the network lost."""
    failed = failed_shards(run.storage)
    if not failed:
        return
    committed = committed_shards(run)
    for shard in failed:
        if shard in committed:
            remove_failure(run.storage, shard)
            if outcome:
                outcome.failed.pop(shard, None)


def _raise_failures(outcome: Outcome | None, job: Job, run: RunFolder) -> None:
    """Raise GenerationError where shards failed or were not tried."""
    if outcome and outcome.failed:
        shard, cause = next(iter(sorted(outcome.failed.items())))
        rest = f", {outcome.untried} were not tried" if outcome.untried else ""
        rest += f" ({outcome.stopped_by})" if outcome.stopped_by else ""
        raise GenerationError(
            f"{len(outcome.failed)} of {len(job.plan)} shards failed{rest}, first shard {shard:06d}: {cause}: "
            f"see {run.storage.url}/{FAILURES}, mend the cause and run the same command again"
        )
    if outcome and outcome.untried:
        raise GenerationError(
            f"{outcome.untried} of {len(job.plan)} shards were not tried, as no actor could start: "
            f"{outcome.stopped_by}: mend the cause and run the same command again"
        )
