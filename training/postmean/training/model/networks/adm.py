"""ADM: Dhariwal & Nichol 2021, as in Karras et al. 2022, Table 7. Released EDM weights fit."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from postmean.training.model.networks.network import ImageShape, check_halves, check_sizes

if TYPE_CHECKING:
    from postmean.training.model.networks.modules.adm_unet import ADMUNet


@dataclass(frozen=True, kw_only=True)
class ADMNetwork:
    """ADM of Dhariwal & Nichol 2021, as in Karras et al. 2022."""

    kind: ClassVar[str] = "adm"
    channels: int = 192
    """Base width, multiplied by channel_mult at each resolution."""
    channel_mult: tuple[int, ...] = (1, 2, 3, 4)
    layers_per_block: int = 3
    """Residual layers per resolution on the way down; one more on the way up."""
    attention_resolutions: tuple[int, ...] = (32, 16, 8)
    """Image sides with self-attention."""
    dropout: float = 0.0
    dropout_side: int | None = None
    """Largest image side at which dropout applies; None: at every side."""
    second_time: bool = False
    """Whether the network takes a second time, as for MeanFlow."""

    def __post_init__(self) -> None:
        check_sizes(self.channels, self.channel_mult, self.layers_per_block, self.dropout)

    def build(self, image_shape: ImageShape, classes: int) -> "ADMUNet":
        """A freshly initialised network; see `NetworkSettings`."""
        check_halves(image_shape, len(self.channel_mult))
        from postmean.training.model.networks.modules.adm_unet import ADMUNet

        return ADMUNet(self, image_shape, classes)
