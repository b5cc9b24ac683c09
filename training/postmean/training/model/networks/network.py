"""The form of a network and of its settings.

The command line imports the settings, so torch is imported only when a network is built. A new network is one file with
a frozen dataclass of the form `NetworkSettings`. Add it to `AnyNetwork` so that the commands can name it;
`train(..., network=...)` takes any torch module that is called as a `Network`.
"""

from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from postmean.base.errors import ConfigError

if TYPE_CHECKING:
    import torch

ImageShape = tuple[int, int, int]
"""C, H, W."""


class Network(Protocol):
    """How a network is called. It is a torch.nn.Module, and knows nothing of sigma: see `Denoiser`.

    A network with a method `before_step()` has it called before each step of the training.
    """

    def __call__(
        self,
        x: "torch.Tensor",
        time: "torch.Tensor",
        class_labels: "torch.Tensor | None" = None,
        second_time: "torch.Tensor | None" = None,
    ) -> "torch.Tensor":
        """The output, [B, C, H, W].

        Args:
            x: [B, C, H, W], of about unit variance.
            time: [B], as the preconditioning makes it of sigma.
            class_labels: int64 [B]; None for an unconditional network.
            second_time: [B], for networks with two times, such as those of MeanFlow; else None.
        """
        ...


class NetworkSettings(Protocol):
    """The settings of a network: a frozen dataclass, which config.json and checkpoints keep as JSON."""

    kind: ClassVar[str]
    """Name in config.json and on the command line."""

    def build(self, image_shape: ImageShape, classes: int) -> "torch.nn.Module":
        """A freshly initialised `Network`.

        Args:
            image_shape: C, H, W.
            classes: 0 for an unconditional network.
        Raises:
            ConfigError: it cannot take such images.
        """
        ...


def check_sizes(channels: int, channel_mult: tuple[int, ...], layers_per_block: int, dropout: float) -> None:
    """Raise ConfigError for settings that no U-Net can have."""
    if channels < 4 or layers_per_block < 1 or not channel_mult or min(channel_mult) < 1:
        raise ConfigError(
            f"network: expected channels >= 4, layers_per_block >= 1 and positive channel_mult, got "
            f"{channels}, {layers_per_block}, {channel_mult}"
        )
    if not 0 <= dropout < 1:
        raise ConfigError(f"network.dropout: expected 0 <= dropout < 1, got {dropout}")


def check_halves(image_shape: ImageShape, levels: int) -> None:
    """Raise ConfigError unless images are squares that can be halved `levels - 1` times."""
    _, h, w = image_shape
    if h != w or h % 2 ** (levels - 1):
        raise ConfigError(
            f"network: {h}x{w} images do not halve {levels - 1} times into squares: pass a shorter network.channel-mult"
        )


def named(network: Any) -> str:
    """Module and name of a class or function, or of the class of an object, such as `my_package.MyNetwork`."""
    of = network if hasattr(network, "__qualname__") else type(network)
    return f"{of.__module__}.{of.__qualname__}"
