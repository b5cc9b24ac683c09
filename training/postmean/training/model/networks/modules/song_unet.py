"""DDPM++ and NCSN++: Song et al. 2021, as Karras et al. 2022 have them, with the names of its weights."""

from math import sqrt
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from postmean.training.model.networks.modules.layers import (
    Convolution,
    FourierEmbedding,
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
    from postmean.training.model.networks.song import SongNetwork

_START, _SMALL = Start("glorot"), Start("glorot", weight=1e-5)


class SongUNet(nn.Module):
    """The network of these settings, a `Network`. Its output is nearly 0 at first."""

    def __init__(self, settings: "SongNetwork", image_shape: ImageShape, classes: int) -> None:
        super().__init__()
        self.classes = classes
        channels, side, _ = image_shape
        width = settings.channels
        widths, attends = [width * each for each in settings.channel_mult], set(settings.attention_resolutions)
        features, embedding = width * settings.embedding_mult, 4 * width
        kind = BlockKind(
            embedding=embedding,
            start=_START,
            start_last=_SMALL,
            start_attention=Start("glorot", weight=sqrt(0.2)),
            scales_features=False,
            skip_scale=sqrt(0.5),
            eps=1e-6,
            always_projects=True,
            head_channels=None,
            taps=settings.taps,
            dropout=settings.dropout,
            dropout_side=settings.dropout_side,
        )

        scale = settings.fourier_scale
        self.map_noise = PositionalEmbedding(features, True) if scale is None else FourierEmbedding(features, scale)
        self.map_label = Linear(classes, features, _START) if classes else None
        self.map_layer0 = Linear(features, embedding, _START)
        self.map_layer1 = Linear(embedding, embedding, _START)
        if settings.second_time:
            self.second_layer0 = Linear(features, embedding, _START)
            self.second_layer1 = Linear(embedding, embedding, Start("glorot", weight=0.0))
        self.second_time = settings.second_time

        self.enc = nn.ModuleDict()
        before = channels
        down = way_down(side, (channels, width), widths, settings.layers_per_block, attends)
        for stage in down:
            plain = stage is down[0]
            self.enc[stage.name] = Convolution(channels, width, 3, _START) if plain else ResidualBlock(stage, kind)
            if stage.resampling == "down" and settings.residual_input:
                name = f"{stage.side}x{stage.side}_aux_residual"
                self.enc[name] = Convolution(before, stage.out, 3, _START, "down", settings.taps, filter_last=True)
                before = stage.out

        self.dec = nn.ModuleDict()
        up = way_up(down, widths, settings.layers_per_block, attends, last_only=True)
        for stage in up:
            self.dec[stage.name] = ResidualBlock(stage, kind)
        self._takes_skip = {stage.name for stage in up if stage.takes_skip}
        self.dec[f"{side}x{side}_aux_norm"] = GroupNorm(widths[0], 1e-6)
        self.dec[f"{side}x{side}_aux_conv"] = Convolution(widths[0], channels, 3, _SMALL)

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
            aside, skips = x, []  # aside: the image, halved and embedded at each resolution
            for name, layer in self.enc.items():
                if name.endswith("aux_residual"):
                    x = skips[-1] = aside = (x + layer(aside)) * sqrt(0.5)
                    continue
                x = layer(x, embedding) if isinstance(layer, ResidualBlock) else layer(x)
                skips.append(x)
            for name, layer in self.dec.items():
                if isinstance(layer, ResidualBlock):
                    x = layer(torch.cat([x, skips.pop()], 1) if name in self._takes_skip else x, embedding)
                else:
                    x = layer(x) if isinstance(layer, GroupNorm) else layer(F.silu(x))
            return x

    def _embedding(
        self, time: torch.Tensor, class_labels: torch.Tensor | None, second_time: torch.Tensor | None
    ) -> torch.Tensor:
        """Embedding of time, class and second time, float32 [B, channels]."""
        features = self._features(time)
        if self.map_label is not None:
            features = features + self.map_label(one_hot(class_labels, self.classes, time) * sqrt(self.classes))
        embedding = F.silu(self.map_layer1(F.silu(self.map_layer0(features))))
        if self.second_time and second_time is not None:
            embedding = embedding + self.second_layer1(F.silu(self.second_layer0(self._features(second_time))))
        return embedding

    def _features(self, time: torch.Tensor) -> torch.Tensor:
        cosine, sine = self.map_noise(time).chunk(2, 1)
        return torch.cat([sine, cosine], 1)  # the order of Song et al.'s weights
