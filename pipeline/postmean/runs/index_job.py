"""The job of `postmean index`: its units made in this process or by a fleet, and what they are put together to."""

import os
import shutil
from typing import Literal

from postmean.base.cores import usable_cores
from postmean.base.device import usable_gpus
from postmean.base.environment import STORE_CACHE, cluster_address
from postmean.base.errors import DataError, GenerationError
from postmean.base.extras import check_installed
from postmean.base.progress import ShowProgress
from postmean.contract.image_store import ImageStore
from postmean.fleet.index_actor import IndexActor
from postmean.fleet.open_fleet import open_fleet
from postmean.fleet.outcome import Outcome
from postmean.fleet.settings import ActorSettings
from postmean.neighbours.index_work import IndexSpec, IndexWork, write_spec
from postmean.neighbours.self_join import SelfJoin
from postmean.runs.index_config import IndexConfig
from postmean.runs.index_driver import IndexDriver
from postmean.runs.lease import Lease, refuse_if_held
from postmean.runs.status import DriverLog
from postmean.shards.run_paths import FAILURES
from postmean.storage.local import LocalStorage
from postmean.storage.memory import MemoryStorage
from postmean.storage.open import open_storage
from postmean.storage.storage import Storage


def parts_url(store: ImageStore, flips: bool, conditional: bool) -> str:
    """Folder of the parts of an index that is being made: below a store's URL, as nodes may share no disk."""
    folder = SelfJoin.path(store, flips, conditional).with_suffix(".parts")
    return str(folder) if store.remote is None else f"{store.remote.url}/index/{folder.name}"


def make_index(
    config: IndexConfig, spec: IndexSpec, store: ImageStore, device: Literal["cpu", "cuda"], progress: ShowProgress
) -> tuple[SelfJoin | None, float]:
    """Make what the spec says beside the store.

    Returns:
        the self-join, None if the spec has none; and the seconds that the FAISS index took.
    """
    by_fleet = config.fleet.actors is not None or bool(cluster_address()) or (device == "cuda" and usable_gpus() > 1)
    cores = config.threads or usable_cores()
    if not by_fleet:
        memory = MemoryStorage()
        work = IndexWork(spec, store, memory, device, cores)
        if work.is_short:  # parts are not worth a disk
            with IndexDriver(work, memory, progress) as driver:
                driver.make_here()
            return _joined(work, store), driver.faiss_seconds
    else:
        check_installed("generate", "ray")
    storage = open_storage(parts_url(store, spec.flips, spec.conditional))
    refuse_if_held(storage, "index")
    log = DriverLog(storage)
    with Lease(storage, log.write, command="index") as lease:
        storage.clean_temporary()
        write_spec(storage, spec)
        # rows are put together here: the driver of a fleet may have no GPU
        work = IndexWork(spec, store, storage, "cpu" if by_fleet else device, cores)
        with IndexDriver(work, storage, progress, lease, log) as driver:
            if by_fleet:
                _raise_failures(_make_by_fleet(config, driver, storage.url, store, device), work, storage.url)
            else:
                driver.make_here()
        join = _joined(work, store)
    _remove(storage)
    return join, driver.faiss_seconds


def _remove(storage: Storage) -> None:
    if isinstance(storage, LocalStorage):
        shutil.rmtree(storage.url, ignore_errors=True)
    else:
        for path in storage.list(""):
            storage.delete(path)


def _make_by_fleet(
    config: IndexConfig, driver: IndexDriver, parts: str, store: ImageStore, device: Literal["cpu", "cuda"]
) -> Outcome:
    if driver.backlog.is_over():
        return Outcome()
    threads = config.threads or 1
    with open_fleet(
        config.fleet,
        ActorSettings(threads_per_actor=threads, device=device),
        actor=IndexActor,
        arguments=(parts, store.url, device, threads, os.environ.get(STORE_CACHE)),
        shards=len(driver.backlog),
    ) as fleet:
        return fleet.make(driver.backlog, driver)


def _joined(work: IndexWork, store: ImageStore) -> SelfJoin | None:
    """Put the self-join together and write it, if it is part of the work."""
    if not work.joins:
        return None
    join = work.self_join()
    try:
        join.save(store)
    except OSError as error:  # disk full, not writable
        folder = store.path / "index"
        raise DataError(f"{folder}: cannot write: {error.strerror}: free space or make it writable") from error
    return join


def _raise_failures(outcome: Outcome, work: IndexWork, parts: str) -> None:
    """Raise GenerationError if units failed or were not tried."""
    if outcome.failed:
        unit, cause = next(iter(sorted(outcome.failed.items())))
        raise GenerationError(
            f"{len(outcome.failed)} of {len(work.units)} units of the index failed, first {work.units[unit].name}: "
            f"{cause}: see {parts}/{FAILURES}, mend the cause and run the same command again"
        )
    if outcome.untried:
        raise GenerationError(
            f"{outcome.untried} of {len(work.units)} units of the index were not tried, as no actor could start: "
            f"{outcome.stopped_by}: mend the cause and run the same command again"
        )
