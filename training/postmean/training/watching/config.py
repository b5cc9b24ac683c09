"""What a training run shows of itself. No torch here, so that `postmean train --help` is quick."""

from dataclasses import dataclass, fields

from postmean.base.errors import ConfigError
from postmean.training.model.sampler_config import SamplerConfig


@dataclass(frozen=True, kw_only=True)
class WatchConfig:
    """What a training shows of itself, and where. None of this changes the weights."""

    grid_kimg: float | None = None
    """Thousands of images between two grids of samples in grids/; 0: none. Default: 20 grids, or fewer where they would
    cost more than a hundredth of the training."""
    grid_count: int = 64
    """Samples in a grid, eight per row."""
    sampling: SamplerConfig = SamplerConfig()
    """How samples are drawn during the training."""

    wandb: str = ""
    """Project of Weights & Biases that gets the metrics too; empty: none."""

    def __post_init__(self) -> None:
        if self.grid_count < 1 or (self.grid_kimg is not None and not 0 <= self.grid_kimg < float("inf")):
            raise ConfigError(
                f"expected --grid-count >= 1 and --grid-kimg >= 0, got {self.grid_count}, {self.grid_kimg}"
            )


def watching(config: WatchConfig) -> WatchConfig:
    """These settings alone, of a run's settings."""
    return WatchConfig(**{field.name: getattr(config, field.name) for field in fields(WatchConfig)})
