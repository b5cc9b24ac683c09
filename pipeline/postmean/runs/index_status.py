"""How far `postmean index` is on a store, on any machine that sees it: from the commit records of its parts."""

from dataclasses import dataclass, field
from typing import Literal

from postmean.contract.image_store import ImageStore
from postmean.neighbours.index_work import JOB, IndexWork, read_spec
from postmean.runs.failures import failed_shards, read_cause
from postmean.runs.lease import find_holder, is_at_work
from postmean.runs.status import driver_status
from postmean.storage.open import open_storage
from postmean.storage.storage import Storage


@dataclass(frozen=True, kw_only=True)
class IndexStatus:
    """State of an index that is being made."""

    parts: str
    """Folder of its parts."""
    state: Literal["running", "stopped"]
    units: int
    units_done: int
    pairs: int
    """Of images, whose distances the self-join needs."""
    pairs_done: int
    bytes: int
    """Of the parts so far; they are removed at the end."""
    pairs_per_second: float | None = None
    """None unless it is running."""
    seconds_left: float | None = None
    """Of the pairs."""
    retries: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    """Cause of the last failure by part, of units still missing."""
    holder: str | None = None
    """The driver, if it is running; the last driver, if it was killed."""


@dataclass(frozen=True, kw_only=True)
class StoreStatus:
    """What `postmean index` has made and is making beside a store."""

    store: str
    indexes: tuple[str, ...]
    """Names of finished files."""
    being_made: tuple[IndexStatus, ...]


def read_store_status(path: str) -> StoreStatus:
    """The state of a store's indexes; DataError if the store is damaged."""
    store = ImageStore.open(path)
    names, index = _index_names(store), f"{store.url}/index"
    jobs = [open_storage(f"{index}/{name.removesuffix(f'/{JOB}')}") for name in names if name.endswith(f".parts/{JOB}")]
    return StoreStatus(
        store=store.where,
        indexes=tuple(name for name in names if name.endswith((".npz", ".faiss")) and "/" not in name),
        being_made=tuple(_job_status(store, storage) for storage in jobs),
    )


def _index_names(store: ImageStore) -> list[str]:
    """Paths of all files below the store's folder `index`, sorted."""
    return store.remote.index_names() if store.remote else open_storage(store.path / "index").list("")


def _job_status(store: ImageStore, storage: Storage) -> IndexStatus:
    holder = find_holder(storage)
    runs = holder is not None and is_at_work(storage, holder)
    work = IndexWork(read_spec(storage), store, storage, "cpu", 1)
    committed = work.committed()
    driver = driver_status(storage)
    failed = [unit for unit in failed_shards(storage) if unit < len(work.units) and unit not in committed]
    return IndexStatus(
        parts=storage.url,
        state="running" if runs else "stopped",
        units=len(work.units),
        units_done=len(committed),
        pairs=sum(unit.work for unit in work.units if unit.kind == "pairs"),
        pairs_done=sum(work.units[unit].work for unit in committed if work.is_pairs(unit)),
        bytes=sum(committed.values()),
        pairs_per_second=driver.records_per_second if runs and driver else None,
        seconds_left=driver.seconds_left if runs and driver else None,
        retries=driver.retries if driver else 0,
        failures={work.units[unit].name: read_cause(storage, unit) for unit in failed[:20]},
        holder=holder.describe() if holder else None,
    )
