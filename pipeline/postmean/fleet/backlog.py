"""Backlogs decide which shards are to be made and in which order; the dispatcher takes shards from them."""

from collections import deque
from collections.abc import Sequence
from typing import Protocol

import numpy as np

_APART = 64


class Backlog(Protocol):
    """Shards that have yet to be made."""

    def __len__(self) -> int:
        """Number of waiting shards, including those that may not be made yet."""
        ...

    def takeable(self, most: int) -> int:
        """How many of them may be made now; counts up to `most`."""
        ...

    def take(self) -> int | None:
        """The next shard to make, None if none may be made now."""
        ...

    def put_back(self, shard: int) -> None:
        """Return a shard that was not made: it is to be tried again."""
        ...

    def is_over(self) -> bool:
        """Whether nothing waits and nothing will come."""
        ...


class PlannedShards:
    """The missing shards of a plan, in order.

    Args:
        shards: rising.
    """

    def __init__(self, shards: Sequence[int] | np.ndarray) -> None:
        self._later = np.asarray(shards, np.int64)
        self._waiting: deque[int] = deque()  # a few that come before those of _later
        self._making: set[int] = set()
        self.limit: int | None = None
        """Only shards below this one may be made yet; None: all. Other threads may raise it."""
        self.is_closed = False
        """If set, no further shard is to be made. Other threads may set it."""

    def __len__(self) -> int:
        return 0 if self.is_closed else len(self._waiting) + len(self._later)

    def takeable(self, most: int) -> int:
        soon, later = list(self._waiting)[:most], self._later  # another thread may ask
        return sum(map(self._may, (*soon, *later[: most - len(soon)].tolist())))

    def take(self) -> int | None:
        self._wait_at_least(1)
        if self._waiting and self._may(self._waiting[0]):
            self._making.add(self._waiting[0])
            return self._waiting.popleft()
        return None

    def put_back(self, shard: int) -> None:
        self._making.discard(shard)
        self._wait_at_least(_APART)
        # soon, because a trainer may be waiting for it, but not next: the same actor would take it again
        self._waiting.insert(self.takeable(_APART), shard)

    def settle(self, shard: int) -> None:
        """The shard was made or given up."""
        self._making.discard(shard)

    def is_making(self) -> bool:
        """Whether any shard was taken and neither settled nor put back yet."""
        return bool(self._making)

    def is_over(self) -> bool:
        return len(self) == 0

    def _wait_at_least(self, count: int) -> None:
        """Have so many shards in `_waiting`, if there are."""
        more = max(0, count - len(self._waiting))
        if more and len(self._later):
            self._waiting.extend(self._later[:more].tolist())
            self._later = self._later[more:]

    def _may(self, shard: int) -> bool:
        return not self.is_closed and (self.limit is None or shard < self.limit)
