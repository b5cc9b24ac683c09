"""The preconditioning of EDM."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from postmean.base.checks import check_finite_positive
from postmean.training.model.preconditionings.preconditioning import SMALLEST_SIGMA

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class EDMPreconditioning:
    """Karras et al. 2022, Table 1: D = c_skip z + c_out F(c_in z, ln(sigma) / 4)."""

    kind: ClassVar[str] = "edm"
    time_conditioning: ClassVar[str] = "0.25 ln sigma"
    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        check_finite_positive("preconditioning", sigma_data=self.sigma_data)

    def scalings(self, sigma: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor, torch.Tensor]":
        """c_skip, c_out and c_in."""
        variance = self.sigma_data**2
        total = sigma**2 + variance
        return variance / total, sigma * self.sigma_data / total.sqrt(), 1 / total.sqrt()

    def time(self, sigma: "torch.Tensor") -> "torch.Tensor":
        """ln(sigma) / 4."""
        return 0.25 * sigma.clamp_min(SMALLEST_SIGMA).log()
