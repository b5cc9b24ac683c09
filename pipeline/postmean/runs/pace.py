"""The pace of a run that trainers follow: limits shards ahead of the slowest trainer, deletes those all consumed."""

import threading
import time
from types import TracebackType

from postmean.base.errors import PostmeanError
from postmean.fleet.backlog import PlannedShards
from postmean.shards.positions import Position, impossible, position_file, read_positions
from postmean.shards.retention import delete_shards, deleted_shards
from postmean.shards.run_folder import RunFolder

_LOOK_SECONDS = 2.0  # between looks; an object store bills each
_DELETED_AT_ONCE = 32  # shards per look: an object store takes seconds for these, and actors may wait for a new limit


class Pace:
    """Watches the trainers' positions for the duration of a `with` block, and limits the backlog accordingly.

    Args:
        ahead: shards that may be made beyond those that the slowest trainer needs for its next batch; None: all.
        trainers: number of trainers; until that many have a position, the slowest one counts as at tuple 0.
        delete: whether to delete shards that no trainer can need again.
        seconds: with `ahead`, the run ends after this long with no trainer moving, no shard that may be made and none
            being made.
    """

    def __init__(
        self, run: RunFolder, backlog: PlannedShards, ahead: int | None, trainers: int, delete: bool, seconds: float
    ) -> None:
        self._run, self._backlog = run, backlog
        self._ahead, self._trainers, self._delete, self._seconds = ahead, trainers, delete, seconds
        self._positions: dict[str, Position] = {}
        self._moved = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_looking, name="postmean-pace", daemon=True)
        self._trouble: PostmeanError | None = None
        self._has_deleted = False
        self.all_finished = False
        """Whether the run ended because all its trainers have finished."""
        self.is_stuck = False
        """Whether the run ended because no trainer moved."""

    def __enter__(self) -> "Pace":
        if self._ahead is not None or self._delete:
            self.look()
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: TracebackType | BaseException | None) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=_LOOK_SECONDS)  # it may be waiting for a storage that does not answer
        if self._delete and kind is None:
            self.delete_all()

    def check(self) -> None:
        """Raise the error that stopped the watch, such as a storage that cannot be reached."""
        if self._trouble is not None:
            raise self._trouble

    def _keep_looking(self) -> None:
        while not self._stop.wait(_LOOK_SECONDS):
            try:
                self.look()
            except PostmeanError as error:
                self._trouble = error
                return

    def delete_all(self) -> None:
        """Delete all that may be deleted now."""
        while self.look():
            pass

    def look(self) -> bool:
        """Read positions, limit the backlog, delete some of the shards that may go. Returns whether it deleted any.

        Raises:
            MismatchError: a trainer's position cannot be; nothing is deleted then.
        """
        positions = read_positions(self._run.storage)
        for name, position in positions.items():
            if position != self._positions.get(name):
                self._check(name, position)
        are_known = len(positions) >= self._trainers
        if self._ahead is not None:
            at_work = [p for p in positions.values() if not p.finished]
            if are_known and not at_work:
                self.all_finished = self._backlog.is_closed = True
            needed = min((p.next_tuple + p.batch_size - 1 for p in at_work), default=0) if are_known else 0
            self._backlog.limit = self._run.read_plan().shard_of(needed) + 1 + self._ahead
        if positions != self._positions or self._backlog.takeable(1) or self._backlog.is_making():
            self._positions, self._moved = positions, time.monotonic()
        elif self._ahead is not None and not self.all_finished and time.monotonic() - self._moved > self._seconds:
            self.is_stuck = self._backlog.is_closed = True
        if self._delete and are_known:
            return self._delete_some(min(p.resume_tuple for p in positions.values()))
        return False

    def _check(self, trainer: str, position: Position) -> None:
        where = position_file(self._run.storage, trainer)
        position.check(self._run.read_manifest().tuples, where)
        passed = self._run.read_plan().shard_of(position.next_tuple) - 1
        if passed >= 0 and not self._run.is_committed(passed):
            raise impossible(where, f"next_tuple {position.next_tuple}, but shard {passed:06d} is not made yet")

    def _delete_some(self, resume_tuple: int) -> bool:
        start = stop = deleted_shards(self._run)
        if not self._has_deleted:  # an earlier call may have been killed between announcing and deleting
            delete_shards(self._run, max(0, stop - _DELETED_AT_ONCE), stop)
            self._has_deleted = True
        most = min(start + _DELETED_AT_ONCE, self._run.read_plan().shard_of(resume_tuple))
        while stop < most and self._run.is_committed(stop):
            stop += 1
        if stop > start:
            delete_shards(self._run, start, stop)
        return stop > start
