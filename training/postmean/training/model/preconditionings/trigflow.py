"""The parametrisation of sCM."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from postmean.base.checks import check_finite_positive

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class TrigFlowPreconditioning:
    """TrigFlow (Lu & Song 2024, Sec. 3): x_t = cos(t) x + sin(t) sigma_data eps, t = arctan(sigma / sigma_data).

    The network predicts the velocity: f = cos(t) x_t - sin(t) sigma_data F(x_t / sigma_data, t). With x_t = cos(t) z
    these are the factors of EDM but for the sign of c_out. f(x, 0) = x holds.
    """

    kind: ClassVar[str] = "trigflow"
    time_conditioning: ClassVar[str] = "t of trigflow"
    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        check_finite_positive("preconditioning", sigma_data=self.sigma_data)

    def scalings(self, sigma: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor, torch.Tensor]":
        """c_skip = cos^2 t, c_out = -sigma_data sin t, c_in = cos(t) / sigma_data."""
        variance = self.sigma_data**2
        total = sigma**2 + variance
        return variance / total, -sigma * self.sigma_data / total.sqrt(), 1 / total.sqrt()

    def time(self, sigma: "torch.Tensor") -> "torch.Tensor":
        """t = arctan(sigma / sigma_data), in radians."""
        return (sigma / self.sigma_data).atan()
