"""Backlogs decide which shards are to be made and in which order; the dispatcher takes shards from them."""

from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import Protocol

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

    def __init__(self, shards: Iterable[int]) -> None:
        self._waiting = deque(shards)
        self._making: set[int] = set()
        self.limit: int | None = None
        """Only shards below this one may be made yet; None: all. Other threads may raise it."""
        self.is_closed = False
        """If set, no further shard is to be made. Other threads may set it."""

    def __len__(self) -> int:
        return 0 if self.is_closed else len(self._waiting)

    def takeable(self, most: int) -> int:
        return sum(map(self._may, islice(self._waiting, most)))

    def take(self) -> int | None:
        if self._waiting and self._may(self._waiting[0]):
            self._making.add(self._waiting[0])
            return self._waiting.popleft()
        return None

    def put_back(self, shard: int) -> None:
        self._making.discard(shard)
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

    def _may(self, shard: int) -> bool:
        return not self.is_closed and (self.limit is None or shard < self.limit)
