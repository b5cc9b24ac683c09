"""Generation: make a job's missing shards with the fleet and write them to the run folder."""

import time
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from postmean.base.errors import ConfigError, GenerationError, MismatchError
from postmean.base.extras import check_installed
from postmean.base.json_files import to_json
from postmean.base.paths import check_out
from postmean.base.progress import NoProgress, ShowProgress, shown
from postmean.fleet.backlog import PlannedShards
from postmean.fleet.outcome import Outcome
from postmean.runs.commits import committed_shards
from postmean.runs.config import GenerateConfig
from postmean.runs.failures import failed_shards, remove_failure
from postmean.runs.folder_driver import FolderDriver, pace_of
from postmean.runs.job import Job, for_cluster, prepare
from postmean.runs.lease import Lease, refuse_if_held
from postmean.runs.status import DriverLog
from postmean.shards.positions import TRAINERS
from postmean.shards.run_folder import RunFolder
from postmean.shards.run_paths import COMMITS, CONFIG, FAILURES
from postmean.storage.open import open_storage


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
    """Whether all trainers had finished, which ends a run even if shards are left to make."""
    retries: int
    seconds: float
    records_per_second: float
    """Of this call, including the start of the fleet."""


def generate(config: GenerateConfig, progress: bool | ShowProgress = True) -> GenerateReport:
    """Plan a run and write every missing shard. Calling it again resumes; more tuples extend the run.

    A finished run is left as it is.

    Args:
        progress: whether to show the plan, the reading of commit records, and the records.
    Raises:
        ConfigError: settings that contradict each other, or a dry run: `plan` is what it asks for.
        DataError: no store, or one that is not indexed.
        MismatchError: another run lies in the output.
        GenerationError: another driver is at work there; or shards failed for good: these are listed in OUT/failures
            and tried again by the next call; or no trainer came for what was made ahead.
    """
    if config.dry_run:
        raise ConfigError("--dry-run: generate writes shards: call plan for what they take")
    check_installed("generate", "ray")  # before it plans for minutes
    show = shown(progress)
    run = RunFolder(open_storage(config.out))
    check_out(run.storage.url, "a run of `postmean generate`")
    refuse_if_held(run.storage)
    config = for_cluster(config, run)
    job = prepare(config, run, show)
    began = time.monotonic()
    outcome, driver = Outcome(), None
    committed = committed_shards(run, show) if _is_begun(job, run) else None
    if committed is None or not committed.all():
        outcome, driver = _make_missing(config, job, run, committed, show)
    elif config.follow.delete_consumed:
        pace_of(config, run, PlannedShards([])).delete_all()
    seconds = time.monotonic() - began
    written = driver.written if driver else 0
    report = GenerateReport(
        out=run.storage.url,
        tuples=job.manifest.tuples,
        records=job.plan.total_records,
        shards=len(job.plan),
        written=written,
        all_finished=driver is not None and driver.pace.all_finished,
        retries=outcome.retries,
        seconds=seconds,
        records_per_second=driver.records_written / seconds if driver else 0.0,
    )
    _forget_failures(run, outcome)
    _raise_failures(outcome, job, run)
    if driver is not None and driver.pace.is_stuck:
        raise GenerationError(
            f"{run.storage.url}: no trainer took a batch for {config.follow.trainer_seconds:g} s, with shards made "
            f"--ahead {config.follow.ahead}: see {run.storage.url}/{TRAINERS}, remove the file of a trainer that is "
            "gone, start the others and run the same command again"
        )
    return report


def _make_missing(
    config: GenerateConfig, job: Job, run: RunFolder, committed: np.ndarray | None, progress: ShowProgress
) -> tuple[Outcome, FolderDriver]:
    """Begin, extend or continue the run, while no other driver may.

    Args:
        committed: bytes of each shard, where they were just read: a shard that another driver commits before this one
            holds the lease is made twice, with the same bytes.
    """
    log = DriverLog(run.storage)
    with Lease(run.storage, log.write) as lease:
        _begin(config, job, run)
        if committed is None:
            committed = committed_shards(run, progress)
        missing = np.flatnonzero(committed == 0)
        log.start(job.plan.total_records, int(job.plan.records[missing].sum()), committed)
        if len(missing):
            job.check_store(progress)
        driver = FolderDriver(config, job, run, missing, lease, log, progress)
        try:
            outcome = driver.run() if len(missing) else Outcome()
        finally:
            run.storage.clean_temporary()  # left by actors that were killed while writing
        with suppress(GenerationError):  # disk full: already reported for the shards
            log.write()
    return outcome, driver


def is_finished(job: Job, run: RunFolder, progress: ShowProgress = NoProgress) -> bool:
    """Whether every shard of the job is committed."""
    return _is_begun(job, run) and bool(committed_shards(run, progress).all())


def _is_begun(job: Job, run: RunFolder) -> bool:
    """Whether the output holds this run, as long as the job, with all files that do not belong to a shard."""
    return run.has_manifest() and run.read_manifest() == job.manifest and not run.lacks_files()


def _begin(config: GenerateConfig, job: Job, run: RunFolder) -> None:
    run.storage.clean_temporary()
    fresh = RunFolder(run.storage)  # another driver may have been here since the job was prepared
    stored = fresh.read_manifest() if fresh.has_manifest() else None
    if stored is not None and job.manifest.continuing(stored, run.storage.url) != job.manifest:
        raise MismatchError(f"{run.storage.url}: another command changed this run meanwhile: run yours again")
    if stored is None and next(run.storage.each(COMMITS), None) is not None:
        raise GenerationError(
            f"{run.storage.url}: shards of a run without a manifest: remove the folder or pass another --out"
        )
    if stored != job.manifest:  # the run begins, or is extended
        job.begin(run)
        # the whole path of a store: pages and `inspect` look for it from other folders
        run.storage.put(CONFIG, to_json(replace(config, store=job.store.url)))
    elif fresh.lacks_files():
        job.begin(run)  # these files were removed because they were damaged; the same bytes are written again


def _forget_failures(run: RunFolder, outcome: Outcome) -> None:
    """Remove failures of shards that are committed after all: the network lost the actor's answer."""
    failed = failed_shards(run.storage)
    if not failed:
        return
    committed = committed_shards(run)
    for shard in failed:
        if shard < len(committed) and committed[shard]:
            remove_failure(run.storage, shard)
            outcome.failed.pop(shard, None)


def _raise_failures(outcome: Outcome, job: Job, run: RunFolder) -> None:
    """Raise GenerationError if shards failed or were not tried."""
    if outcome.failed:
        shard, cause = next(iter(sorted(outcome.failed.items())))
        rest = f", {outcome.untried} were not tried" if outcome.untried else ""
        rest += f" ({outcome.stopped_by})" if outcome.stopped_by else ""
        raise GenerationError(
            f"{len(outcome.failed)} of {len(job.plan)} shards failed{rest}, first shard {shard:06d}: {cause}: "
            f"see {run.storage.url}/{FAILURES}, mend the cause and run the same command again"
        )
    if outcome.untried:
        raise GenerationError(
            f"{outcome.untried} of {len(job.plan)} shards were not tried, as no actor could start: "
            f"{outcome.stopped_by}: mend the cause and run the same command again"
        )
