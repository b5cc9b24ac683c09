"""Directional derivatives of networks, for losses in continuous time."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derivative_of(
    function: "Callable[..., torch.Tensor]", at: "tuple[torch.Tensor, ...]", along: "tuple[torch.Tensor, ...]"
) -> "tuple[torch.Tensor, torch.Tensor]":
    """Value of a function and its derivative along a direction, by forward-mode differentiation: one pass.

    In fp32 whatever the precision of the training: the derivative of a bf16 network is mostly rounding.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    # the fused attentions have no forward mode
    with sdpa_kernel(SDPBackend.MATH), torch.autocast(at[0].device.type, enabled=False):
        value, derivative = torch.func.jvp(function, at, along)[:2]
    return value, derivative
