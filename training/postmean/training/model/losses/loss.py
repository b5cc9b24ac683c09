"""The form of a loss, and functions that losses share.

The command line imports this file, so torch is imported only when a loss is computed. A new loss is one file with a
frozen dataclass of this form. Add it to `AnyLoss` so that the commands can name it; `train(..., loss=...)` takes any.
"""

from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    import torch

    from postmean.training.model.preconditioning import Denoiser
    from postmean.training.stream.batch import TargetBatch

TINY = 1e-20
"""Keeps the gradient of a square root finite at 0."""


class Loss(Protocol):
    """A loss: settings, traits, and the value of each image of a batch."""

    kind: ClassVar[str]
    """Name in config.json and on the command line."""
    is_consistency: ClassVar[bool]
    """Whether the network becomes a consistency function. The noise must then have a teacher point (sigma_next)."""
    needs_boundary: ClassVar[bool]
    """Whether f(x, sigma_min) = x must hold; preconditioning cm ensures it."""

    def __call__(self, model: "torch.nn.Module", denoiser: "Denoiser", batch: "TargetBatch") -> "torch.Tensor":
        """Loss of each image, summed over its D values, float32 [B].

        Args:
            model: `denoiser` or its wrapper; gradients flow through it.
            batch: its label is None for an unconditional network.
        """
        ...


def has_floor(loss: Loss) -> bool:
    """Whether a loss has `floor(denoiser, batch)`: what single-sample targets add to it, in expectation, [B].

    A squared distance to the target has one. A distance to a teacher has none.
    """
    return hasattr(loss, "floor")


def floor_of(loss: Loss, denoiser: "Denoiser", batch: "TargetBatch") -> "torch.Tensor":
    """The floor of each image of a batch, [B]; 0 where the loss has none."""
    return getattr(loss, "floor")(denoiser, batch) if has_floor(loss) else batch.variance * 0  # noqa: B009


def teacher_point(
    z: "torch.Tensor",
    sigma: "torch.Tensor",
    sigma_next: "torch.Tensor",
    mean: "torch.Tensor",
    mean_next: "torch.Tensor | None" = None,
) -> "torch.Tensor":
    """One step of the probability-flow ODE dz/dsigma = (z - mean) / sigma, from sigma to sigma_next.

    Heun where mean_next, the posterior mean at the Euler point, is given (Karras et al. 2022, Algorithm 1). Otherwise,
    and where sigma_next = 0, Euler.
    """
    sigma, sigma_next = sigma[:, None, None, None], sigma_next[:, None, None, None]
    slope = (z - mean) / sigma
    euler = mean + sigma_next * slope  # = z + (sigma_next - sigma) slope, exact at sigma_next = 0
    if mean_next is None:
        return euler
    slope_next = (euler - mean_next) / sigma_next.clamp_min(TINY)
    heun = z + (sigma_next - sigma) * (slope + slope_next) / 2
    return heun.where(sigma_next > 0, euler)


def student_and_teacher(
    model: "torch.nn.Module", denoiser: "Denoiser", batch: "TargetBatch"
) -> tuple["torch.Tensor", "torch.Tensor"]:
    """f at z with gradients, and f at the teacher point without; both with the same weights and dropout masks."""
    import torch

    assert batch.sigma_next is not None
    point = teacher_point(batch.z, batch.sigma, batch.sigma_next, batch.mean, batch.mean_next)
    devices = [point.device] if point.device.type == "cuda" else []
    # fork_rng rewinds the generator, so the student's call draws the same masks
    with torch.no_grad(), torch.random.fork_rng(devices):
        teacher = denoiser(point, batch.sigma_next, batch.label)
    return model(batch.z, batch.sigma, batch.label), teacher


def edm_weight(sigma: "torch.Tensor", sigma_data: float) -> "torch.Tensor":
    """lambda(sigma) = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2 = 1 / c_out^2."""
    return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2


def pseudo_huber(difference: "torch.Tensor", c: float) -> "torch.Tensor":
    """sqrt(|difference|^2 + c^2) - c over whole images, [B]."""
    return (squared_norm(difference) + c**2).clamp_min(TINY).sqrt() - c


def squared_norm(difference: "torch.Tensor") -> "torch.Tensor":
    """Sum of squares of each image, [B]."""
    return difference.flatten(1).square().sum(1)
