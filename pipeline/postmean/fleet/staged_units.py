"""The backlog of work in stages: units of one stage in any order, each stage after the one before."""

from collections import deque
from collections.abc import Iterable


class StagedUnits:
    """Units that have yet to be made. A backlog.

    Args:
        stages: the missing units of each stage.
    """

    def __init__(self, stages: Iterable[Iterable[int]]) -> None:
        self._stages = deque(deque(stage) for stage in stages)
        self._making: set[int] = set()
        self._advance()

    def __len__(self) -> int:
        return sum(map(len, self._stages))

    def takeable(self, most: int) -> int:
        return min(most, len(self._stages[0])) if self._stages else 0

    def take(self) -> int | None:
        if not self.takeable(1):
            return None
        unit = self._stages[0].popleft()
        self._making.add(unit)
        return unit

    def put_back(self, shard: int) -> None:
        self._making.discard(shard)
        self._stages[0].append(shard)

    def made(self, unit: int) -> None:
        """The unit was made."""
        self._making.discard(unit)
        self._advance()

    def given_up(self, unit: int) -> None:
        """The unit failed for good: no later stage can begin, the rest of this one goes on."""
        self._making.discard(unit)
        while len(self._stages) > 1:
            self._stages.pop()
        self._advance()

    def is_over(self) -> bool:
        return len(self) == 0

    def _advance(self) -> None:
        while self._stages and not self._stages[0] and not self._making:
            self._stages.popleft()
