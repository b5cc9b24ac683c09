"""Listeners are told what becomes of the shards: the driver of a run, and its metrics."""

from typing import Any, Protocol

from postmean.fleet.outcome import Outcome


class Listener(Protocol):
    """Called by the dispatcher, in its thread. An exception from a method ends the run."""

    def made(self, shard: Any) -> None:
        """A shard was made; `shard` is the ShardDone that the actor's `make` returned."""
        ...

    def failed(self, shard: int, cause: str) -> None:
        """A shard was given up; `cause` is why its last attempt failed."""
        ...

    def tick(self, outcome: Outcome) -> None:
        """Called about once a second with the counts so far."""
        ...
