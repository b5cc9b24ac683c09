"""The loss of flow matching."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from postmean.training.model.losses.loss import Loss, squared_norm

if TYPE_CHECKING:
    import torch

    from postmean.training.model.preconditioning import Denoiser
    from postmean.training.stream.batch import TargetBatch


@dataclass(frozen=True, kw_only=True)
class FlowLoss(Loss):
    """Conditional flow matching (Lipman et al. 2023, Eq. 9 and 23 with sigma_min = 0), with the marginal velocity.

    |v(z_t, t) - u|^2 with u = E[eps - x | z_t] = (z - mean) / sigma - mean, the slope of z_t = (1 - t) x + t eps.
    Every t has the same weight; the noise decides how often it is drawn. v = (z - D) / sigma - D, so the error of the
    velocity is 1 + 1 / sigma = 1 / t times that of the denoiser, in any preconditioning; the published one is `flow`.
    """

    kind: ClassVar[str] = "flow"
    has_floor: ClassVar[bool] = True

    def __call__(self, model: "torch.nn.Module", denoiser: "Denoiser", batch: "TargetBatch") -> "torch.Tensor":
        prediction = model(batch.z, batch.sigma, batch.label)
        return (1 + 1 / batch.sigma) ** 2 * squared_norm(prediction - batch.mean)

    def floor(self, denoiser: "Denoiser", batch: "TargetBatch") -> "torch.Tensor":
        """(1 + 1 / sigma)^2 D variance, [B]: the variance of the velocity eps - x given z."""
        return (1 + 1 / batch.sigma) ** 2 * batch.variance * batch.x[0].numel()


def marginal_velocity(batch: "TargetBatch") -> "torch.Tensor":
    """E[eps - x | z], the velocity of the flow z_t = (1 - t) x + t eps; eps - x itself where the mean is x."""
    return (batch.z - batch.mean) / batch.sigma[:, None, None, None] - batch.mean
