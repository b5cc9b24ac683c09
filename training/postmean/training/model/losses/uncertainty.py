"""A learned function of the noise level: the log variance of EDM2's loss, and the adaptive weight of sCM."""

import math

import torch
from torch import nn


class Uncertainty(nn.Module):
    """u(time): linear in random Fourier features of the time, without bias (Karras et al. 2024, App. B.2, `MPFourier`).

    It begins at 0. The weights have unit norm in EDM2; here they are free, which does not limit u.

    Args:
        channels: number of features.
    """

    frequencies: torch.Tensor
    phases: torch.Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", 2 * math.pi * torch.randn(channels))
        self.register_buffer("phases", 2 * math.pi * torch.rand(channels))
        self.weight = nn.Parameter(torch.zeros(channels))

    def forward(self, time: torch.Tensor) -> torch.Tensor:
        """u [B] of times [B]."""
        with torch.autocast(time.device.type, enabled=False):
            features = 2**0.5 * (time.float()[:, None] * self.frequencies + self.phases).cos()
            return features @ self.weight / len(self.weight) ** 0.5
