"""How far a run is, on any machine that sees it: from its plan, its commit records and its driver's last report."""

import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from postmean.base.errors import ShardError
from postmean.base.json_files import JsonError, read_json, to_json
from postmean.base.progress import byte_size
from postmean.runs.failures import failed_shards, read_cause
from postmean.runs.history import History, Point
from postmean.runs.lease import find_holder, is_at_work
from postmean.shards.positions import read_positions
from postmean.shards.retention import deleted_shards
from postmean.shards.run_folder import RunFolder
from postmean.storage.storage import Storage

STATUS = "status.json"
_SAMPLE = 64
"""Commit records read for the bytes of a run whose driver was killed before it could report them."""


@dataclass(frozen=True, kw_only=True)
class DriverStatus:
    """What only the driver of a run knows. It writes this to OUT/status.json every few seconds."""

    time: float
    """Unix time of writing."""
    shards: int
    """All that are committed."""
    bytes: int
    """Of these."""
    records_per_second: float
    """Of the current call of generate, since just before its fleet started."""
    seconds_left: float | None
    """At this rate; None while it is 0."""
    retries: int
    history: tuple[Point, ...] = ()
    """Records committed over time, of all calls of generate."""


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """State of a run."""

    out: str
    state: Literal["nothing there", "running", "stopped", "finished"]
    shards: int = 0
    shards_done: int = 0
    records: int = 0
    records_done: int = 0
    tuples: int = 0
    tuples_ready: int = 0
    """A trainer can read tuples 0 .. tuples_ready - 1."""
    bytes: int | None = None
    """Of the committed shards, including deleted ones; None if there are none or their commit records are damaged."""
    are_bytes_estimated: bool = False
    """Whether they follow from a sample of the shards, as the driver's last report is older than the newest shard."""
    records_per_second: float | None = None
    """None unless the run is running."""
    seconds_left: float | None = None
    retries: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    """Cause of the last failure by shard, for at most 20 of the shards still missing"""
    failed: int = 0
    trainers: dict[str, int] = field(default_factory=dict)
    """Next tuple of each trainer that follows the run"""
    deleted: int = 0
    """Shards deleted after all trainers had consumed them"""
    holder: str | None = None
    """The driver, if the run is running; the last driver, if it was killed."""
    history: tuple[Point, ...] = ()
    """(unix time, records committed) of the drivers so far"""

    @property
    def size(self) -> str | None:
        """`bytes` in words; None where they are None."""
        return None if self.bytes is None else ("about " if self.are_bytes_estimated else "") + byte_size(self.bytes)


class DriverLog:
    """The driver's side: counts what is done and writes OUT/status.json."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._began: float | None = None
        self._left = self._bytes = self._shards = self._done = self._before = 0
        self._history = History()
        self.retries = 0
        """Failed attempts so far that were followed by another."""

    def start(self, records: int, left: int, committed: np.ndarray) -> None:
        """The fleet is about to start.

        Args:
            records: of the run.
            left: records to make.
            committed: bytes of each shard, 0 if it is not committed yet.
        """
        self._left, self._shards, self._bytes = left, int((committed > 0).sum()), int(committed.sum())
        self._before = records - left
        earlier = driver_status(self._storage)
        self._history = History(earlier.history if earlier else ())
        self._began = time.monotonic()

    def add(self, records: int, size: int) -> None:
        """A shard was committed."""
        self._done += records
        self._shards += 1
        self._bytes += size

    def write(self) -> None:
        """Rewrite OUT/status.json; nothing before `start`."""
        if self._began is None:
            return
        rate = self._done / max(time.monotonic() - self._began, 1e-3)
        self._history.add(time.time(), self._before + self._done)
        status = DriverStatus(
            time=time.time(),
            shards=self._shards,
            bytes=self._bytes,
            records_per_second=rate,
            seconds_left=(self._left - self._done) / rate if rate else None,
            retries=self.retries,
            history=self._history.points,
        )
        self._storage.put(STATUS, to_json(status))


def read_status(storage: Storage) -> RunStatus:
    """The state of the run in this storage.

    Reads the plan, lists objects and reads a few commit records: a second for a million shards. If the driver's last
    heartbeat seems old (it was killed on another machine, or a clock is wrong), waits for the next one: at most a dozen
    seconds.
    """
    run = RunFolder(storage)
    holder = find_holder(storage)
    runs = holder is not None and is_at_work(storage, holder)
    status = RunStatus(
        out=storage.url, state="running" if runs else "nothing there", holder=holder.describe() if holder else None
    )
    if not run.has_manifest():
        return status
    manifest, plan = run.read_manifest(), run.read_plan()
    done = run.listed()
    missing = np.flatnonzero(~done)
    failed = [shard for shard in failed_shards(storage) if shard < len(plan) and not done[shard]]
    status = replace(
        status,
        state="finished" if not len(missing) else "running" if runs else "stopped",
        shards=len(plan),
        shards_done=int(done.sum()),
        records=plan.total_records,
        records_done=int(plan.records[done].sum()),
        tuples=manifest.tuples,
        tuples_ready=int(plan.first_tuple[missing[0]]) if len(missing) else manifest.tuples,
        failures={f"{shard:06d}": read_cause(storage, shard) for shard in failed[:20]},
        failed=len(failed),
        trainers={name: position.next_tuple for name, position in sorted(read_positions(storage).items())},
        deleted=deleted_shards(run),
    )
    driver = driver_status(storage)
    if driver is not None and driver.shards == status.shards_done:
        status = replace(status, bytes=driver.bytes)
    else:
        status = replace(status, bytes=_bytes(run, done), are_bytes_estimated=status.shards_done > _SAMPLE)
    if driver is None:
        return status
    status = replace(status, retries=driver.retries, history=driver.history)
    if status.state != "running":
        return status
    return replace(status, records_per_second=driver.records_per_second, seconds_left=driver.seconds_left)


def _bytes(run: RunFolder, done: np.ndarray) -> int | None:
    """Bytes of these shards, extrapolated from a sample of them.

    Args:
        done: bool, by shard.
    """
    shards = np.flatnonzero(done)
    sizes = []
    for shard in shards[:: -(-len(shards) // _SAMPLE) or 1].tolist():
        with suppress(ShardError):
            sizes.append(run.read_commit(shard).size)
    return round(sum(sizes) / len(sizes) * len(shards)) if sizes else None


def driver_status(storage: Storage) -> DriverStatus | None:
    """The last report of the driver; None if there is none or it is damaged."""
    try:
        return read_json(DriverStatus, storage.get(STATUS), STATUS)
    except (ShardError, JsonError):
        return None
