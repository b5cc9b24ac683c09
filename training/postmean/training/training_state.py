"""Raw weights and optimiser state as named tensors, and back."""

from typing import Any

import torch
from torch import nn

from postmean.base.errors import MismatchError


def training_tensors(network: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Weights and optimiser state by name, on the CPU."""
    tensors = {f"model.{name}": tensor for name, tensor in network.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in state.items()}
    return {name: tensor.detach().cpu() for name, tensor in tensors.items()}


def restore(network: nn.Module, optimiser: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """The inverse of `training_tensors`; raises MismatchError where the network is another one."""
    try:
        network.load_state_dict({n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")})
    except RuntimeError as error:
        raise MismatchError(f"another network ({str(error).splitlines()[0]}): pass its --network") from error
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimiser."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
