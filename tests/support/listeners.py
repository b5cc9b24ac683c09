"""A listener that records what a dispatcher reports."""

from collections.abc import Callable
from typing import Any

from postmean.fleet.outcome import Outcome


class Record:
    """Keeps what was made and what failed.

    Args:
        on_tick: called with the outcome so far.
    """

    def __init__(self, on_tick: Callable[[Outcome], None] = lambda outcome: None) -> None:
        self._on_tick = on_tick
        self.done: list[int] = []
        self.causes: dict[int, str] = {}

    def made(self, shard: Any) -> None:
        self.done.append(shard["shard"])

    def failed(self, shard: int, cause: str) -> None:
        assert shard not in self.causes, "told once"
        self.causes[shard] = cause

    def tick(self, outcome: Outcome) -> None:
        self._on_tick(outcome)
