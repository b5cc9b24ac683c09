"""The loss of consistency training."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from postmean.base.errors import ConfigError
from postmean.base.lazy_numpy import np
from postmean.contract.noise import AnyNoise, CTNoise
from postmean.training.model.losses.loss import Loss, squared_norm, student_and_teacher

if TYPE_CHECKING:
    import torch

    from postmean.training.model.ema import EMA
    from postmean.training.model.preconditioning import Denoiser
    from postmean.training.stream.batch import TargetBatch


@dataclass(frozen=True, kw_only=True)
class CTLoss(Loss):
    """Song et al. 2023, Algorithm 3: distance to an average of the network as teacher, the same weight everywhere.

    The decay of the average, App. C: mu(k) = exp(s0 ln(mu0) / N(k)), with N(k) of the noise.
    """

    kind: ClassVar[str] = "ct"
    is_consistency: ClassVar[bool] = True
    needs_sigma_next: ClassVar[bool] = True
    needs_boundary: ClassVar[bool] = True
    mu0: float = 0.9
    """Decay of the teacher's average at the beginning."""
    distance: Literal["l2", "lpips"] = "l2"
    """l2: the squared distance; lpips: that of Zhang et al. 2018 with VGG-16."""
    lpips_weights: str = ""
    """safetensors file with the weights of LPIPS: those of VGG-16 and the linear layers."""

    def __post_init__(self) -> None:
        if not 0 <= self.mu0 < 1:
            raise ConfigError(f"loss.mu0: expected 0 <= mu0 < 1, got {self.mu0}")
        if self.distance == "lpips" and not self.lpips_weights:
            raise ConfigError(
                "loss.distance lpips: postmean does not have its weights: pass --loss.lpips-weights FILE.safetensors, "
                "or --loss.distance l2"
            )

    def teacher(self, noise: AnyNoise) -> "EMA":
        """The average with the decay mu(k)."""
        if not isinstance(noise, CTNoise):
            raise ConfigError(f"loss ct: the teacher's decay follows N(k) of the noise ct, got noise {noise.kind}")
        return CTTeacher(mu0=self.mu0, noise=noise)

    def __call__(self, model: "torch.nn.Module", denoiser: "Denoiser", batch: "TargetBatch") -> "torch.Tensor":
        student, teacher = student_and_teacher(model, denoiser, batch)
        if self.distance == "l2":
            return squared_norm(student - teacher)
        from postmean.training.model.losses.lpips import lpips_of

        # like the other losses, a sum over the values of an image
        return student[0].numel() * lpips_of(Path(self.lpips_weights), student.device)(student, teacher)


@dataclass(frozen=True, kw_only=True)
class CTTeacher:
    """The average that teaches: mu(k) = exp(s0 ln(mu0) / N(k)) after step k."""

    kind: ClassVar[str] = "ct-teacher"
    mu0: float
    noise: CTNoise

    def decay_at(self, images: int, batch_size: int) -> float:
        """Decay of the step that takes the run to `images` images."""
        levels = int(self.noise.grid_size(np.array([images // batch_size - 1]))[0])
        return self.mu0 ** (self.noise.s0 / levels)
