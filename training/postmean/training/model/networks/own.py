"""A network of the user's own: any torch module, or whatever makes one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

from postmean.base.errors import ConfigError
from postmean.training.model.networks.network import ImageShape, NetworkSettings, named

if TYPE_CHECKING:
    import torch

    NetworkLike = torch.nn.Module | Callable[[ImageShape, int], torch.nn.Module] | NetworkSettings
    """A module, a function of (image_shape, classes) that makes one, or settings that build one."""


@dataclass(frozen=True, kw_only=True)
class OwnNetwork:
    """Stands in the settings for a module or a function; config.json keeps its name alone."""

    kind: ClassVar[str] = "own"
    name: str
    """Such as my_package.MyNetwork."""

    @classmethod
    def of(cls, network: "torch.nn.Module | Callable[[ImageShape, int], torch.nn.Module]") -> "OwnNetwork":
        """The settings of a module, which `build` returns as it is, or of a function that makes one."""
        settings = cls(name=named(network))
        object.__setattr__(settings, "_network", network)  # no field: it is not written
        return settings

    def build(self, image_shape: ImageShape, classes: int) -> "torch.nn.Module":
        """The module itself, or a new one of the function."""
        import torch

        network: Any = getattr(self, "_network", None)
        made = network if isinstance(network, torch.nn.Module) else network and network(image_shape, classes)
        if not isinstance(made, torch.nn.Module):
            raise ConfigError(f"network: {self.name} gave {type(made).__name__}, expected a torch.nn.Module")
        return made


def settings_of(network: Any) -> NetworkSettings:
    """The settings of a network given from Python: a module, a function of (image_shape, classes), or settings.

    Raises:
        ConfigError: it is none of them.
    """
    if hasattr(network, "kind") and hasattr(network, "build") and not isinstance(network, type):
        return network
    if callable(network):
        return OwnNetwork.of(cast(Any, network))
    raise ConfigError(
        f"network: {named(network)} is neither a torch.nn.Module nor a function of (image_shape, classes): pass one"
    )
