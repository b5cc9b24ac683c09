"""LPIPS with VGG-16 (Zhang et al. 2018), from a file of weights that the user has; postmean does not have them.

Names are those of the package lpips: `save_file(lpips.LPIPS(net="vgg").state_dict(), ...)`, without its copies `lins.`.
"""

from functools import cache
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from postmean.base.errors import DataError
from postmean.base.extras import needs

_WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Channels of the convolutions of each of the five parts of VGG-16, between which the image is halved."""
_SIDE = 224
"""Smaller images are enlarged to it, as in the code of Song et al. 2023."""


class LPIPS(nn.Module):
    """The distance of two batches of images [B, 3, H, W] in [-1, 1], [B]."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList()
        before = 3
        for widths in _WIDTHS:
            pairs = zip((before, *widths), widths, strict=False)
            self.parts.append(nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairs))
            before = widths[-1]
        self.linear = nn.ParameterList(nn.Parameter(torch.zeros(1, widths[-1], 1, 1)) for widths in _WIDTHS)

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        total = torch.zeros(len(a), device=a.device)
        for weight, features_a, features_b in zip(self.linear, self._features(a), self._features(b), strict=True):
            difference = functional.normalize(features_a, eps=1e-10) - functional.normalize(features_b, eps=1e-10)
            total = total + (weight * difference.square()).sum(1).mean((1, 2))
        return total

    def _features(self, x: torch.Tensor) -> list[torch.Tensor]:
        if x.shape[-1] < _SIDE:
            x = functional.interpolate(x, size=_SIDE, mode="bilinear")
        shift, scale = (
            x.new_tensor(values)[:, None, None] for values in ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450))
        )
        x, found = (x - shift) / scale, []
        for number, part in enumerate(self.parts):
            x = functional.max_pool2d(x, 2) if number else x
            for convolution in part:  # type: ignore[union-attr]
                x = functional.relu(convolution(x))
            found.append(x)
        return found


@cache
def lpips_of(weights: Path, device: torch.device) -> LPIPS:
    """LPIPS with the weights of a safetensors file; DataError where it cannot be read or has other tensors."""
    with needs("train"):
        from safetensors.torch import load_file

    model = LPIPS()
    try:
        theirs = load_file(weights)
        state = {ours: theirs[name] for ours, name in _names(model).items()}
        model.load_state_dict(state)
    except Exception as error:  # safetensors raises its own kinds
        raise DataError(
            f"loss.lpips_weights {weights}: not the weights of LPIPS with VGG-16 ({error!r}): save the state_dict of "
            'lpips.LPIPS(net="vgg") with safetensors'
        ) from error
    return model.to(device).eval().requires_grad_(False)


def _names(model: LPIPS) -> dict[str, str]:
    """Our name -> that in the file, which counts convolutions, activations and poolings of VGG-16 in one row."""
    names, layer = {}, 0
    for number, part in enumerate(model.parts):
        layer += 1 if number else 0  # the pooling
        for index, _ in enumerate(part):  # type: ignore[arg-type]
            for kind in ("weight", "bias"):
                names[f"parts.{number}.{index}.{kind}"] = f"net.slice{number + 1}.{layer}.{kind}"
            layer += 2  # the convolution and its activation
        names[f"linear.{number}"] = f"lin{number}.model.1.weight"
    return names
