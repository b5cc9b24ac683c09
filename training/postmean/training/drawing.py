"""Draw images from the averaged weights of a checkpoint into memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from postmean.base.errors import ConfigError
from postmean.training.checkpoint import DenoiserCard, find_checkpoint, load_denoiser, read_card
from postmean.training.distributed import device_of
from postmean.training.model.guidance import guided
from postmean.training.model.sampler_config import SamplerConfig
from postmean.training.model.sampling import (
    DenoiserFunction,
    Sampler,
    make_sampler,
    random_labels,
    sample_batches,
)
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
        sampler = sampler_for(config, card, str(checkpoint))
        labels = labels_for(config.label, config.seed, config.count, card, str(checkpoint))
        return cls(config=config, checkpoint=checkpoint, card=card, sampler=sampler, labels=labels)

    def batches(self) -> Iterator[np.ndarray]:
        """Batches of images, uint8 [B, C, H, W]. The call loads the weights; each batch is drawn on demand."""
        config, device = self.config, device_of(self.config.device)
        own = load_denoiser(self.checkpoint, device, ema=config.ema)
        denoiser = guided_by(config, own, self.card, str(self.checkpoint), device)
        shape = self.card.image_shape
        return sample_batches(
            denoiser, self.sampler, config.count, shape, config.seed, config.batch_size, self.labels, device
        )


def sampler_for(config: SamplerConfig, card: DenoiserCard, where: str) -> Sampler:
    """The sampler of a model; ConfigError where the settings do not suit it."""
    if config.sampler == "consistency" and not card.consistency:
        raise ConfigError(f"{where}: a denoiser, not a consistency model: pass --sampler heun")
    if config.sampler == "heun" and card.consistency:
        raise ConfigError(f"{where}: a consistency model, it has no ODE to solve: pass --sampler consistency")
    if card.consistency and config.guidance != 1:
        raise ConfigError(f"{where}: a consistency model, which guidance is not for: leave --guidance out")
    return make_sampler(config, card.consistency, card.image_shape[1])


def labels_for(label: int | None, seed: int, count: int, card: DenoiserCard, where: str) -> np.ndarray | None:
    """The class of each image, int64 [count]; None for an unconditional model.

    Args:
        label: class of all; None: random ones of the seed.
    Raises:
        ConfigError: the model has no such class.
    """
    if not card.classes:
        if label is not None:
            raise ConfigError(f"{where}: not conditional: leave --label out")
        return None
    if label is None:
        return random_labels(seed, range(count), card.classes)
    if not 0 <= label < card.classes:
        raise ConfigError(f"label {label}: the model knows 0..{card.classes - 1}")
    return np.full(count, label, np.int64)


def guided_by(
    config: SamplerConfig, denoiser: DenoiserFunction, card: DenoiserCard, where: str, device: torch.device
) -> DenoiserFunction:
    """The denoiser with the guidance of the settings.

    Raises:
        ConfigError: the model has no guide of its own, or the guide is for other images or a consistency model.
        DataError: the guide cannot be loaded.
    """
    if config.guidance == 1:
        return denoiser
    if config.guide is None:
        if not card.has_null_class:
            raise ConfigError(f"{where}: it has no class for none, so it cannot guide itself: pass --guide CHECKPOINT")
        return guided(denoiser, denoiser, config.guidance, card.classes, has_labels=False)
    guide = read_card(config.guide)
    if guide.consistency or guide.image_shape != card.image_shape or guide.classes not in (0, card.classes):
        raise ConfigError(
            f"--guide {config.guide}: expected a denoiser of {card.image_shape} images with {card.classes} or no "
            f"classes, got {'a consistency model' if guide.consistency else guide.image_shape}, {guide.classes} classes"
        )
    worse = load_denoiser(config.guide, device)
    return guided(denoiser, worse, config.guidance, None, has_labels=guide.classes > 0)
