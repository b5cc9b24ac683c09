"""What a training run shows of itself. No torch here, so that `postmean train --help` is quick."""

from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class WatchConfig:
    """Where metrics go. None of this changes the weights."""

    wandb: str = ""
    """Project of Weights & Biases that gets the metrics too; empty: none."""


def watching(config: WatchConfig) -> WatchConfig:
    """These settings alone, of a run's settings."""
    return WatchConfig(**{field.name: getattr(config, field.name) for field in fields(WatchConfig)})
