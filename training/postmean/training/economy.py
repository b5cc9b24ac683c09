"""Switches that save time or memory of a training, and change at most roundings."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from postmean.base.errors import ConfigError
from postmean.training.model.networks.modules.diffusers_unet import DiffusersUNet
from postmean.training.model.networks.modules.edm2_unet import EDM2Block
from postmean.training.model.networks.modules.residual_block import ResidualBlock


@contextmanager
def tf32(wanted: bool) -> Iterator[None]:
    """Within the block, fp32 matrices may be multiplied in TF32 if that is wanted; torch lets convolutions anyway."""
    matrices = torch.backends.cuda.matmul
    before = matrices.allow_tf32
    try:
        matrices.allow_tf32 = wanted or before
        yield
    finally:
        matrices.allow_tf32 = before


def checkpoint_blocks(network: nn.Module) -> None:
    """Let the residual blocks compute their features again in the backward pass, with the same dropout masks.

    Raises:
        ConfigError: a network of the user's own, whose blocks are not known.
    """
    if isinstance(network, DiffusersUNet):
        network.unet.enable_gradient_checkpointing()
        return
    blocks = [module for module in network.modules() if isinstance(module, ResidualBlock | EDM2Block)]
    if not blocks:
        raise ConfigError(
            f"gradient_checkpointing: {type(network).__name__} has no blocks of ours: checkpoint in its own forward"
        )
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def unscale(weights: Iterable[nn.Parameter], scale: float) -> None:
    """Divide the gradients by the scale of the loss; what overflowed becomes 0, so that it harms no weight."""
    for weight in weights:
        if weight.grad is not None:
            weight.grad.div_(scale).nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
