"""The network of EDM2: Karras et al. 2024. Released EDM2 weights fit."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from postmean.training.model.networks.network import ImageShape, check_halves, check_sizes

if TYPE_CHECKING:
    from postmean.training.model.networks.modules.edm2_unet import EDM2UNet


@dataclass(frozen=True, kw_only=True)
class EDM2Network:
    """The magnitude-preserving network of EDM2 (Karras et al. 2024)."""

    kind: ClassVar[str] = "edm2"
    channels: int = 192
    """Base width: 128 for size XS, 192 for S, 256 for M, 320 for L, 384 for XL."""
    channel_mult: tuple[int, ...] = (1, 2, 3, 4)
    layers_per_block: int = 3
    """Residual layers per resolution on the way down; one more on the way up."""
    attention_resolutions: tuple[int, ...] = (16, 8)
    """Image sides with self-attention."""
    dropout: float = 0.0
    dropout_side: int | None = None
    """Largest image side at which dropout applies; None: at every side."""
    second_time: bool = False
    """Whether the network takes a second time, as for MeanFlow."""

    def __post_init__(self) -> None:
        check_sizes(self.channels, self.channel_mult, self.layers_per_block, self.dropout)

    def build(self, image_shape: ImageShape, classes: int) -> "EDM2UNet":
        """A freshly initialised network; see `NetworkSettings`."""
        check_halves(image_shape, len(self.channel_mult))
        from postmean.training.model.networks.modules.edm2_unet import EDM2UNet

        return EDM2UNet(self, image_shape, classes)
