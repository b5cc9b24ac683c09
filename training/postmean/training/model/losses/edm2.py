"""The loss of EDM2, whose weights of the noise levels are learned."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from postmean.base.errors import ConfigError
from postmean.training.model.losses.loss import Loss, edm_weight, squared_norm

if TYPE_CHECKING:
    import torch

    from postmean.training.model.losses.uncertainty import Uncertainty
    from postmean.training.model.preconditioning import Denoiser
    from postmean.training.stream.batch import TargetBatch


@dataclass(frozen=True, kw_only=True)
class EDM2Loss(Loss):
    """Karras et al. 2024, Eq. 14 and 15: lambda / e^u(sigma) |D - x|^2 + u(sigma), averaged over the posterior of x.

    That is E[|D - x|^2 | z] = |D - mean|^2 + the posterior variance, without the noise of one x. With |D - mean|^2
    alone u would fall without end, as a perfect denoiser has no loss.
    """

    kind: ClassVar[str] = "edm2"
    needs_mean: ClassVar[bool] = True
    channels: int = 128
    """Fourier features of ln(sigma) / 4 that u is linear in."""

    def __post_init__(self) -> None:
        if self.channels < 1:
            raise ConfigError(f"loss.channels: expected at least 1, got {self.channels}")

    def learned(self) -> "Uncertainty":
        """u(sigma)."""
        from postmean.training.model.losses.uncertainty import Uncertainty

        return Uncertainty(self.channels)

    def __call__(self, model: "torch.nn.Module", denoiser: "Denoiser", batch: "TargetBatch") -> "torch.Tensor":
        assert denoiser.learned is not None
        prediction = model(batch.z, batch.sigma, batch.label)
        u = denoiser.learned(0.25 * batch.sigma.log())
        return edm2_loss(prediction, batch.mean, batch.variance, batch.sigma, u, denoiser.preconditioning.sigma_data)


def edm2_loss(
    prediction: "torch.Tensor",
    mean: "torch.Tensor",
    variance: "torch.Tensor",
    sigma: "torch.Tensor",
    u: "torch.Tensor",
    sigma_data: float,
) -> "torch.Tensor":
    """D times (lambda / e^u (|D - mean|^2 / D + variance) + u), [B]; the published loss is the mean over D values."""
    size = prediction[0].numel()
    error = squared_norm(prediction - mean) / size + variance
    return size * (edm_weight(sigma, sigma_data) / u.exp() * error + u)
