"""Settings of a sampler. No torch here, so that the help of commands is quick."""

from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Literal

from postmean.base.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """How images are drawn from a model: by `postmean sample` and `evaluate`, and while it trains."""

    sampler: Literal["auto", "heun", "euler", "consistency"] = "auto"
    """auto: consistency for a consistency model, else heun; euler: the steps of a denoiser distilled to --steps."""
    steps: int | None = None
    """Sampler steps; default 18 of heun, 1 of euler, 1 evaluation of a consistency model."""
    sigmas: tuple[float, ...] | None = None
    """Falling levels, such as 80 1.526. Default of a consistency model: they follow from --steps: 80, then 0.821 for
    images of 32x32, 1.526 for 64x64; else those of Karras et al. 2022, which are also those of heun."""
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    churn: float = 0.0
    """S_churn of Karras et al. 2022, Algorithm 2, such as 40 for ImageNet-64; 0: the ODE, without added noise."""
    s_min: float = 0.05
    """S_min: least sigma at which churn adds noise."""
    s_max: float = 50.0
    """S_max: largest sigma at which churn adds noise."""
    s_noise: float = 1.003
    """S_noise: standard deviation of the added noise."""
    guidance: float = 1.0
    """w of D_guide + w (D - D_guide); 1: no guidance. The guide is --guide, or the model itself without a class."""
    guide: Path | None = None
    """Checkpoint or run of a worse denoiser for the same images (autoguidance, Karras et al. 2024), or of an
    unconditional one."""

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise ConfigError("expected --steps of at least 1")
        if not isfinite(self.guidance):
            raise ConfigError(f"guidance: expected a finite number, got {self.guidance}")
        if self.guide is not None and self.guidance == 1:
            raise ConfigError("--guide: it does nothing with --guidance 1: pass such as --guidance 2")
