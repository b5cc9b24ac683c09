"""What became of the shards that a dispatcher was given."""

from dataclasses import dataclass, field


@dataclass
class Outcome:
    """Counts, as the run goes on and at its end."""

    done: int = 0
    """Shards that were made"""
    failed: dict[int, str] = field(default_factory=dict)
    """Cause of the last attempt, by shard"""
    untried: int = 0
    """Shards left when too many others had failed in a row, or no actor started"""
    retries: int = 0
    waiting: int = 0
    """Shards that no actor has taken"""
    actors: int = 0
    """Actors, those without room included"""
    ready: int = 0
    """Actors that have loaded"""
    stopped_by: str | None = None
    """Why no actor could take a shard, where that ended the run"""
