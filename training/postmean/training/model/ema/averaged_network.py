"""The exponential moving average of the weights.

Not torch.optim.swa_utils.AveragedModel: its first update takes the weights of the first step themselves, its decay is
one for all steps, and its tensors have names that diffusers does not know.
"""

import copy
from collections.abc import Sequence

import torch
from torch import nn

from postmean.training.model.ema.ema import EMA


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


class Averages:
    """Several averages of one network's weights, and that of the loss's teacher if it has one.

    Args:
        emas: the first is the one that a checkpoint is for.
        teacher: None where the teacher has the weights themselves.
    """

    def __init__(self, network: nn.Module, emas: Sequence[EMA], teacher: EMA | None) -> None:
        self._emas = [*emas, *([teacher] if teacher else [])]
        self._averaged = [AveragedNetwork(network) for _ in self._emas]
        self.teacher = self._averaged[-1].network.train() if teacher else None
        """The teacher's network, in training mode: it draws the dropout masks of the student."""

    @property
    def main(self) -> nn.Module:
        """The average that a checkpoint is for."""
        return self._averaged[0].network

    def network(self, ema: EMA) -> nn.Module:
        """The network of one of the averages."""
        return self._averaged[self._emas.index(ema)].network

    def update(self, network: nn.Module, images: int, batch_size: int) -> None:
        """Update all after the step that takes the run to `images` images."""
        for ema, averaged in zip(self._emas, self._averaged, strict=True):
            averaged.update(network, ema.decay_at(images, batch_size))

    def parameters(self) -> list[nn.Parameter]:
        """The parameters of all."""
        return [weight for averaged in self._averaged for weight in averaged.network.parameters()]

    def tensors(self) -> dict[str, torch.Tensor]:
        """All averages but the main one, by names that begin with `ema.`."""
        return {
            f"ema.{number}.{name}": tensor
            for number, averaged in enumerate(self._averaged[1:], 1)
            for name, tensor in averaged.network.state_dict().items()
        }

    def restore(self, main: dict[str, torch.Tensor], tensors: dict[str, torch.Tensor]) -> None:
        """The inverse: the main one's state, and what `tensors` gave.

        Raises:
            MismatchError: the checkpoint has other averages.
        """
        self.main.load_state_dict(main)
        for number, averaged in enumerate(self._averaged[1:], 1):
            prefix = f"ema.{number}."
            state = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
            if not state:
                # a run that goes on from another one with more averages: they begin at its main one
                state = main
            averaged.network.load_state_dict(state)
