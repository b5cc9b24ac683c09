"""diffusers' UNet2DModel in the kinds of the papers, so that diffusers loads saved weights.

DDPM++ and NCSN++: Song et al. 2021, as in Karras et al. 2022, Table 7; ADM: Dhariwal & Nichol 2021. They have
the size of the originals, but some layers differ (skip scale, embeddings).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from postmean.base.errors import ConfigError
from postmean.base.extras import needs
from postmean.training.model.networks.network import ImageShape, check_halves, check_sizes

if TYPE_CHECKING:
    from diffusers.models.unets.unet_2d import UNet2DModel
    from torch import nn

    from postmean.training.model.networks.modules.diffusers_unet import DiffusersUNet

Architecture = Literal["ddpm++", "ncsn++", "adm"]

# down, down with attention, up, up with attention
_BLOCKS = {
    "ddpm++": ("DownBlock2D", "AttnDownBlock2D", "UpBlock2D", "AttnUpBlock2D"),
    "ncsn++": ("SkipDownBlock2D", "AttnSkipDownBlock2D", "SkipUpBlock2D", "AttnSkipUpBlock2D"),
    "adm": ("ResnetDownsampleBlock2D", "AttnDownBlock2D", "ResnetUpsampleBlock2D", "AttnUpBlock2D"),
}


@dataclass(frozen=True, kw_only=True)
class UNet2DNetwork:
    """A diffusers UNet2DModel like a paper's network."""

    kind: ClassVar[str] = "unet2d"
    architecture: Architecture = "ddpm++"
    channels: int = 128
    """Base width, multiplied by channel_mult at each resolution."""
    channel_mult: tuple[int, ...] = (2, 2, 2)
    layers_per_block: int = 4
    """Residual layers per resolution on the way down; one more on the way up."""
    attention_resolutions: tuple[int, ...] = (16,)
    """Image sides with self-attention."""
    dropout: float = 0.0
    dropout_side: int | None = None
    """Largest image side at which dropout applies; None: at every side."""

    def __post_init__(self) -> None:
        check_sizes(self.channels, self.channel_mult, self.layers_per_block, self.dropout)

    def build(self, image_shape: ImageShape, classes: int) -> "DiffusersUNet":
        """A freshly initialised network whose output is 0; see `NetworkSettings`."""
        settings = self.unet_settings(image_shape, classes)
        with needs("train"):
            from diffusers.models.unets.unet_2d import UNet2DModel

        from postmean.training.model.networks.modules.diffusers_unet import DiffusersUNet

        try:
            unet = UNet2DModel(**settings)
        except ValueError as error:  # such as widths that do not divide into groups or heads
            raise ConfigError(f"network: {error}: pass other network.channels or network.channel-mult") from error
        _start_at_zero(unet)
        if self.dropout_side is not None:
            _drop_below(unet, image_shape[1], self.dropout_side)
        return DiffusersUNet(unet)

    def unet_settings(self, image_shape: ImageShape, classes: int) -> dict[str, Any]:
        """Arguments of UNet2DModel; raises ConfigError as `build`."""
        c, h, _ = image_shape
        levels = len(self.channel_mult)
        check_halves(image_shape, levels)
        if self.architecture == "ncsn++" and c != 3:
            raise ConfigError(
                f"network: diffusers' ncsn++ takes images of 3 channels, got {c}: pass --network.architecture ddpm++"
            )
        down, attention_down, up, attention_up = _BLOCKS[self.architecture]
        attends = [h // 2**level in self.attention_resolutions for level in range(levels)]
        adm = self.architecture == "adm"
        widths = tuple(self.channels * m for m in self.channel_mult)
        return dict(
            sample_size=h,
            in_channels=c,
            out_channels=c,
            block_out_channels=widths,
            layers_per_block=self.layers_per_block,
            down_block_types=tuple(attention_down if a else down for a in attends),
            up_block_types=tuple(attention_up if a else up for a in reversed(attends)),
            time_embedding_type="positional",  # "fourier" takes a logarithm: NaN for the negative times of ln sigma
            time_embedding_dim=4 * self.channels,
            downsample_type="resnet",
            upsample_type="resnet",
            resnet_time_scale_shift="scale_shift" if adm else "default",
            attention_head_dim=min(64, *widths) if adm else None,
            norm_num_groups=min(32, self.channels // 4),
            norm_eps=1e-5 if adm else 1e-6,
            dropout=self.dropout,
            num_class_embeds=classes or None,
        )


def _drop_below(network: "UNet2DModel", side: int, largest: int) -> None:
    """Switch dropout off in the blocks of image sides above `largest`; diffusers has one rate for all blocks."""
    from torch import nn

    ups = list(network.up_blocks)[::-1]
    for level, blocks in enumerate(zip(network.down_blocks, ups, strict=True)):
        for block in blocks if side // 2**level > largest else ():
            for module in block.modules():
                if isinstance(module, nn.Dropout):
                    module.p = 0.0


def _start_at_zero(network: "nn.Module") -> None:
    """Zero the last layer of each residual branch and of the network, as in Karras et al. 2022; diffusers does not."""
    from torch import nn

    for name, module in network.named_modules():
        if name.endswith((".conv2", "to_out.0", "skip_conv")) or name == "conv_out":
            if "down_blocks" in name and name.endswith("skip_conv"):
                continue  # input of ncsn++'s image pyramid, not the end of a branch
            for parameter in module.parameters():
                nn.init.zeros_(parameter)
