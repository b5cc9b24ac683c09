"""The loss of improved consistency training."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from postmean.base.errors import ConfigError
from postmean.training.model.losses.loss import Loss, pseudo_huber, student_and_teacher

if TYPE_CHECKING:
    import torch

    from postmean.training.model.preconditioning import Denoiser
    from postmean.training.stream.batch import TargetBatch


@dataclass(frozen=True, kw_only=True)
class ICTLoss(Loss):
    """Song & Dhariwal 2024: pseudo-Huber distance to the teacher, weight 1 / (sigma - sigma_next)."""

    kind: ClassVar[str] = "ict"
    is_consistency: ClassVar[bool] = True
    needs_sigma_next: ClassVar[bool] = True
    needs_boundary: ClassVar[bool] = True
    huber: float = 0.00054
    """c / sqrt(D) of the pseudo-Huber distance sqrt(|.|^2 + c^2) - c."""

    def __post_init__(self) -> None:
        if not 0 <= self.huber < float("inf"):
            raise ConfigError(f"loss.huber: expected a finite number >= 0, got {self.huber}")

    def __call__(self, model: "torch.nn.Module", denoiser: "Denoiser", batch: "TargetBatch") -> "torch.Tensor":
        student, teacher = student_and_teacher(model, denoiser, batch)
        assert batch.sigma_next is not None
        return ict_loss(student, teacher, batch.sigma, batch.sigma_next, self.huber)


def ict_loss(
    student: "torch.Tensor", teacher: "torch.Tensor", sigma: "torch.Tensor", sigma_next: "torch.Tensor", huber: float
) -> "torch.Tensor":
    """(sqrt(|f - f'|^2 + c^2) - c) / (sigma - sigma_next) with c = huber sqrt(D), [B]."""
    c = huber * student[0].numel() ** 0.5
    return pseudo_huber(student - teacher, c) / (sigma - sigma_next)
