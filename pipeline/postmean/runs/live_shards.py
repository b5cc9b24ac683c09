"""The shards of a live run: made when a trainer asks, a set number ahead, and forgotten when it has gone on.

Readers ask from the threads of the server; the dispatcher takes from here as from any backlog.
"""

import threading
import time

from postmean.base.errors import GenerationError
from postmean.shards.run_paths import shard_of_commit, shard_of_tar


class LiveShards:
    """Files of the shards in memory, and what is to be made next.

    At most `trainers` times 2 `depth` shards are held, besides those that a reader is waiting for: half of them ahead
    of the newest that a trainer asked for, half behind it, as its ranks are not quite in step.

    Args:
        shards: how many the plan has.
        depth: shards made ahead, that which is asked for included.
        trainers: trainers that read at places of their own; the ranks of one count as one.
    """

    def __init__(self, shards: int, depth: int, trainers: int) -> None:
        self._shards, self._depth, self._trainers = shards, depth, trainers
        self._changed = threading.Condition()
        self._files: dict[int, dict[str, bytes]] = {}
        self._making: set[int] = set()
        self._asked: dict[int, int] = {}  # readers that wait, by shard
        self._failed: dict[int, str] = {}
        self._newest: list[int] = []  # newest shard asked for by each trainer, the one that asked last behind
        self._closed = False

    def read(self, path: str, seconds: float) -> bytes | None:
        """A file of a shard; None where it is not there within `seconds`, or is no file of a shard.

        Raises:
            GenerationError: the shard could not be made. Asking again tries again.
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

    def done(self, shard: int, files: dict[str, bytes]) -> None:
        """These are the shard's files."""
        with self._changed:
            self._making.discard(shard)
            self._files[shard] = files
            self._forget()
            self._changed.notify_all()

    def failed(self, shard: int, cause: str) -> None:
        """The shard is given up, until it is asked for again."""
        with self._changed:
            self._making.discard(shard)
            self._failed[shard] = cause
            self._changed.notify_all()

    def close(self) -> None:
        """Nothing more will come: let all readers go."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def held(self) -> int:
        """Shards in memory."""
        return len(self._files)

    def newest(self) -> int:
        """The newest shard that the slowest trainer asked for, 0 before the first."""
        return min(self._newest, default=0)

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
        """A reader is at this shard: move the place of its trainer, which is the nearest one within reach."""
        near = [n for n in self._newest if n - self._depth <= shard <= n + self._depth]
        if near:
            nearest = min(near, key=lambda n: abs(shard - n))
            self._newest.remove(nearest)
            shard = max(shard, nearest)
        self._newest = [*self._newest, shard][-self._trainers :]
        self._forget()

    def _wanted(self) -> list[int]:
        """Shards to make: those that readers wait for, then the next of every trainer, in order."""
        ahead = {
            (step, newest + step)
            for newest in self._newest
            for step in range(self._depth)
            if newest + step < self._shards
        }
        ordered = dict.fromkeys([*sorted(self._asked), *(shard for _, shard in sorted(ahead))])
        return [s for s in ordered if not (s in self._files or s in self._making or s in self._failed)]

    def _forget(self) -> None:
        for shard in tuple(self._files):
            if shard not in self._asked and not any(n - self._depth <= shard < n + self._depth for n in self._newest):
                del self._files[shard]


def _shard_of(path: str) -> int | None:
    shard = shard_of_commit(path)
    return shard_of_tar(path) if shard is None else shard
