"""What became of the shards given to a dispatcher."""

from dataclasses import dataclass, field


@dataclass
class Outcome:
    """Counts, during the run and at its end."""

    done: int = 0
    """Shards that were made"""
    failed: dict[int, str] = field(default_factory=dict)
    """Shards given up, with the cause of the last attempt"""
    untried: int = 0
    """Shards left without a finished attempt when the run stopped: too many failures in a row, or no actor started"""
    retries: int = 0
    """Failed attempts that were followed by another"""
    waiting: int = 0
    """Shards that no actor has taken"""
    actors: int = 0
    """Actors, including those that wait for room or a replacement"""
    ready: int = 0
    """Actors that have loaded"""
    stopped_by: str | None = None
    """Why the last actor to be hired could not start; None once an actor has tried a shard since"""
