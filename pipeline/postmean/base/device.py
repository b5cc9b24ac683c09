"""Which device computes where the user leaves it open."""

from typing import Literal, overload


@overload
def choose_device(asked: Literal["auto", "cpu", "cuda"]) -> Literal["cpu", "cuda"]: ...
@overload
def choose_device(asked: str) -> str: ...
def choose_device(asked: str) -> str:
    """The device as asked for; auto is cuda where torch finds a GPU on this machine, else cpu.

    A device that was named is not checked. For any but auto torch is not loaded.
    """
    if asked != "auto":
        return asked
    import torch  # here: base is imported where there is no torch yet, and it takes seconds

    return "cuda" if torch.cuda.is_available() else "cpu"
