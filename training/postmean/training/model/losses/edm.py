"""The loss of EDM."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from postmean.training.model.losses.loss import Loss, edm_weight, squared_norm

if TYPE_CHECKING:
    import torch

    from postmean.training.model.preconditioning import Denoiser
    from postmean.training.stream.batch import TargetBatch


@dataclass(frozen=True, kw_only=True)
class EDMLoss(Loss):
    """Karras et al. 2022, Eq. 2 with the posterior mean in place of x, and the weight of Table 1."""

    kind: ClassVar[str] = "edm"
    has_floor: ClassVar[bool] = True

    def __call__(self, model: "torch.nn.Module", denoiser: "Denoiser", batch: "TargetBatch") -> "torch.Tensor":
        prediction = model(batch.z, batch.sigma, batch.label)
        return edm_loss(prediction, batch.mean, batch.sigma, denoiser.preconditioning.sigma_data)

    def floor(self, denoiser: "Denoiser", batch: "TargetBatch") -> "torch.Tensor":
        """lambda(sigma) D variance, [B]: the loss at z with targets x that no network can go below."""
        weight = edm_weight(batch.sigma, denoiser.preconditioning.sigma_data)
        return weight * batch.variance * batch.x[0].numel()


def edm_loss(
    prediction: "torch.Tensor", mean: "torch.Tensor", sigma: "torch.Tensor", sigma_data: float
) -> "torch.Tensor":
    """(sigma^2 + sigma_data^2) / (sigma sigma_data)^2 |D - mean|^2, [B]."""
    return edm_weight(sigma, sigma_data) * squared_norm(prediction - mean)
