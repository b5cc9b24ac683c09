"""Layers that keep the magnitude of their input: Karras et al. 2024, with the names of its weights."""

from math import pi, sqrt

import torch
from torch import nn
from torch.nn import functional as F

from postmean.training.model.networks.modules.precision import precise

_EPS = 1e-4
_SILU_MAGNITUDE = 0.596
"""Root mean square of silu of unit noise (Eq. 81)."""


def unit_rows(x: torch.Tensor, dim: int | None = None) -> torch.Tensor:
    """x with root mean square 1 over a dimension, or over all but the first.

    The sum of squares is taken in float32.
    """
    over = list(range(1, x.ndim)) if dim is None else [dim]
    length = torch.linalg.vector_norm(x, dim=over, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32))
    root_mean_square = length * sqrt(length.numel() / x.numel())
    return x / (root_mean_square + _EPS).to(x.dtype)


def silu(x: torch.Tensor) -> torch.Tensor:
    """SiLU scaled to unit magnitude (Eq. 81)."""
    return F.silu(x) / _SILU_MAGNITUDE


def mixed(a: torch.Tensor, b: torch.Tensor, share: float) -> torch.Tensor:
    """(1 - share) a + share b, scaled to unit magnitude for independent a and b (Eq. 88)."""
    return a.lerp(b, share) / sqrt((1 - share) ** 2 + share**2)


def joined(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Channels of a and of b, scaled so that both contribute the same and the whole has unit magnitude (Eq. 103)."""
    half = sqrt((a.shape[1] + b.shape[1]) / 2)
    return torch.cat([a * (half / sqrt(a.shape[1])), b * (half / sqrt(b.shape[1]))], 1)


def resampled(x: torch.Tensor, resampling: str) -> torch.Tensor:
    """Images of half the side, by averages of four, or of twice the side, by repetition."""
    if resampling == "down":
        return F.avg_pool2d(x, 2)
    return F.interpolate(x, scale_factor=2.0, mode="nearest") if resampling == "up" else x


class Fourier(nn.Module):
    """sqrt(2) cos(frequency time + phase) at random frequencies, [B, channels] (Eq. 75)."""

    freqs: torch.Tensor
    phases: torch.Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("freqs", 2 * pi * torch.randn(channels))
        self.register_buffer("phases", 2 * pi * torch.rand(channels))

    def forward(self, time: torch.Tensor) -> torch.Tensor:
        angle = precise(time)[:, None] * precise(self.freqs) + precise(self.phases)
        return angle.cos() * sqrt(2)


class UnitConvolution(nn.Module):
    """A convolution or matrix whose rows have unit length, whatever the length of its weights (Eq. 47); without bias.

    Args:
        side: of the kernel; 0: a matrix.
    """

    def __init__(self, into: int, out: int, side: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out, into, *([side, side] if side else [])))

    def forward(self, x: torch.Tensor, gain: torch.Tensor | float = 1.0) -> torch.Tensor:
        weight = unit_rows(precise(self.weight))
        weight = (weight * (gain / sqrt(weight[0].numel()))).to(x.dtype)
        return F.linear(x, weight) if weight.ndim == 2 else F.conv2d(x, weight, padding=weight.shape[-1] // 2)

    @torch.no_grad()
    def normalise(self) -> None:
        """Set the weights themselves to unit magnitude."""
        self.weight.copy_(unit_rows(self.weight))
