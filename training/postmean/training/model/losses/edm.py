"""The loss of EDM."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from postmean.training.model.losses.loss import Loss, edm_weight, squared_norm

if TYPE_CHECKING:
    import torch

    from postmean.training.model.preconditioning import Denoiser
    from postmean.training.stream.batch import TargetBatch


@dataclass(frozen=True, kw_only=True)
class EDMLoss(Loss):
    """Karras et al. 2022, Eq. 2 with the posterior mean in place of x: weighted squared distance."""

    kind: ClassVar[str] = "edm"
    has_floor: ClassVar[bool] = True
    weight: Literal["edm", "velocity"] = "edm"
    """edm: that of Table 1, (sigma^2 + sigma_data^2) / (sigma sigma_data)^2; velocity: 1 / t^2 with t = sigma / (1 +
    sigma), so that the loss is the squared error of the flow-matching velocity."""

    def __call__(self, model: "torch.nn.Module", denoiser: "Denoiser", batch: "TargetBatch") -> "torch.Tensor":
        prediction = model(batch.z, batch.sigma, batch.label)
        return edm_loss(prediction, batch.mean, batch.sigma, denoiser.preconditioning.sigma_data, self.weight)

    def floor(self, denoiser: "Denoiser", batch: "TargetBatch") -> "torch.Tensor":
        """lambda(sigma) D variance, [B]: the loss at z with targets x that no network can go below."""
        factor = edm_factor(batch.sigma, denoiser.preconditioning.sigma_data, self.weight)
        return factor * batch.variance * batch.x[0].numel()


def edm_loss(
    prediction: "torch.Tensor",
    mean: "torch.Tensor",
    sigma: "torch.Tensor",
    sigma_data: float,
    weight: Literal["edm", "velocity"] = "edm",
) -> "torch.Tensor":
    """lambda(sigma) |D - mean|^2 with the lambda of `weight`, [B]."""
    return edm_factor(sigma, sigma_data, weight) * squared_norm(prediction - mean)


def edm_factor(sigma: "torch.Tensor", sigma_data: float, weight: Literal["edm", "velocity"]) -> "torch.Tensor":
    """lambda(sigma), [B]."""
    return edm_weight(sigma, sigma_data) if weight == "edm" else (1 + 1 / sigma) ** 2
