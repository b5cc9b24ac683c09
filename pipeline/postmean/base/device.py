"""Choice of the device, how many GPUs there are, and what kind of machine this is."""

import os
from functools import cache
from typing import TYPE_CHECKING, Literal, overload

from postmean.base.errors import ConfigError

if TYPE_CHECKING:
    import torch


@overload
def choose_device(asked: Literal["auto", "cpu", "cuda"]) -> Literal["cpu", "cuda"]: ...
@overload
def choose_device(asked: str) -> str: ...
def choose_device(asked: str) -> str:
    """For auto, cuda if torch finds a GPU on this machine, else cpu; any other name is returned unchecked.

    Only auto loads torch.
    """
    if asked != "auto":
        return asked
    import torch  # here: importing it takes seconds, and base must also work without torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def usable_device(asked: str) -> "torch.device":
    """The device of this name, auto as for `choose_device`; ConfigError if this machine lacks it. Loads torch."""
    import torch

    name = choose_device(asked)
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"--device {name}: torch finds no GPU on this machine: pass --device cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device {name}: {str(error).splitlines()[0]}: pass --device cpu or auto") from error
    return device


def usable_gpus() -> int:
    """GPUs that this process may use; of partitioned ones, the instances in CUDA_VISIBLE_DEVICES. Loads torch."""
    import torch

    # CUDA shows a process one instance, the first; Ray gives each actor its own
    instances = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.startswith("MIG-")]
    count = torch.cuda.device_count()
    return max(count, len(instances)) if count else 0


@cache
def machine_kind(device: str) -> str:
    """What the last bit of sums depends on: the GPU's model or the CPU's vector instructions, and torch's version."""
    import torch

    if device == "cpu":
        return f"CPU with {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"
    return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
