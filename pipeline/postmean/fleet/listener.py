"""Who hears what becomes of the shards: the driver of a run, and its metrics."""

from typing import Any, Protocol

from postmean.fleet.outcome import Outcome


class Listener(Protocol):
    """Called by the dispatcher, in its thread. What a method raises ends the run."""

    def made(self, shard: Any) -> None:
        """A shard was made; `shard` is what the actor's `make` returned, a ShardDone."""
        ...

    def failed(self, shard: int, cause: str) -> None:
        """A shard is given up; the cause is that of its last attempt."""
        ...

    def tick(self, outcome: Outcome) -> None:
        """What became of the shards so far; about once a second."""
        ...
