"""Settings of a fleet: what an actor computes with, how many actors there are, and how long to wait for them."""

from dataclasses import dataclass
from typing import Literal

from postmean.base.checks import check_at_least_one, check_positive
from postmean.base.errors import ConfigError
from postmean.base.flags import FlagGroup


@dataclass(frozen=True, kw_only=True)
class ActorSettings(FlagGroup):
    """What one actor computes with."""

    threads_per_actor: int = 1
    """CPU threads per actor. Part of the manifest: the last bit of sums depends on it."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where an actor computes; auto uses GPUs if this machine has one, or the cluster at RAY_ADDRESS."""

    def __post_init__(self) -> None:
        check_at_least_one(self, ("threads_per_actor",))


@dataclass(frozen=True, kw_only=True)
class FleetSettings(FlagGroup):
    """How many actors, and their deadlines."""

    actors: int | None = None
    """Most Ray actors; default one per GPU, or as many as the usable CPU cores hold, here or at RAY_ADDRESS."""
    min_actors: int = 1
    """Actors to keep even when there is nothing to do."""
    idle_seconds: float = 60.0
    """Idle time after which an actor beyond --min-actors is released."""
    shards_at_a_time: int | None = None
    """Shards that an actor makes at the same time: one estimates while others prepare, pack and write. Default 3 on a
    GPU, so that it need not wait for them, else 1."""
    memory_per_actor: float | None = None
    """Gigabytes that an actor asks of its node of a cluster, so that Ray puts no more actors there than fit; default
    what `postmean plan` says it needs, 0 asks for none."""
    attempts: int = 3
    """Times a shard is tried before it is reported as failed."""
    shard_seconds: float = 3600.0
    """Deadline of one shard: an actor that takes longer is replaced."""
    start_seconds: float = 600.0
    """Deadline for an actor to find room on the cluster and to load; the run ends if no actor has found any by then."""

    def __post_init__(self) -> None:
        check_at_least_one(self, ("attempts", "actors", "shards_at_a_time"))
        if not 0 <= self.min_actors <= (self.actors or self.min_actors):
            raise ConfigError(f"--min-actors: expected 0 to --actors {self.actors}, got {self.min_actors}")
        if self.memory_per_actor is not None and not 0 <= self.memory_per_actor < 1e6:
            raise ConfigError(f"--memory-per-actor: expected gigabytes, 0 or more, got {self.memory_per_actor}")
        check_positive(self, ("shard_seconds", "start_seconds", "idle_seconds"))

    def at_a_time(self, device: str) -> int:
        """`shards_at_a_time`, or its default for a device."""
        return self.shards_at_a_time or (1 if device == "cpu" else 3)
