"""Draw images from the averaged weights of a checkpoint into memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from postmean.base.errors import ConfigError
from postmean.training.checkpoint import DenoiserCard, find_checkpoint, load_denoiser, read_card
from postmean.training.distributed import device_of
from postmean.training.model.sampling import Sampler, SamplerName, make_sampler, random_labels, sample_batches
from postmean.training.sample_config import DrawConfig


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """Images to draw: a checkpoint, and the settings that suit it."""

    config: DrawConfig
    checkpoint: Path
    card: DenoiserCard
    sampler: Sampler
    labels: np.ndarray | None
    """int64 [count]; None for an unconditional model."""

    @classmethod
    def of(cls, config: DrawConfig) -> "Drawing":
        """Read the checkpoint's card and choose what the config leaves open.

        Raises:
            DataError: there is no checkpoint.
            ConfigError: sampler or label do not fit the checkpoint.
        """
        card, checkpoint = read_card(config.checkpoint), find_checkpoint(config.checkpoint)
        name = _sampler_name(config, card, checkpoint)
        levels = (config.sigma_min, config.sigma_max, config.churn, config.sigmas)
        sampler = make_sampler(name, config.steps, *levels, side=card.image_shape[1])
        labels = _labels(config, card, checkpoint)
        return cls(config=config, checkpoint=checkpoint, card=card, sampler=sampler, labels=labels)

    def batches(self) -> Iterator[np.ndarray]:
        """Batches of images, uint8 [B, C, H, W]. The call loads the weights; each batch is drawn on demand."""
        config, device = self.config, device_of(self.config.device)
        denoiser = load_denoiser(self.checkpoint, device, config.ema)
        shape = self.card.image_shape
        return sample_batches(
            denoiser, self.sampler, config.count, shape, config.seed, config.batch_size, self.labels, device
        )


def _sampler_name(config: DrawConfig, card: DenoiserCard, checkpoint: Path) -> SamplerName:
    if config.sampler == "consistency" and not card.consistency:
        raise ConfigError(f"{checkpoint}: a denoiser, not a consistency model: pass --sampler heun")
    if config.sampler == "heun" and card.consistency:
        raise ConfigError(f"{checkpoint}: a consistency model, it has no ODE to solve: pass --sampler consistency")
    return "consistency" if card.consistency else "heun"


def _labels(config: DrawConfig, card: DenoiserCard, checkpoint: Path) -> np.ndarray | None:
    if not card.classes:
        if config.label is not None:
            raise ConfigError(f"{checkpoint}: not conditional: leave --label out")
        return None
    if config.label is None:
        return random_labels(config.seed, range(config.count), card.classes)
    if not 0 <= config.label < card.classes:
        raise ConfigError(f"label {config.label}: the model knows 0..{card.classes - 1}")
    return np.full(config.count, config.label, np.int64)
