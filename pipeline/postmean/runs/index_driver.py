"""The driver of `postmean index`: makes what is missing, here or with a fleet, and says how far it is."""

import time
from contextlib import suppress

import numpy as np

from postmean.base.errors import GenerationError
from postmean.base.json_files import to_json
from postmean.base.progress import Progress, ShowProgress
from postmean.fleet.outcome import Outcome
from postmean.fleet.staged_units import StagedUnits
from postmean.neighbours.index_work import IndexWork, UnitDone
from postmean.runs.failures import failed_shards, remove_failure
from postmean.runs.lease import Lease
from postmean.runs.status import DriverLog
from postmean.shards.run_paths import failure_path
from postmean.storage.storage import Storage


class IndexDriver:
    """Drives one call of index. A listener of the fleet; use as a context manager.

    Args:
        work: the units.
        storage: of their parts.
        progress: shows the stages, one after another.
        lease: held by this driver, if others can see the parts; losing it ends the call.
        log: told of every unit; what it counts as records are pairs of images.
    """

    def __init__(
        self,
        work: IndexWork,
        storage: Storage,
        progress: ShowProgress,
        lease: Lease | None = None,
        log: DriverLog | None = None,
    ) -> None:
        self._work, self._storage, self._show, self._lease, self._log = work, storage, progress, lease, log
        committed = work.committed()
        self._missing = [[unit for unit in stage.units if unit not in committed] for stage in work.stages]
        self.backlog = StagedUnits(self._missing)
        self._left = [set(missing) for missing in self._missing]
        self._failed_before = set(failed_shards(storage))
        self._stage = -1
        self._line: Progress | None = None
        self._done = 0
        self._began = 0.0
        self.faiss_seconds = 0.0
        """Taken by the stages of a FAISS index so far"""
        if log is not None:
            pairs = sum(unit.work for unit in work.units if unit.kind == "pairs")
            left = sum(work.units[unit].work for stage in self._missing for unit in stage if work.is_pairs(unit))
            log.start(pairs, left, np.array([committed.get(unit, 0) for unit in range(len(work.units))]))

    def __enter__(self) -> "IndexDriver":
        self._go_on()
        return self

    def __exit__(self, *error: object) -> None:
        self._end_stage()

    def make_here(self) -> None:
        """Make the missing units in this process; an error ends it."""
        while (unit := self.backlog.take()) is not None:
            self.made(self._work.make(unit, self._within))

    def made(self, shard: UnitDone) -> None:
        unit, work = shard["unit"], shard["work"]
        self.backlog.made(unit)
        self._left[self._work.stage_of(unit)].discard(unit)
        if self._log is not None:
            self._log.add(work if self._work.is_pairs(unit) else 0, shard["bytes"])
        if unit in self._failed_before:
            remove_failure(self._storage, unit)
        self._done += work
        self._within(0)
        self._go_on()

    def failed(self, shard: int, cause: str) -> None:
        self.backlog.given_up(shard)
        with suppress(GenerationError):  # disk full: that is why the unit failed too
            self._storage.put(failure_path(shard), to_json({"part": self._work.units[shard].name, "cause": cause}))

    def tick(self, outcome: Outcome) -> None:
        if self._lease is not None:
            self._lease.check()
        if self._log is not None:
            self._log.retries = outcome.retries
        if not outcome.ready and self._line is not None:  # Ray takes seconds to start: keep it out of the rate
            self._line.start_at(self._done)

    def _within(self, done: int) -> None:
        """Show work done beyond the units made so far."""
        if self._line is not None:
            self._line.update(self._done + done)

    def _go_on(self) -> None:
        """Show the first stage that has units left."""
        stage = next((number for number, left in enumerate(self._left) if left), len(self._left))
        if stage == self._stage:
            return
        self._end_stage()
        self._stage, self._began = stage, time.monotonic()
        if stage < len(self._left):
            units, shown = self._work.units, self._work.stages[stage]
            total = sum(units[unit].work for unit in shown.units)
            self._done = total - sum(units[unit].work for unit in self._missing[stage])
            self._line = self._show(shown.what, total, shown.counted)
            self._line.__enter__()
            self._line.start_at(self._done)

    def _end_stage(self) -> None:
        if self._line is not None:
            if self._work.stages[self._stage].counted == "vectors":
                self.faiss_seconds += time.monotonic() - self._began
            line, self._line = self._line, None
            line.__exit__(None, None, None)
