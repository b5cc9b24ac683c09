"""The losses, each under the name of its paper. All give one value an image, float32 [B], summed over its D values."""

import torch

from postmean.training.config import AnyLoss, ECTLoss, EDMLoss, ICTLoss
from postmean.training.model.preconditioning import Denoiser
from postmean.training.stream.stream import TargetBatch

TINY = 1e-20
"""Keeps the gradient of a square root finite at 0."""


def edm_loss(prediction: torch.Tensor, mean: torch.Tensor, sigma: torch.Tensor, sigma_data: float) -> torch.Tensor:
    """lambda(sigma) |D - mean|^2: Karras et al. 2022, Eq. 2 and Table 1, with the posterior mean in place of x."""
    return edm_weight(sigma, sigma_data) * squared_norm(prediction - mean)


def ict_loss(
    student: torch.Tensor, teacher: torch.Tensor, sigma: torch.Tensor, sigma_next: torch.Tensor, huber: float
) -> torch.Tensor:
    """Song & Dhariwal 2024: sqrt(|f - f'|^2 + c^2) - c over 1 / (sigma - sigma_next), c = huber sqrt(D)."""
    c = huber * student[0].numel() ** 0.5
    return pseudo_huber(student - teacher, c) / (sigma - sigma_next)


def ect_loss(
    student: torch.Tensor,
    teacher: torch.Tensor,
    sigma: torch.Tensor,
    sigma_next: torch.Tensor,
    settings: ECTLoss,
    sigma_data: float,
) -> torch.Tensor:
    """Geng et al. 2024: sqrt(|f - f'|^2 + c^2) - c with one of their two weights."""
    weight = edm_weight(sigma, sigma_data) if settings.weight == "edm" else 1 / (sigma - sigma_next)
    return weight * pseudo_huber(student - teacher, settings.c)


def loss_of(settings: AnyLoss, model: torch.nn.Module, denoiser: Denoiser, batch: TargetBatch) -> torch.Tensor:
    """Loss of each image of the batch.

    Args:
        model: what gradients flow through, `denoiser` itself or its wrapper.
        batch: its label must be None for an unconditional network.
    """
    sigma_data = denoiser.preconditioning.sigma_data
    if isinstance(settings, EDMLoss):
        return edm_loss(model(batch.z, batch.sigma, batch.label), batch.mean, batch.sigma, sigma_data)
    assert batch.sigma_next is not None
    point = teacher_point(batch.z, batch.sigma, batch.sigma_next, batch.mean, batch.mean_next)
    teacher = teacher_output(denoiser, point, batch.sigma_next, batch.label)
    student = model(batch.z, batch.sigma, batch.label)
    if isinstance(settings, ICTLoss):
        return ict_loss(student, teacher, batch.sigma, batch.sigma_next, settings.huber)
    return ect_loss(student, teacher, batch.sigma, batch.sigma_next, settings, sigma_data)


def teacher_point(
    z: torch.Tensor,
    sigma: torch.Tensor,
    sigma_next: torch.Tensor,
    mean: torch.Tensor,
    mean_next: torch.Tensor | None = None,
) -> torch.Tensor:
    """One step of the probability-flow ODE dz/dsigma = (z - mean) / sigma, from sigma to sigma_next.

    Euler, or Heun where mean_next, the posterior mean at the Euler point, is given (Karras et al. 2022, Algorithm 1);
    Euler too where sigma_next = 0.
    """
    sigma, sigma_next = sigma[:, None, None, None], sigma_next[:, None, None, None]
    slope = (z - mean) / sigma
    euler = mean + sigma_next * slope  # = z + (sigma_next - sigma) slope, exact at sigma_next = 0
    if mean_next is None:
        return euler
    slope_next = (euler - mean_next) / sigma_next.clamp_min(TINY)
    heun = z + (sigma_next - sigma) * (slope + slope_next) / 2
    return torch.where(sigma_next > 0, heun, euler)


@torch.no_grad()
def teacher_output(
    denoiser: Denoiser, point: torch.Tensor, sigma_next: torch.Tensor, label: torch.Tensor | None
) -> torch.Tensor:
    """f at the teacher point with the student's weights and the dropout masks that its next call will draw."""
    devices = [point.device] if point.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        return denoiser(point, sigma_next, label)


def edm_weight(sigma: torch.Tensor, sigma_data: float) -> torch.Tensor:
    """lambda(sigma) = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2 = 1 / c_out^2."""
    return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2


def pseudo_huber(difference: torch.Tensor, c: float) -> torch.Tensor:
    """sqrt(|difference|^2 + c^2) - c over whole images, [B]."""
    return (squared_norm(difference) + c**2).clamp_min(TINY).sqrt() - c


def squared_norm(difference: torch.Tensor) -> torch.Tensor:
    """Sum of squares of each image, [B]."""
    return difference.flatten(1).square().sum(1)
