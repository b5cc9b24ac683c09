"""The parametrisation of flow matching."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from postmean.base.checks import check_finite_positive

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class FlowPreconditioning:
    """Flow matching (Lipman et al. 2023; Esser et al. 2024): the network predicts the velocity v at z_t and t.

    z_t = (1 - t) x + t eps = (1 - t) z with t = sigma / (1 + sigma), and x = z_t - t v. So c_in = c_skip = 1 - t and
    c_out = -t. There is no other preconditioning, as published.
    """

    kind: ClassVar[str] = "flow"
    time_conditioning: ClassVar[str] = "t"
    sigma_data: float = 0.5
    """Standard deviation of the data, for the weights of losses; the factors do not depend on it."""

    def __post_init__(self) -> None:
        check_finite_positive("preconditioning", sigma_data=self.sigma_data)

    def scalings(self, sigma: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor, torch.Tensor]":
        """c_skip, c_out and c_in."""
        s = 1 / (1 + sigma)
        return s, -sigma * s, s

    def time(self, sigma: "torch.Tensor") -> "torch.Tensor":
        """t in [0, 1]. Not 1000 t, so that embeddings change slowly and derivatives in t stay moderate (MeanFlow)."""
        return sigma / (1 + sigma)
