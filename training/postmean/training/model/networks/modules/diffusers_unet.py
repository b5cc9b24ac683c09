"""diffusers' UNet2DModel, called as a `Network`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from diffusers.models.unets.unet_2d import UNet2DModel


class DiffusersUNet(nn.Module):
    """A UNet2DModel. The names of its weights are diffusers' own, without those of this wrapper."""

    def __init__(self, unet: "UNet2DModel") -> None:
        super().__init__()
        self.unet = unet

    def forward(
        self,
        x: torch.Tensor,
        time: torch.Tensor,
        class_labels: torch.Tensor | None = None,
        second_time: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """See `Network`."""
        if second_time is not None:
            raise TypeError("UNet2DModel has one time: take a network of ours with second_time=True")
        return self.unet(x, time, class_labels=class_labels, return_dict=False)[0]

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The weights of the UNet2DModel."""
        return self.unet.state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The inverse of `state_dict`."""
        return self.unet.load_state_dict(state_dict, *args, **kwargs)
