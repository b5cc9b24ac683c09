"""The form of a preconditioning: how the network F is a denoiser of the canonical z = x + sigma eps.

D(z, sigma) = c_skip z + c_out F(c_in z, time). Each process's own parametrisation has this form: a network that
predicts a velocity at z_t = s z is one choice of the three factors. The command line imports these files, and tensors
bring their own functions, so none imports torch. A new one is one file, and one entry in `AnyPreconditioning`.
"""

from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    import torch

SMALLEST_SIGMA = 1e-5
"""Floor of sigma in ln sigma: ECT evaluates at sigma = 0, where c_out = 0 but ln sigma is not finite."""


class Preconditioning(Protocol):
    """Factors and time of a parametrisation."""

    kind: ClassVar[str]
    """Name in config.json and on the command line."""

    @property
    def time_conditioning(self) -> str:
        """What the network's time embedding is given, for people and to tell checkpoints apart."""
        ...

    @property
    def sigma_data(self) -> float:
        """Standard deviation of the data."""
        ...

    def scalings(self, sigma: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor, torch.Tensor]":
        """c_skip, c_out and c_in, each like sigma."""
        ...

    def time(self, sigma: "torch.Tensor") -> "torch.Tensor":
        """Input of the network's time embedding, like sigma."""
        ...
