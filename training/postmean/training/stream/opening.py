"""What a stream was opened with, so that another process can open it again."""

from dataclasses import dataclass
from pathlib import Path

from postmean.base.errors import ConfigError
from postmean.contract.recipe import TargetRecipe


@dataclass(frozen=True, kw_only=True)
class Opening:
    """The arguments of `TargetStream.open`."""

    targets: str
    store: str | Path
    batch_size: int
    start_tuple: int
    rank: int
    world_size: int
    recipe: TargetRecipe | None
    steps: int | None
    depth: int
    pin: bool
    follow_seconds: float
    trainer: str

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.depth < 1 or not 0 <= self.rank < self.world_size:
            raise ConfigError(
                f"stream: expected batch_size, depth >= 1 and 0 <= rank < world_size, got batch_size "
                f"{self.batch_size}, depth {self.depth}, rank {self.rank}, world_size {self.world_size}"
            )
        if self.batch_size % self.world_size:
            raise ConfigError(
                f"batch_size {self.batch_size} does not divide by the {self.world_size} ranks: pass a multiple"
            )
