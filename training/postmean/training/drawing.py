"""Draw images from the averaged weights of a checkpoint into memory."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from postmean.base.errors import ConfigError
from postmean.training.checkpoint import DenoiserCard, find_checkpoint, load_denoiser, read_card
from postmean.training.distributed import World
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
class Wanted:
    """Images 0 .. count - 1 of a seed."""

    count: int
    seed: int
    labels: np.ndarray | None
    """int64 [count]; None for an unconditional model."""
    batch_size: int = 64


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

    def batches(self, world: World) -> Iterator[tuple[range, np.ndarray]]:
        """Batches of this process's part of the images: their numbers, and uint8 [B, C, H, W].

        The call loads the weights; each batch is drawn on demand.
        """
        config, denoiser = self.config, self.denoiser(world.device)
        mine = range(world.rank, config.count, world.size)
        batches = sample_batches(
            denoiser,
            self.sampler,
            mine,
            self.card.image_shape,
            config.seed,
            config.batch_size,
            self.labels,
            world.device,
        )
        firsts = range(0, len(mine), config.batch_size)
        return ((mine[n : n + config.batch_size], batch) for n, batch in zip(firsts, batches, strict=True))

    def all_images(self, world: World, progress: Callable[[int], None]) -> np.ndarray:
        """All images, uint8 [count, C, H, W]; every process draws a part. Every process must call this."""
        config = self.config
        wanted = Wanted(count=config.count, seed=config.seed, labels=self.labels, batch_size=config.batch_size)
        return drawn_by_all(world, self.denoiser(world.device), self.sampler, self.card, wanted, progress)

    def denoiser(self, device: torch.device) -> DenoiserFunction:
        """The model, with its guidance."""
        own = load_denoiser(self.checkpoint, device, ema=self.config.ema)
        return guided_by(self.config, own, self.card, str(self.checkpoint), device)


def sampler_for(config: SamplerConfig, card: DenoiserCard, where: str) -> Sampler:
    """The sampler of a model; ConfigError where the settings do not suit it."""
    if config.sampler == "consistency" and not card.consistency:
        raise ConfigError(f"{where}: a denoiser, not a consistency model: pass --sampler heun")
    if config.sampler in ("heun", "euler") and card.consistency:
        raise ConfigError(f"{where}: a consistency model, it has no ODE to solve: pass --sampler consistency")
    if card.consistency and config.guidance != 1:
        raise ConfigError(f"{where}: a consistency model, which guidance is not for: leave --guidance out")
    return make_sampler(config, card.consistency, card.image_shape[1])


def drawn_by_all(
    world: World,
    denoiser: DenoiserFunction,
    sampler: Sampler,
    card: DenoiserCard,
    images: Wanted,
    progress: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """The images, uint8 [count, C, H, W], in every process; each draws a part of them. Every process must call this.

    Args:
        progress: called with the number of images done.
    """
    share = -(-images.count // world.size)
    mine, parts = range(world.rank, share * world.size, world.size), []
    labels = images.labels
    if labels is not None:  # parts have one size: the images past the end are drawn and left out
        labels = np.resize(labels, share * world.size)
    batches = sample_batches(
        denoiser, sampler, mine, card.image_shape, images.seed, images.batch_size, labels, world.device
    )
    for batch in batches:
        parts.append(batch)
        progress(min(images.count, world.size * sum(map(len, parts))))
    everyone = world.gathered(np.concatenate(parts))
    return np.stack(everyone, 1).reshape(-1, *card.image_shape)[: images.count]


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
