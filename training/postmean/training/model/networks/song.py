"""DDPM++ and NCSN++: Song et al. 2021, as in Karras et al. 2022, Table 7. Released EDM weights fit."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from postmean.training.model.networks.network import ImageShape, check_halves, check_sizes

if TYPE_CHECKING:
    from postmean.training.model.networks.modules.song_unet import SongUNet


@dataclass(frozen=True, kw_only=True)
class SongNetwork:
    """What DDPM++ and NCSN++ share."""

    embedding_mult: ClassVar[int]
    """Channels of the embedding of time as a multiple of `channels`."""
    taps: ClassVar[tuple[int, ...]]
    """Filter with which images are halved and doubled."""
    residual_input: ClassVar[bool]
    """Whether the halved image is added to the features at each resolution."""
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
    second_time: bool = False
    """Whether the network takes a second time, as for MeanFlow."""

    def __post_init__(self) -> None:
        check_sizes(self.channels, self.channel_mult, self.layers_per_block, self.dropout)

    @property
    def fourier_scale(self) -> float | None:
        """Standard deviation of random frequencies of time; None: fixed frequencies."""
        return None

    def build(self, image_shape: ImageShape, classes: int) -> "SongUNet":
        """A freshly initialised network; see `NetworkSettings`."""
        check_halves(image_shape, len(self.channel_mult))
        from postmean.training.model.networks.modules.song_unet import SongUNet

        return SongUNet(self, image_shape, classes)


@dataclass(frozen=True, kw_only=True)
class DDPMppNetwork(SongNetwork):
    """DDPM++ of Song et al. 2021, as in Karras et al. 2022."""

    kind: ClassVar[str] = "ddpm++"
    embedding_mult: ClassVar[int] = 1
    taps: ClassVar[tuple[int, ...]] = (1, 1)
    residual_input: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True)
class NCSNppNetwork(SongNetwork):
    """NCSN++ of Song et al. 2021, as in Karras et al. 2022."""

    kind: ClassVar[str] = "ncsn++"
    embedding_mult: ClassVar[int] = 2
    taps: ClassVar[tuple[int, ...]] = (1, 3, 3, 1)
    residual_input: ClassVar[bool] = True
    frequency_scale: float = 16.0
    """Standard deviation of the random frequencies at which time is embedded: 16, and 0.02 for iCT."""

    @property
    def fourier_scale(self) -> float | None:
        return self.frequency_scale
