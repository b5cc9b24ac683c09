"""The loss of easy consistency tuning."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from postmean.base.errors import ConfigError
from postmean.training.model.losses.loss import Loss, edm_weight, pseudo_huber, student_and_teacher

if TYPE_CHECKING:
    import torch

    from postmean.training.model.preconditioning import Denoiser
    from postmean.training.stream.batch import TargetBatch


@dataclass(frozen=True, kw_only=True)
class ECTLoss(Loss):
    """Geng et al. 2024: weighted distance to the teacher."""

    kind: ClassVar[str] = "ect"
    is_consistency: ClassVar[bool] = True
    needs_sigma_next: ClassVar[bool] = True
    c: float = 0.0
    """c of the distance sqrt(|.|^2 + c^2) - c over a whole image."""
    weight: Literal["interval", "edm"] = "interval"
    """interval: 1 / (sigma - sigma_next); edm: (sigma^2 + sigma_data^2) / (sigma sigma_data)^2."""

    def __post_init__(self) -> None:
        if not 0 <= self.c < float("inf"):
            raise ConfigError(f"loss.c: expected a finite number >= 0, got {self.c}")

    def __call__(self, model: "torch.nn.Module", denoiser: "Denoiser", batch: "TargetBatch") -> "torch.Tensor":
        student, teacher = student_and_teacher(model, denoiser, batch)
        assert batch.sigma_next is not None
        sigma_data = denoiser.preconditioning.sigma_data
        return ect_loss(student, teacher, batch.sigma, batch.sigma_next, self, sigma_data)


def ect_loss(
    student: "torch.Tensor",
    teacher: "torch.Tensor",
    sigma: "torch.Tensor",
    sigma_next: "torch.Tensor",
    settings: ECTLoss,
    sigma_data: float,
) -> "torch.Tensor":
    """weight (sqrt(|f - f'|^2 + c^2) - c) with the weight of `settings`, [B]."""
    weight = edm_weight(sigma, sigma_data) if settings.weight == "edm" else 1 / (sigma - sigma_next)
    return weight * pseudo_huber(student - teacher, settings.c)
