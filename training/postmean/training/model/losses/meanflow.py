"""The loss of MeanFlow."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from postmean.base.checks import check_finite_positive
from postmean.base.errors import ConfigError
from postmean.training.model.losses.flow import marginal_velocity
from postmean.training.model.losses.jvp import derivative_of
from postmean.training.model.losses.loss import Loss, same_masks, squared_norm

if TYPE_CHECKING:
    import torch

    from postmean.training.model.preconditioning import Denoiser
    from postmean.training.stream.batch import TargetBatch


@dataclass(frozen=True, kw_only=True)
class MeanFlowLoss(Loss):
    """MeanFlow (Geng et al. 2025, Eq. 8 to 11 and 22): the network is the mean velocity u from time t to r < t.

    u_target = v - (t - r) du/dt with du/dt = v du/dz + du/dt along z_t = (1 - t) x + t eps; r is that of sigma_next.
    v is the marginal velocity E[eps - x | z] by the posterior mean. With `dial` 0 it is the published eps - x of the
    tuple, and a mix with other values of it.
    """

    kind: ClassVar[str] = "meanflow"
    uses_jvp: ClassVar[bool] = True
    is_consistency: ClassVar[bool] = True
    needs_sigma_next: ClassVar[bool] = True
    needs_second_time: ClassVar[bool] = True
    preconditionings: ClassVar[tuple[str, ...]] = ("flow",)
    p: float = 0.75
    """Of the adaptive weight 1 / (|error|^2 + c)^p; 0: the plain squared error."""
    c: float = 1e-3

    def __post_init__(self) -> None:
        check_finite_positive("loss", c=self.c)
        if not 0 <= self.p <= 1:
            raise ConfigError(f"loss.p: expected 0 <= p <= 1, got {self.p}")

    def __call__(self, model: "torch.nn.Module", denoiser: "Denoiser", batch: "TargetBatch") -> "torch.Tensor":
        with same_masks(batch.z):
            aim = self._aim(denoiser, batch)
        error = squared_norm(model(batch.z, batch.sigma, batch.label, batch.sigma_next, raw=True) - aim)
        return error / (error.detach() + self.c) ** self.p

    def _aim(self, denoiser: "Denoiser", batch: "TargetBatch") -> "torch.Tensor":
        """u_target, without gradients."""
        assert batch.sigma_next is not None
        time = denoiser.preconditioning.time
        t, step = time(batch.sigma), time(batch.sigma) - time(batch.sigma_next)
        v = marginal_velocity(batch)
        # r is fixed, so the step t - r grows as t does
        _, derivative = derivative_of(
            lambda z, t, step: denoiser.output(z, t, batch.label, step),
            ((1 - t)[:, None, None, None] * batch.z, t, step),
            (v, t * 0 + 1, t * 0 + 1),
        )
        return v - step[:, None, None, None] * derivative
