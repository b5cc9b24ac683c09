"""The loss of EDM."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from postmean.training.model.losses.loss import edm_weight, squared_norm

if TYPE_CHECKING:
    import torch

    from postmean.training.model.preconditioning import Denoiser
    from postmean.training.stream.batch import TargetBatch


@dataclass(frozen=True, kw_only=True)
class EDMLoss:
    """Karras et al. 2022, Eq. 2 with the posterior mean in place of x, and the weight of Table 1."""

    kind: ClassVar[str] = "edm"
    is_consistency: ClassVar[bool] = False
    needs_boundary: ClassVar[bool] = False

    def __call__(self, model: "torch.nn.Module", denoiser: "Denoiser", batch: "TargetBatch") -> "torch.Tensor":
        prediction = model(batch.z, batch.sigma, batch.label)
        return edm_loss(prediction, batch.mean, batch.sigma, denoiser.preconditioning.sigma_data)


def edm_loss(
    prediction: "torch.Tensor", mean: "torch.Tensor", sigma: "torch.Tensor", sigma_data: float
) -> "torch.Tensor":
    """lambda(sigma) |D - mean|^2, [B]."""
    return edm_weight(sigma, sigma_data) * squared_norm(prediction - mean)
