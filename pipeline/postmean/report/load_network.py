"""A trained unconditional denoiser for a report, with what identifies it."""

import hashlib
from pathlib import Path

from postmean.base.errors import ConfigError
from postmean.contract.image_store import ImageStore
from postmean.training.checkpoint import find_checkpoint, load_denoiser, read_card
from postmean.training.model.preconditioning import Denoiser
from postmean.training.network_files import network_folder


def load_network(path: Path, store: ImageStore, device: str) -> tuple[Denoiser, str]:
    """The averaged denoiser of a checkpoint or run, and a hash of its weights and settings.

    Raises:
        DataError: there is no checkpoint, or it is damaged.
        ConfigError: it is a consistency model, or conditional, or for images of another shape than the store's.
    """
    checkpoint, card = find_checkpoint(path), read_card(path)
    if card.consistency:
        raise ConfigError(f"{path}: a consistency model gives no posterior mean: pass a denoiser's checkpoint")
    if card.classes:
        raise ConfigError(f"{path}: a conditional network estimates another mean: pass an unconditional checkpoint")
    if tuple(card.image_shape) != store.image_shape:
        raise ConfigError(f"{path}: made for images {card.image_shape}, the store's are {store.image_shape}")
    digest = hashlib.sha256((checkpoint / "denoiser.json").read_bytes())
    for file in sorted(network_folder(checkpoint).iterdir()):
        digest.update(file.read_bytes())
    return load_denoiser(checkpoint, device), digest.hexdigest()[:16]
