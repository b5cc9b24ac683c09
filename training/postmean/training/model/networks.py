"""The networks of the papers as configurations of diffusers' UNet2DModel, so that diffusers loads saved weights.

DDPM++ and NCSN++: Song et al. 2021, as in Karras et al. 2022, Table 7; ADM: Dhariwal & Nichol 2021. They have
the size of the originals, but some layers differ (skip scale, embeddings).
"""

from typing import TYPE_CHECKING, Any

from torch import nn

from postmean.base.errors import ConfigError
from postmean.base.extras import needs
from postmean.training.config import NetworkConfig

if TYPE_CHECKING:
    from diffusers.models.unets.unet_2d import UNet2DModel

# down, down with attention, up, up with attention
_BLOCKS = {
    "ddpm++": ("DownBlock2D", "AttnDownBlock2D", "UpBlock2D", "AttnUpBlock2D"),
    "ncsn++": ("SkipDownBlock2D", "AttnSkipDownBlock2D", "SkipUpBlock2D", "AttnSkipUpBlock2D"),
    "adm": ("ResnetDownsampleBlock2D", "AttnDownBlock2D", "ResnetUpsampleBlock2D", "AttnUpBlock2D"),
}


def unet_settings(config: NetworkConfig, image_shape: tuple[int, int, int], classes: int) -> dict[str, Any]:
    """Arguments of UNet2DModel.

    Args:
        image_shape: C, H, W.
        classes: 0 for an unconditional network.
    Raises:
        ConfigError: the architecture cannot take such images.
    """
    c, h, w = image_shape
    levels = len(config.channel_mult)
    if h != w or h % 2 ** (levels - 1):
        raise ConfigError(
            f"network: {h}x{w} images do not halve {levels - 1} times into squares: pass a shorter network.channel-mult"
        )
    if config.architecture == "ncsn++" and c != 3:
        raise ConfigError(f"network: ncsn++ takes images of 3 channels, got {c}: pass --network.architecture ddpm++")
    down, attention_down, up, attention_up = _BLOCKS[config.architecture]
    attends = [h // 2**level in config.attention_resolutions for level in range(levels)]
    adm = config.architecture == "adm"
    widths = tuple(config.channels * m for m in config.channel_mult)
    return dict(
        sample_size=h,
        in_channels=c,
        out_channels=c,
        block_out_channels=widths,
        layers_per_block=config.layers_per_block,
        down_block_types=tuple(attention_down if a else down for a in attends),
        up_block_types=tuple(attention_up if a else up for a in reversed(attends)),
        time_embedding_type="positional",  # "fourier" takes a logarithm: NaN for the negative times of ln sigma
        time_embedding_dim=4 * config.channels,
        downsample_type="resnet",
        upsample_type="resnet",
        resnet_time_scale_shift="scale_shift" if adm else "default",
        attention_head_dim=min(64, *widths) if adm else None,
        norm_num_groups=min(32, config.channels // 4),
        norm_eps=1e-5 if adm else 1e-6,
        dropout=config.dropout,
        num_class_embeds=classes or None,
    )


def build_network(config: NetworkConfig, image_shape: tuple[int, int, int], classes: int) -> "UNet2DModel":
    """A freshly initialised network whose output is 0; raises ConfigError like `unet_settings`."""
    settings = unet_settings(config, image_shape, classes)
    with needs("train"):
        from diffusers.models.unets.unet_2d import UNet2DModel

    try:
        network = UNet2DModel(**settings)
    except ValueError as error:  # such as widths that do not divide into groups or heads
        raise ConfigError(f"network: {error}: pass other network.channels or network.channel-mult") from error
    _start_at_zero(network)
    if config.dropout_side is not None:
        _drop_below(network, image_shape[1], config.dropout_side)
    return network


def _drop_below(network: "UNet2DModel", side: int, largest: int) -> None:
    """Switch dropout off in the blocks of image sides above `largest`; diffusers has one rate for all blocks."""
    ups = list(network.up_blocks)[::-1]
    for level, blocks in enumerate(zip(network.down_blocks, ups, strict=True)):
        for block in blocks if side // 2**level > largest else ():
            for module in block.modules():
                if isinstance(module, nn.Dropout):
                    module.p = 0.0


def _start_at_zero(network: nn.Module) -> None:
    """Zero the last layer of each residual branch and of the network, as in Karras et al. 2022; diffusers does not."""
    for name, module in network.named_modules():
        if name.endswith((".conv2", "to_out.0", "skip_conv")) or name == "conv_out":
            if "down_blocks" in name and name.endswith("skip_conv"):
                continue  # input of ncsn++'s image pyramid, not the end of a branch
            for parameter in module.parameters():
                nn.init.zeros_(parameter)
