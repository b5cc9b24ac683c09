"""The shards of a live run: made when a trainer asks, a fixed number ahead, and dropped when it has moved on.

Readers ask from the server's threads; the dispatcher uses this as a backlog.
"""

import threading
import time
from dataclasses import dataclass

from postmean.base.errors import GenerationError
from postmean.shards.run_paths import shard_of_commit, shard_of_tar

_VISITORS = 4


@dataclass(eq=False)
class _Place:
    """Where a trainer is, or a visitor: a reader that is far from all trainers."""

    newest: int  # newest shard asked for there
    reached: int  # number of the request that asked for it first
    last: int  # number of the last request there


class LiveShards:
    """Files of the shards in memory, and which shards to make next.

    At most 2 `depth` shards per trainer are held, besides those that a reader is waiting for: half of them from the
    newest that the trainer asked for onwards, half before it, because its ranks are not quite in step. A reader far
    from all trainers gets its shard, but none ahead. It takes a trainer's place when it goes on from there while that
    trainer asks for nothing. The shards of the last 4 such readers are held.

    Args:
        shards: number of shards in the plan.
        depth: shards to prepare per trainer, including the one it asked for.
        trainers: trainers that read at different places; all ranks of a trainer count as one.
    """

    def __init__(self, shards: int, depth: int, trainers: int) -> None:
        self._shards, self._depth, self._trainers = shards, depth, trainers
        self._changed = threading.Condition()
        self._files: dict[int, dict[str, bytes]] = {}
        self._making: set[int] = set()
        self._asked: dict[int, int] = {}  # number of waiting readers, by shard
        self._failed: dict[int, str] = {}
        self._requests = 0  # number of requests so far
        self._places: list[_Place] = []  # of the trainers
        self._visitors: list[_Place] = []  # the newest is last
        self._closed = False

    def read(self, path: str, seconds: float) -> bytes | None:
        """A file of a shard; None if it is not there within `seconds` or the path is not that of a shard's file.

        Raises:
            GenerationError: the shard could not be made. Asking again retries it.
        """
        shard = _shard_of(path)
        if shard is None or shard >= self._shards:
            return None
        until = time.monotonic() + seconds
        with self._changed:
            self._note(shard)
            self._asked[shard] = self._asked.get(shard, 0) + 1
            try:
                while shard not in self._files and not self._closed:
                    if shard in self._failed:
                        raise GenerationError(self._failed.pop(shard))
                    if not self._changed.wait(until - time.monotonic()):
                        return None
                return self._files.get(shard, {}).get(path)
            finally:
                self._asked[shard] -= 1
                if not self._asked[shard]:
                    del self._asked[shard]

    def is_data(self, path: str) -> bool:
        """Whether this is the path of the records of a shard of the plan."""
        shard = shard_of_tar(path)
        return shard is not None and shard < self._shards

    def done(self, shard: int, files: dict[str, bytes]) -> None:
        """Store the files of a shard that was made."""
        with self._changed:
            self._making.discard(shard)
            self._files[shard] = files
            self._forget()
            self._changed.notify_all()

    def failed(self, shard: int, cause: str) -> None:
        """The shard was given up: one reader is told the cause, then the shard may be asked for again."""
        with self._changed:
            self._making.discard(shard)
            self._failed[shard] = cause
            self._changed.notify_all()

    def close(self) -> None:
        """No more shards will come: release all waiting readers."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def held(self) -> int:
        """Shards in memory."""
        return len(self._files)

    def newest(self) -> int:
        """The newest shard that the slowest trainer asked for; 0 if none was asked for yet."""
        return min((place.newest for place in self._places), default=0)

    def __len__(self) -> int:
        with self._changed:
            return len(self._wanted())

    def takeable(self, most: int) -> int:
        return min(most, len(self))

    def take(self) -> int | None:
        with self._changed:
            wanted = self._wanted()
            if not wanted:
                return None
            self._making.add(wanted[0])
            return wanted[0]

    def put_back(self, shard: int) -> None:
        with self._changed:
            self._making.discard(shard)

    def is_over(self) -> bool:
        return self._closed

    def _note(self, shard: int) -> None:
        """A reader is at this shard: advance the nearest place within `depth`, or add one."""
        self._requests += 1
        near = [p for p in (*self._places, *self._visitors) if self._is_near(shard, p)]
        if near:
            place = min(near, key=lambda p: abs(shard - p.newest))
            if shard > place.newest:
                if place in self._visitors:
                    self._settle(place)
                place.newest, place.reached = shard, self._requests
            place.last = self._requests
        elif len(self._places) < self._trainers:
            self._places.append(_Place(shard, self._requests, self._requests))
        else:
            self._visitors = [*self._visitors, _Place(shard, self._requests, self._requests)][-_VISITORS:]
        self._forget()

    def _is_near(self, shard: int, place: _Place) -> bool:
        return abs(shard - place.newest) <= self._depth

    def _settle(self, visitor: _Place) -> None:
        """The visitor goes on: it takes the place of a trainer that asked for nothing since it reached its shard."""
        idlest = min(self._places, key=lambda place: place.last)
        if idlest.last < visitor.reached:
            self._places.remove(idlest)
            self._visitors.remove(visitor)
            self._places.append(visitor)

    def _wanted(self) -> list[int]:
        """Shards to make: first those that readers wait for, near trainers or not; then those ahead, nearest first."""
        ahead = {
            (step, place.newest + step)
            for place in self._places
            for step in range(self._depth)
            if place.newest + step < self._shards
        }
        asked = sorted(self._asked, key=lambda shard: (not any(self._is_near(shard, p) for p in self._places), shard))
        ordered = dict.fromkeys([*asked, *(shard for _, shard in sorted(ahead))])
        return [s for s in ordered if not (s in self._files or s in self._making or s in self._failed)]

    def _forget(self) -> None:
        kept = {visitor.newest for visitor in self._visitors} | self._asked.keys()
        for shard in tuple(self._files):
            if shard not in kept and not any(-self._depth <= shard - p.newest < self._depth for p in self._places):
                del self._files[shard]


def _shard_of(path: str) -> int | None:
    shard = shard_of_commit(path)
    return shard_of_tar(path) if shard is None else shard
