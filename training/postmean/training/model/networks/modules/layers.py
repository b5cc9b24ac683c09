"""Layers of DDPM++, NCSN++ and ADM as in Karras et al. 2022, with the names of its weights.

Each layer computes in the numbers of its input. There is no fused kernel, so that all of them can be differentiated
forwards (torch.func.jvp).
"""

from math import pi, sqrt
from typing import Literal, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from postmean.base.errors import ConfigError
from postmean.training.model.networks.modules.precision import precise
from postmean.training.model.networks.modules.topology import Resampling

_MOST_GROUPS, _LEAST_PER_GROUP = 32, 4


class Start(NamedTuple):
    """How weights are drawn at first."""

    law: Literal["glorot", "he-uniform", "he-normal"]
    weight: float = 1.0
    """Factor of the weights."""
    bias: float = 0.0
    """Factor of the biases, which are drawn as the weights are."""

    def draw(self, shape: tuple[int, ...], fan_in: int, fan_out: int) -> torch.Tensor:
        """Random weights of variance 1 / fan_in, or 2 / (fan_in + fan_out)."""
        if self.law == "he-normal":
            return torch.randn(shape) / sqrt(fan_in)
        variance = 2 / (fan_in + fan_out) if self.law == "glorot" else 1 / fan_in
        return (2 * torch.rand(shape) - 1) * sqrt(3 * variance)


class Linear(nn.Module):
    """x A^T + b."""

    def __init__(self, into: int, out: int, start: Start, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(start.weight * start.draw((out, into), into, out))
        self.bias = nn.Parameter(start.bias * start.draw((out,), into, out)) if bias else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype))


class Convolution(nn.Module):
    """A convolution, after halving or doubling the image with a separable filter.

    Args:
        side: of the kernel; 0: the image is resampled alone.
        taps: of the filter, of even number.
        filter_last: filter and halve after the convolution, as in the residual input of NCSN++.
    """

    resample_filter: torch.Tensor | None

    def __init__(
        self,
        into: int,
        out: int,
        side: int,
        start: Start,
        resampling: Resampling = "keep",
        taps: tuple[int, ...] = (1, 1),
        filter_last: bool = False,
    ) -> None:
        super().__init__()
        self.resampling: Resampling = resampling
        self.filter_last = filter_last
        fans = into * side**2, out * side**2
        self.weight = nn.Parameter(start.weight * start.draw((out, into, side, side), *fans)) if side else None
        self.bias = nn.Parameter(start.bias * start.draw((out,), *fans)) if side else None
        taps_1d = torch.tensor(taps, dtype=torch.float32)
        taps_2d = torch.outer(taps_1d, taps_1d) / taps_1d.sum() ** 2
        self.register_buffer("resample_filter", None if resampling == "keep" else taps_2d[None, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        taps = self.resample_filter
        reach = 0 if taps is None else (taps.shape[-1] - 1) // 2
        margin = 0 if self.weight is None else self.weight.shape[-1] // 2
        if self.filter_last and taps is not None:  # the outer margin is made first, and filtered away
            return filtered(self._convolved(x, margin + reach), taps, self.resampling, 0)
        if taps is not None:
            x = filtered(x, taps, self.resampling, reach)
        return self._convolved(x, margin)

    def _convolved(self, x: torch.Tensor, margin: int) -> torch.Tensor:
        if self.weight is None or self.bias is None:
            return x
        return F.conv2d(x, self.weight.to(x.dtype), self.bias.to(x.dtype), padding=margin)


def filtered(x: torch.Tensor, taps: torch.Tensor, resampling: Resampling, reach: int) -> torch.Tensor:
    """Images of half or twice the side.

    Args:
        taps: the filter, of sum 1, [1, 1, n, n].
        reach: margin of zeros around the images.
    """
    channels = x.shape[1]
    each = taps.to(x.dtype).repeat(channels, 1, 1, 1)
    if resampling == "down":
        return F.conv2d(x, each, stride=2, padding=reach, groups=channels)
    return F.conv_transpose2d(x, 4 * each, stride=2, padding=reach, groups=channels)


class GroupNorm(nn.Module):
    """Group normalisation with at most 32 groups of at least 4 channels; ConfigError where they do not divide."""

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.groups, self.eps = min(_MOST_GROUPS, channels // _LEAST_PER_GROUP), eps
        if self.groups < 1 or channels % self.groups:
            raise ConfigError(
                f"network: {channels} channels do not divide into {max(1, self.groups)} groups: pass other "
                "network.channels or network.channel-mult, such as multiples of 32"
            )
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.group_norm(x, self.groups, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)


class PositionalEmbedding(nn.Module):
    """cos and sin of time at frequencies that fall geometrically from 1 to 1/10 000, [B, channels].

    Args:
        to_the_end: whether the last frequency is 1/10 000 itself.
    """

    def __init__(self, channels: int, to_the_end: bool) -> None:
        super().__init__()
        self.channels, self.to_the_end = channels, to_the_end

    def forward(self, time: torch.Tensor) -> torch.Tensor:
        half = self.channels // 2
        place = torch.arange(half, dtype=torch.float32, device=time.device) / (half - int(self.to_the_end))
        angle = precise(time)[:, None] * 1e-4**place
        return torch.cat([angle.cos(), angle.sin()], 1)


class FourierEmbedding(nn.Module):
    """cos and sin of time at random frequencies, which are drawn once, [B, channels].

    Args:
        scale: standard deviation of the frequencies, in periods per unit of time.
    """

    freqs: torch.Tensor

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        self.register_buffer("freqs", scale * torch.randn(channels // 2))

    def forward(self, time: torch.Tensor) -> torch.Tensor:
        angle = precise(time)[:, None] * (2 * pi * self.freqs)
        return torch.cat([angle.cos(), angle.sin()], 1)


def one_hot(labels: torch.Tensor | None, classes: int, time: torch.Tensor) -> torch.Tensor:
    """A 1 in the column of each label, [B, classes]; zeros without labels.

    Args:
        time: [B], for number, device and type of the rows.
    """
    if labels is None:
        return precise(time.new_zeros(len(time), classes))
    return precise(F.one_hot(labels, classes).to(time.dtype))
