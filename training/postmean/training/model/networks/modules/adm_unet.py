"""ADM: Dhariwal & Nichol 2021, as Karras et al. 2022 have it, with the names of its weights."""

from math import sqrt
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from postmean.training.model.networks.modules.layers import (
    Convolution,
    GroupNorm,
    Linear,
    PositionalEmbedding,
    Start,
    one_hot,
)
from postmean.training.model.networks.modules.precision import own_precision
from postmean.training.model.networks.modules.residual_block import BlockKind, ResidualBlock
from postmean.training.model.networks.modules.topology import way_down, way_up
from postmean.training.model.networks.network import ImageShape

if TYPE_CHECKING:
    from postmean.training.model.networks.adm import ADMNetwork

_START, _ZERO = Start("he-uniform", sqrt(1 / 3), sqrt(1 / 3)), Start("he-uniform", 0.0)


class ADMUNet(nn.Module):
    """The network of these settings, a `Network`. Its output is 0 at first."""

    def __init__(self, settings: "ADMNetwork", image_shape: ImageShape, classes: int) -> None:
        super().__init__()
        self.classes, self.second_time = classes, settings.second_time
        channels, side, _ = image_shape
        width = settings.channels
        widths, attends = [width * each for each in settings.channel_mult], set(settings.attention_resolutions)
        kind = BlockKind(
            embedding=4 * width,
            start=_START,
            start_last=_ZERO,
            start_attention=_START,
            scales_features=True,
            skip_scale=1.0,
            eps=1e-5,
            always_projects=False,
            head_channels=64,
            dropout=settings.dropout,
            dropout_side=settings.dropout_side,
        )

        self.map_noise = PositionalEmbedding(width, to_the_end=False)
        self.map_layer0 = Linear(width, 4 * width, _START)
        self.map_layer1 = Linear(4 * width, 4 * width, _START)
        self.map_label = Linear(classes, 4 * width, Start("he-normal", sqrt(classes)), bias=False) if classes else None
        if self.second_time:
            self.second_layer0 = Linear(width, 4 * width, _START)
            self.second_layer1 = Linear(4 * width, 4 * width, _ZERO)

        down = way_down(side, (channels, widths[0]), widths, settings.layers_per_block, attends)
        first = Convolution(channels, widths[0], 3, _START)
        self.enc = nn.ModuleDict({s.name: first if s is down[0] else ResidualBlock(s, kind) for s in down})
        up = way_up(down, widths, settings.layers_per_block, attends, last_only=False)
        self.dec = nn.ModuleDict({stage.name: ResidualBlock(stage, kind) for stage in up})
        self._takes_skip = {stage.name for stage in up if stage.takes_skip}
        self.out_norm = GroupNorm(widths[0], 1e-5)
        self.out_conv = Convolution(widths[0], channels, 3, _ZERO)

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
            skips = []
            for layer in self.enc.values():
                x = layer(x, embedding) if isinstance(layer, ResidualBlock) else layer(x)
                skips.append(x)
            for name, block in self.dec.items():
                x = block(torch.cat([x, skips.pop()], 1) if name in self._takes_skip else x, embedding)
            return self.out_conv(F.silu(self.out_norm(x)))

    def _embedding(
        self, time: torch.Tensor, class_labels: torch.Tensor | None, second_time: torch.Tensor | None
    ) -> torch.Tensor:
        """Embedding of time, class and second time, float32 [B, channels]."""
        embedding = self.map_layer1(F.silu(self.map_layer0(self.map_noise(time))))
        if self.map_label is not None:
            embedding = embedding + self.map_label(one_hot(class_labels, self.classes, time))
        if self.second_time and second_time is not None:
            embedding = embedding + self.second_layer1(F.silu(self.second_layer0(self.map_noise(second_time))))
        return F.silu(embedding)
