"""The magnitude-preserving network of EDM2: Karras et al. 2024, config G, Figure 21, with the names of its weights."""

from math import sqrt
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from postmean.training.model.networks.modules.layers import one_hot
from postmean.training.model.networks.modules.magnitudes import (
    Fourier,
    UnitConvolution,
    joined,
    mixed,
    resampled,
    silu,
    unit_rows,
)
from postmean.training.model.networks.modules.precision import own_precision
from postmean.training.model.networks.modules.residual_block import attend, heads_of
from postmean.training.model.networks.modules.topology import Stage, way_down, way_up
from postmean.training.model.networks.network import ImageShape

if TYPE_CHECKING:
    from postmean.training.model.networks.edm2 import EDM2Network

_BRANCH_SHARE = 0.3
"""Share of a residual or attention branch in its sum with the main branch."""
_LARGEST = 256.0
"""Activations are clipped to this: fp16 overflows otherwise."""


class EDM2Block(nn.Module):
    """A residual branch, and one of attention where the stage asks for it.

    Args:
        encodes: whether it is on the way down: features are then normalised pixel by pixel.
    """

    def __init__(self, stage: Stage, embedding: int, encodes: bool, dropout: float) -> None:
        super().__init__()
        into, out = stage.into, stage.out
        self.resampling, self.encodes, self.dropout = stage.resampling, encodes, dropout
        self.heads = heads_of(out, 64) if stage.attention else 0
        self.emb_gain = nn.Parameter(torch.zeros([]))
        self.conv_res0 = UnitConvolution(out if encodes else into, out, 3)
        self.emb_linear = UnitConvolution(embedding, out, 0)
        self.conv_res1 = UnitConvolution(out, out, 3)
        self.conv_skip = UnitConvolution(into, out, 1) if into != out else None
        self.attn_qkv = UnitConvolution(out, 3 * out, 1) if self.heads else None
        self.attn_proj = UnitConvolution(out, out, 1) if self.heads else None

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """Features [B, out, side, side]; the embedding is float32 [B, channels]."""
        x = resampled(x, self.resampling)
        if self.encodes:
            x = unit_rows(self._projected(x), 1)
        scale = 1 + self.emb_linear(embedding, self.emb_gain)[:, :, None, None]
        y = self.conv_res0(silu(x))
        y = F.dropout(silu(y * scale.to(y.dtype)), self.dropout, self.training)
        x = mixed(x if self.encodes else self._projected(x), self.conv_res1(y), _BRANCH_SHARE)
        if self.attn_qkv is not None and self.attn_proj is not None:
            b, c, h, w = x.shape
            qkv = self.attn_qkv(x).reshape(b, self.heads, c // self.heads, 3, h * w)
            y = attend(*unit_rows(qkv, 2).unbind(3))
            x = mixed(x, self.attn_proj(y.reshape(x.shape)), _BRANCH_SHARE)
        return x.clamp(-_LARGEST, _LARGEST)

    def _projected(self, x: torch.Tensor) -> torch.Tensor:
        return x if self.conv_skip is None else self.conv_skip(x)


class EDM2UNet(nn.Module):
    """The network of these settings, a `Network`. Its output is 0 at first."""

    def __init__(self, settings: "EDM2Network", image_shape: ImageShape, classes: int) -> None:
        super().__init__()
        self.classes, self.second_time = classes, settings.second_time
        channels, side, _ = image_shape
        widths = [settings.channels * each for each in settings.channel_mult]
        attends, embedding = set(settings.attention_resolutions), max(widths)

        def block(stage: Stage, encodes: bool) -> EDM2Block:
            largest = settings.dropout_side
            rate = 0.0 if largest is not None and stage.side > largest else settings.dropout
            return EDM2Block(stage, embedding, encodes, rate)

        self.emb_fourier = Fourier(widths[0])
        self.emb_noise = UnitConvolution(widths[0], embedding, 0)
        self.emb_label = UnitConvolution(classes, embedding, 0) if classes else None
        if self.second_time:
            self.emb_second = UnitConvolution(widths[0], embedding, 0)
            self.second_gain = nn.Parameter(torch.zeros([]))
        # a channel of ones stands for the bias, which no layer has
        down = way_down(side, (channels + 1, widths[0]), widths, settings.layers_per_block, attends)
        first = UnitConvolution(channels + 1, widths[0], 3)
        self.enc = nn.ModuleDict({s.name: first if s is down[0] else block(s, True) for s in down})
        up = way_up(down, widths, settings.layers_per_block, attends, last_only=False)
        self.dec = nn.ModuleDict({stage.name: block(stage, False) for stage in up})
        self._takes_skip = {stage.name for stage in up if stage.takes_skip}
        self.out_conv = UnitConvolution(widths[0], channels, 3)
        self.out_gain = nn.Parameter(torch.zeros([]))

    def forward(
        self,
        x: torch.Tensor,
        time: torch.Tensor,
        class_labels: torch.Tensor | None = None,
        second_time: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """See `Network`."""
        with own_precision(x) as x:
            embedding = self._embedding(time, class_labels, second_time)
            x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
            skips = []
            for layer in self.enc.values():
                x = layer(x, embedding) if isinstance(layer, EDM2Block) else layer(x)
                skips.append(x)
            for name, layer in self.dec.items():
                x = layer(joined(x, skips.pop()) if name in self._takes_skip else x, embedding)
            return self.out_conv(x, self.out_gain)

    def before_step(self) -> None:
        """Set all weights to unit magnitude, so that steps of the optimiser keep their relative size (Eq. 66).

        Not in `forward`, as in the authors' code: a loss that differentiates it forwards, or calls it twice, could not.
        """
        for module in self.modules():
            if isinstance(module, UnitConvolution):
                module.normalise()

    def _embedding(
        self, time: torch.Tensor, class_labels: torch.Tensor | None, second_time: torch.Tensor | None
    ) -> torch.Tensor:
        """Embedding of time, class and second time, float32 [B, channels]."""
        embedding = self.emb_noise(self.emb_fourier(time))
        if self.emb_label is not None:
            label = one_hot(class_labels, self.classes, time) * sqrt(self.classes)
            embedding = mixed(embedding, self.emb_label(label), 0.5)
        if self.second_time and second_time is not None:
            embedding = embedding + self.emb_second(self.emb_fourier(second_time), self.second_gain)
        return silu(embedding)
