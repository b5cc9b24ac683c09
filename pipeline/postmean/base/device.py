"""Choice of the device."""

from typing import Literal, overload


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
