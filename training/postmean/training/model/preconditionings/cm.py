"""The preconditioning of consistency models."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from postmean.base.checks import check_finite_positive
from postmean.training.model.preconditionings.preconditioning import SMALLEST_SIGMA

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class CMPreconditioning:
    """Song et al. 2023, App. C: shifted by sigma_min so that f(x, sigma_min) = x."""

    kind: ClassVar[str] = "cm"
    time_conditioning: Literal["250 ln sigma", "0.25 ln sigma"] = "250 ln sigma"
    """Input of the network's time embedding: 250 ln sigma for ADM and diffusers' pipeline, 0.25 ln sigma for NCSN++."""
    sigma_data: float = 0.5
    sigma_min: float = 0.002

    def __post_init__(self) -> None:
        check_finite_positive("preconditioning", sigma_data=self.sigma_data, sigma_min=self.sigma_min)

    def scalings(self, sigma: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor, torch.Tensor]":
        """c_skip, c_out and c_in."""
        variance, above = self.sigma_data**2, sigma - self.sigma_min
        total = sigma**2 + variance
        return variance / (above**2 + variance), above * self.sigma_data / total.sqrt(), 1 / total.sqrt()

    def time(self, sigma: "torch.Tensor") -> "torch.Tensor":
        """250 ln(sigma), as diffusers' consistency scheduler passes, or ln(sigma) / 4."""
        return (250.0 if self.time_conditioning == "250 ln sigma" else 0.25) * sigma.clamp_min(SMALLEST_SIGMA).log()
