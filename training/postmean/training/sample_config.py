"""Settings of `postmean sample` and `postmean evaluate`. No torch here, so that their --help is quick."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from postmean.base.errors import ConfigError
from postmean.base.places import Place
from postmean.training.model.sampler_config import SamplerConfig


@dataclass(frozen=True, kw_only=True)
class ImagesConfig(SamplerConfig):
    """Which images are drawn from a checkpoint, and how."""

    seed: int = 0
    """Image n of a seed is always the same image."""
    ema: float | None = None
    """Relative width sigma_rel of the average of the weights, such as 0.08, made of a run's snapshots of power-function
    averages (Karras et al. 2024); default: the average in the checkpoint."""
    label: int | None = None
    """Class of all images, for a conditional model; default: a random class for each image."""
    batch_size: int = 64
    """Images drawn at once."""
    device: str = "auto"
    """auto, cpu or cuda."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size < 1:
            raise ConfigError("expected --batch-size of at least 1")
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed: expected 0 <= seed < 2^63, got {self.seed}")


@dataclass(frozen=True, kw_only=True)
class DrawConfig(ImagesConfig):
    """What to draw."""

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """A checkpoint, or the folder of a run."""
    count: int = 64
    """Images to draw."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.count < 1:
            raise ConfigError("expected --count of at least 1")


@dataclass(frozen=True, kw_only=True)
class SampleConfig(DrawConfig):
    """What to draw, and where to write it."""

    out: Path
    """Folder for the images (000000.png, ...), grid.png and samples.json."""


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(ImagesConfig):
    """What to score, and against what; the flags of a sampler are those of --checkpoint."""

    images: Annotated[Path | None, tyro.conf.Positional] = None
    """Folder of PNGs, as `postmean sample` writes it."""
    store: Place
    """Image store (folder or URL) to compare with; all its images are used."""
    checkpoint: Path | None = None
    """Checkpoint or run to draw images from, in place of a folder."""
    count: int = 50_000
    """Images to draw from the checkpoint."""
    feature_extractor_weights: Path | None = None
    """Inception weights in torch-fidelity's format, for machines without internet; default: downloaded once."""
    cache: Path | None = None
    """Folder for the features of the store; default: torch-fidelity's own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.images is None) == (self.checkpoint is None):
            raise ConfigError("pass either a folder of images or --checkpoint")
        if self.count < 2:
            raise ConfigError("expected --count of at least 2")
