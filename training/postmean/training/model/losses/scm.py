"""The loss of simplified continuous-time consistency models."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from postmean.base.checks import check_finite_positive
from postmean.base.errors import ConfigError
from postmean.training.model.losses.jvp import derivative_of
from postmean.training.model.losses.loss import Loss, same_masks, squared_norm

if TYPE_CHECKING:
    import torch

    from postmean.training.model.losses.uncertainty import Uncertainty
    from postmean.training.model.preconditioning import Denoiser
    from postmean.training.stream.batch import TargetBatch


@dataclass(frozen=True, kw_only=True)
class SCMLoss(Loss):
    """sCM (Lu & Song 2024, Algorithm 1), in TrigFlow: the tangent of the consistency function along the flow is 0.

    x_t = cos(t) x + sin(t) n with n = sigma_data eps. The slope is (cos(t) x_t - mean) / sin(t), the exact velocity of
    the flow, which the published sCD takes from a trained network: so this is distillation without a teacher. With
    `dial` 0 the mean is the tuple's own image, and the slope cos(t) n - sin(t) x that of the published sCT.
    """

    kind: ClassVar[str] = "scm"
    uses_jvp: ClassVar[bool] = True
    is_consistency: ClassVar[bool] = True
    preconditionings: ClassVar[tuple[str, ...]] = ("trigflow",)
    c: float = 0.1
    """Of the tangent's normalisation g / (|g| + c)."""
    warmup_kimg: float = 0.0
    """Thousands of images over which the second part of the tangent grows from 0 to its full size."""
    channels: int = 128
    """Fourier features of t that the adaptive weight is linear in; 0: no adaptive weight."""

    def __post_init__(self) -> None:
        check_finite_positive("loss", c=self.c)
        if not 0 <= self.warmup_kimg < float("inf") or self.channels < 0:
            raise ConfigError(
                f"loss: expected finite warmup_kimg >= 0 and channels >= 0, got {self.warmup_kimg}, {self.channels}"
            )

    def learned(self) -> "Uncertainty | None":
        """The adaptive weight w(t)."""
        from postmean.training.model.losses.uncertainty import Uncertainty

        return Uncertainty(self.channels) if self.channels else None

    def __call__(self, model: "torch.nn.Module", denoiser: "Denoiser", batch: "TargetBatch") -> "torch.Tensor":
        with same_masks(batch.z):
            frozen, tangent = self._frozen_and_tangent(denoiser, batch)
            aim = frozen + normalised(tangent, self.c)
        size = batch.z[0].numel()
        error = squared_norm(model(batch.z, batch.sigma, batch.label, raw=True) - aim)
        if denoiser.learned is None:
            return error
        w = denoiser.learned(denoiser.preconditioning.time(batch.sigma))
        return w.exp() * error - size * w

    def _frozen_and_tangent(self, denoiser: "Denoiser", batch: "TargetBatch") -> "tuple[torch.Tensor, torch.Tensor]":
        """F at x_t, and cos(t) df/dt, the tangent before it is normalised."""
        sigma_data, t = denoiser.preconditioning.sigma_data, denoiser.preconditioning.time(batch.sigma)
        cos, sin = t.cos()[:, None, None, None], t.sin()[:, None, None, None]
        x_t = cos * batch.z
        slope = (cos * x_t - batch.mean) / sin
        # cos(t) sin(t) is in the tangents, which keeps them bounded as t nears pi / 2 (Sec. 4.1)
        f, derivative = derivative_of(
            lambda x, time: denoiser.output(x, time, batch.label, None),
            (x_t / sigma_data, t),
            (cos * sin * slope / sigma_data, (cos * sin)[:, 0, 0, 0]),
        )
        share = min(1.0, (int(batch.tuple_id[0]) + 1) / (1000 * self.warmup_kimg)) if self.warmup_kimg else 1.0
        return f, -(cos**2) * (sigma_data * f - slope) - share * (cos * sin * x_t + sigma_data * derivative)


def normalised(tangent: "torch.Tensor", c: float) -> "torch.Tensor":
    """g / (|g| + c), with the norm of whole images."""
    return tangent / (squared_norm(tangent).sqrt() + c)[:, None, None, None]
