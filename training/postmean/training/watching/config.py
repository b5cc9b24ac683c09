"""What a training run shows of itself. No torch here, so that `postmean train --help` is quick."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

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

    model_kimg: float = 0.0
    """Thousands of images between two light models in models/, which have the averaged weights alone; 0: none."""
    model_precision: Literal["fp16", "fp32"] = "fp16"
    """Numbers that light models are stored in."""
    score_kimg: float = 0.0
    """Thousands of images between two scores, as of `postmean evaluate`; 0: none. Each scored model is kept in models/,
    and best leads to the one with the lowest FID."""
    score_images: int = 5000
    """Images drawn for scores, seed 0. FID of few images is too high: compare it only with FID of as many."""
    feature_extractor_weights: Path | None = None
    """Inception weights for scores, in torch-fidelity's format; default: downloaded once."""
    wandb: str = ""
    """Project of Weights & Biases that gets the metrics too; empty: none."""

    def __post_init__(self) -> None:
        for name in ("grid_kimg", "model_kimg", "score_kimg"):
            kimg = getattr(self, name)
            if kimg is not None and not 0 <= kimg < float("inf"):
                raise ConfigError(f"{name}: expected a finite number of at least 0, got {kimg}")
        if self.grid_count < 1 or self.score_images < 2:
            given = f"{self.grid_count}, {self.score_images}"
            raise ConfigError(f"expected --grid-count of at least 1 and --score-images of at least 2, got {given}")


def watching(config: WatchConfig) -> WatchConfig:
    """These settings alone, of a run's settings."""
    return WatchConfig(**{field.name: getattr(config, field.name) for field in fields(WatchConfig)})
