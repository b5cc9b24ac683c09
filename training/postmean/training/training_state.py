"""Raw weights and optimiser state as named tensors, and back."""

from typing import Any

import torch

from postmean.base.errors import MismatchError
from postmean.training.model.ema.averaged_network import Averages
from postmean.training.model.preconditioning import Denoiser


def training_tensors(
    denoiser: Denoiser, averages: Averages, optimiser: torch.optim.Optimizer
) -> dict[str, torch.Tensor]:
    """Weights, those that the loss learns, further averages and optimiser state by name, on the CPU."""
    tensors = {f"model.{name}": tensor for name, tensor in denoiser.network.state_dict().items()}
    if denoiser.learned is not None:
        tensors |= {f"learned.{name}": tensor for name, tensor in denoiser.learned.state_dict().items()}
    tensors |= averages.tensors()
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in state.items()}
    return {name: tensor.detach().cpu() for name, tensor in tensors.items()}


def restore(
    denoiser: Denoiser,
    averages: Averages,
    optimiser: torch.optim.Optimizer,
    main_average: dict[str, torch.Tensor],
    tensors: dict[str, torch.Tensor],
) -> None:
    """The inverse of `training_tensors`.

    Averages and learned weights that a run begun with `--from` has and its origin had not begin at the main average
    and at their initial values.

    Args:
        main_average: state of the averaged network of the checkpoint.
    Raises:
        MismatchError: the network, or what the loss learns, is another one.
    """
    try:
        denoiser.network.load_state_dict(_part(tensors, "model."))
    except RuntimeError as error:
        raise MismatchError(f"another network ({str(error).splitlines()[0]}): pass its --network") from error
    learned = _part(tensors, "learned.")
    if denoiser.learned is not None and learned:
        try:
            denoiser.learned.load_state_dict(learned)
        except RuntimeError as error:
            raise MismatchError(f"another loss ({str(error).splitlines()[0]}): pass its --loss") from error
    averages.restore(main_average, tensors)
    count = len(optimiser.state_dict()["param_groups"][0]["params"])
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in _part(tensors, "optimiser.").items():
        index, key = name.split(".", 1)
        if int(index) < count:
            state.setdefault(int(index), {})[key] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
