"""Switches that save time or memory of a training, and change at most roundings."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import cast

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from postmean.base.errors import ConfigError
from postmean.training.model.networks.modules.diffusers_unet import DiffusersUNet
from postmean.training.model.networks.modules.edm2_unet import EDM2Block
from postmean.training.model.networks.modules.residual_block import ResidualBlock
from postmean.training.model.preconditioning import Denoiser


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


def check_compiler(device: torch.device) -> None:
    """Raise ConfigError unless torch.compile works on this device: it needs a C++ compiler or Triton."""
    try:
        torch.compile(torch.neg)(torch.ones(1, device=device))
    except Exception as error:  # each backend raises its own kinds
        said = str(error).strip().splitlines()[:1]
        raise ConfigError(
            f"compile: torch.compile does not work on {device} here ({type(error).__name__}: {''.join(said)}): install "
            "a C++ compiler, or leave --compile out"
        ) from error


def compiled(denoiser: Denoiser) -> Denoiser:
    """The denoiser, which is compiled when it is first called, in each precision anew.

    Its dropout masks are those that it draws uncompiled, so student and teacher still share theirs. `output`, which
    losses differentiate forwards, stays uncompiled.
    """
    return cast(Denoiser, torch.compile(denoiser, options={"fallback_random": True}))


def unscale(weights: Iterable[nn.Parameter], scale: float) -> None:
    """Divide the gradients by the scale of the loss; what overflowed becomes 0, so that it harms no weight."""
    for weight in weights:
        if weight.grad is not None:
            weight.grad.div_(scale).nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
