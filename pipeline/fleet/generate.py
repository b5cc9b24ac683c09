"""Generation: a job's missing shards through the fleet into the run folder."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pipeline.contract.errors import GenerationError
from pipeline.contract.progress import Progress
from pipeline.contract.serialise import to_dict
from pipeline.fleet.config import GenerateConfig
from pipeline.fleet.job import Job
from pipeline.shards.run_folder import RunFolder

CONFIG = "config.json"
FAILURES = "failures"


@dataclass(frozen=True, kw_only=True)
class GenerateReport:
    """What a call of generate did."""

    out: str
    tuples: int
    records: int
    shards: int
    written: int
    """Shards written by this call."""
    retries: int
    failed: int
    seconds: float
    records_per_second: float
    """Of this call, start of the fleet included."""


def fleet_size(config: GenerateConfig, device: str) -> int:
    """Actors to start: as asked, else one a GPU, or as many as the CPU cores hold."""
    if config.actors is not None:
        return config.actors
    if device == "cuda":
        import torch

        return torch.cuda.device_count()
    return max(1, (os.cpu_count() or 1) // config.threads_per_actor)


def generate(config: GenerateConfig, job: Job, run: RunFolder) -> GenerateReport:
    """Write every missing shard; calling it again resumes, a finished run is left as it is.

    Raises:
        GenerationError: shards failed for good; they are listed in OUT/failures and tried again by the next call.
    """
    import time

    began = time.monotonic()
    _begin(config, job, run)
    missing = sorted(set(range(len(job.plan))) - run.committed())
    retries, failed = 0, {}
    if missing:
        with _stopped_by_sigterm():
            retries, failed = _run_fleet(config, job, run, missing)
    seconds = time.monotonic() - began
    written = len(missing) - len(failed)
    records = sum(job.plan[shard].records for shard in missing if shard not in failed)
    report = GenerateReport(
        out=run.storage.url,
        tuples=job.manifest.tuples,
        records=job.plan.total_records,
        shards=len(job.plan),
        written=written,
        retries=retries,
        failed=len(failed),
        seconds=seconds,
        records_per_second=records / seconds if written else 0.0,
    )
    if failed:
        shard, cause = next(iter(sorted(failed.items())))
        raise GenerationError(
            f"{len(failed)} of {len(job.plan)} shards failed, first shard {shard:06d}: {cause}: "
            f"see {run.storage.url}/{FAILURES}, mend the cause and run the same command again"
        )
    return report


def _begin(config: GenerateConfig, job: Job, run: RunFolder) -> None:
    run.storage.clean_temporary()
    if not run.has_manifest():
        job.begin(run)
        run.storage.put(CONFIG, (json.dumps(to_dict(config), indent=1) + "\n").encode())


def _run_fleet(config: GenerateConfig, job: Job, run: RunFolder, missing: list[int]) -> tuple[int, dict[int, str]]:
    from pipeline.fleet.local_ray import local_ray, start_actor

    manifest = job.manifest
    actors = min(fleet_size(config, manifest.device), len(missing))
    gpus = 1 if manifest.device == "cuda" else 0
    out, store = run.storage.url, str(job.store.path.resolve())
    done = job.plan.total_records - sum(job.plan[shard].records for shard in missing)
    with (
        Progress("generate", job.plan.total_records, "records") as progress,
        local_ray(actors * manifest.threads_per_actor, actors * gpus),
    ):
        from pipeline.fleet.dispatcher import Dispatcher  # imports ray, whose environment is set only now

        progress.start_at(done)
        dispatcher = Dispatcher(
            lambda: start_actor(out, store, manifest.threads_per_actor, gpus),
            actors,
            config.attempts,
            config.shard_seconds,
        )

        def on_done(shard: Any) -> None:
            nonlocal done
            done += shard["records"]
            run.storage.delete(_failure_path(shard["shard"]))
            progress.update(done)

        outcome = dispatcher.run(missing, on_done)
    for shard, cause in outcome.failed.items():
        row = job.plan[shard]
        failure = {"shard": shard, "first_tuple": row.first_tuple, "last_tuple": row.last_tuple, "cause": cause}
        run.storage.put(_failure_path(shard), (json.dumps(failure, indent=1) + "\n").encode())
    return outcome.retries, outcome.failed


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """SIGTERM stops as Ctrl-C does: actors are ended, committed shards stay, the same command resumes."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _failure_path(shard: int) -> str:
    return f"{FAILURES}/{shard:06d}.json"
