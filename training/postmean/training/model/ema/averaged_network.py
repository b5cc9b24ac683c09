"""The exponential moving average of the weights.

Not torch.optim.swa_utils.AveragedModel: its first update takes the weights of the first step themselves, its decay is
one for all steps, and its tensors have names that diffusers does not know.
"""

import copy

import torch
from torch import nn


class AveragedNetwork:
    """An exponential moving average of a network's weights.

    `network` holds the averages, in evaluation mode.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, network: nn.Module, decay: float) -> None:
        """average = decay average + (1 - decay) weights; buffers are copied."""
        for average, weight in zip(self.network.parameters(), network.parameters(), strict=True):
            average.lerp_(weight, 1 - decay)
        for average, buffer in zip(self.network.buffers(), network.buffers(), strict=True):
            average.copy_(buffer)
