"""The residual block of DDPM++, NCSN++ and ADM, with self-attention where a stage asks for it."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from postmean.base.errors import ConfigError
from postmean.training.model.networks.modules.layers import Convolution, GroupNorm, Linear, Start
from postmean.training.model.networks.modules.precision import precise
from postmean.training.model.networks.modules.topology import Stage


@dataclass(frozen=True, kw_only=True)
class BlockKind:
    """What the blocks of a network have in common."""

    embedding: int
    """Channels of the embedding of time and class."""
    start: Start
    start_last: Start
    """Of the last layer of each branch."""
    start_attention: Start
    scales_features: bool
    """Whether the embedding scales the normalised features and shifts them (ADM), or is added before (DDPM++)."""
    skip_scale: float
    """Factor of the sum of the two branches."""
    eps: float
    always_projects: bool
    """Whether the skip connection of a resampling block has weights."""
    head_channels: int | None
    """Channels of an attention head; None: one head."""
    taps: tuple[int, ...] = (1, 1)
    dropout: float = 0.0
    dropout_side: int | None = None

    def rate(self, stage: Stage) -> float:
        """Dropout of a stage."""
        return 0.0 if self.dropout_side is not None and stage.side > self.dropout_side else self.dropout


class ResidualBlock(nn.Module):
    """Two convolutions with the embedding between them, a skip connection, and attention."""

    def __init__(self, stage: Stage, kind: BlockKind) -> None:
        super().__init__()
        into, out, resampled = stage.into, stage.out, stage.resampling != "keep"
        self.kind, self.dropout = kind, kind.rate(stage)
        self.norm0 = GroupNorm(into, kind.eps)
        self.conv0 = Convolution(into, out, 3, kind.start, stage.resampling, kind.taps)
        self.affine = Linear(kind.embedding, out * (2 if kind.scales_features else 1), kind.start)
        self.norm1 = GroupNorm(out, kind.eps)
        self.conv1 = Convolution(out, out, 3, kind.start_last)
        side = 1 if kind.always_projects or into != out else 0
        needs_skip = into != out or resampled
        self.skip = Convolution(into, out, side, kind.start, stage.resampling, kind.taps) if needs_skip else None
        self.heads = heads_of(out, kind.head_channels) if stage.attention else 0
        if self.heads:
            self.norm2 = GroupNorm(out, kind.eps)
            self.qkv = Convolution(out, 3 * out, 1, kind.start_attention)
            self.proj = Convolution(out, out, 1, kind.start_last)

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """Features [B, out, side, side].

        Args:
            embedding: float32 [B, channels].
        """
        y = self.conv0(F.silu(self.norm0(x)))
        condition = self.affine(embedding)[:, :, None, None].to(y.dtype)
        if self.kind.scales_features:
            scale, shift = condition.chunk(2, 1)
            y = self.norm1(y) * (1 + scale) + shift
        else:
            y = self.norm1(y + condition)
        y = self.conv1(F.dropout(F.silu(y), self.dropout, self.training))
        x = (y + (x if self.skip is None else self.skip(x))) * self.kind.skip_scale
        if self.heads:
            x = (x + self.proj(attention(self.qkv(self.norm2(x)), self.heads))) * self.kind.skip_scale
        return x


def heads_of(channels: int, head_channels: int | None) -> int:
    """Number of attention heads, at least one; ConfigError where the channels do not divide."""
    heads = max(1, channels // head_channels) if head_channels else 1
    if channels % heads:
        raise ConfigError(
            f"network: {channels} channels do not divide into {heads} attention heads: pass other network.channels"
        )
    return heads


def attention(qkv: torch.Tensor, heads: int) -> torch.Tensor:
    """Self-attention over all pixels, [B, C, H, W].

    Args:
        qkv: queries, keys and values, [B, 3 C, H, W]: channels by head, then by channel, then by these three.
    """
    b, channels, h, w = qkv.shape
    q, k, v = qkv.reshape(b, heads, channels // (3 * heads), 3, h * w).unbind(3)
    return attend(q, k, v).reshape(b, channels // 3, h, w)


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Values weighted by softmax(q k / sqrt(channels)), with all of them as [B, heads, channels, pixels].

    The weights are computed in float32, as in Karras et al. 2022.
    """
    logits = precise(q).transpose(2, 3) @ (precise(k) / q.shape[2] ** 0.5)
    return v @ logits.softmax(3).to(v.dtype).transpose(2, 3)
