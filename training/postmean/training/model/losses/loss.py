"""The form of a loss, and functions that losses share.

The command line imports this file, so torch is imported only when a loss is computed. A new loss is one file with a
frozen dataclass that extends `Loss`. Add it to `AnyLoss` so that the commands can name it; `train(..., loss=...)` takes
any.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import torch

    from postmean.contract.noise import AnyNoise
    from postmean.training.model.ema import EMA
    from postmean.training.model.preconditioning import Denoiser
    from postmean.training.stream.batch import TargetBatch

TINY = 1e-20
"""Keeps the gradient of a square root finite at 0."""


class Loss(ABC):
    """A loss: traits, settings, and the value of each image of a batch. Its fields are its settings."""

    kind: ClassVar[str]
    """Name in config.json and on the command line."""
    is_consistency: ClassVar[bool] = False
    """Whether the network becomes a consistency function, which samples in one step."""
    needs_sigma_next: ClassVar[bool] = False
    """Whether batches must have a sigma_next, so the noise a teacher point or second time."""
    needs_boundary: ClassVar[bool] = False
    """Whether f(x, sigma_min) = x must hold; preconditioning cm ensures it."""
    preconditionings: ClassVar[tuple[str, ...]] = ()
    """Kinds of preconditioning that it is made for; empty: any."""
    needs_second_time: ClassVar[bool] = False
    """Whether the network takes a second time."""
    uses_jvp: ClassVar[bool] = False
    """Whether it differentiates the network forwards."""
    has_floor: ClassVar[bool] = False
    """Whether single-sample targets add to it: to a squared distance to the target they do, to one to a teacher not."""
    needs_mean: ClassVar[bool] = False
    """Whether the target must be the posterior mean itself, without `dial`."""

    @abstractmethod
    def __call__(self, model: "torch.nn.Module", denoiser: "Denoiser", batch: "TargetBatch") -> "torch.Tensor":
        """Loss of each image, summed over its D values, float32 [B].

        Args:
            model: the denoiser, maybe in a wrapper; gradients flow through it.
            denoiser: the same without a wrapper, for what needs no gradient; with the weights of `teacher` if any.
            batch: its label is None for an unconditional network.
        """

    def teacher(self, noise: "AnyNoise") -> "EMA | None":
        """The average of the weights that the teacher has; None: the weights themselves."""
        return None

    def learned(self) -> "torch.nn.Module | None":
        """A module that the loss trains beside the network, freshly initialised: it is `denoiser.learned`."""
        return None

    def floor(self, denoiser: "Denoiser", batch: "TargetBatch") -> "torch.Tensor":
        """What single-sample targets add to the loss of each image, in expectation, [B]."""
        return batch.variance * 0


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
    """f at z with gradients, and f at the teacher point without; both with the same dropout masks."""
    assert batch.sigma_next is not None
    point = teacher_point(batch.z, batch.sigma, batch.sigma_next, batch.mean, batch.mean_next)
    with same_masks(point):
        teacher = denoiser(point, batch.sigma_next, batch.label)
    return model(batch.z, batch.sigma, batch.label), teacher


@contextmanager
def same_masks(like: "torch.Tensor") -> Iterator[None]:
    """Compute without gradients; what is computed after the block draws the dropout masks of the block again.

    Args:
        like: a tensor on the device.
    """
    import torch

    devices = [like.device] if like.device.type == "cuda" else []
    # fork_rng rewinds the generator
    with torch.no_grad(), torch.random.fork_rng(devices):
        yield


def edm_weight(sigma: "torch.Tensor", sigma_data: float) -> "torch.Tensor":
    """lambda(sigma) = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2 = 1 / c_out^2."""
    return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2


def pseudo_huber(difference: "torch.Tensor", c: float) -> "torch.Tensor":
    """sqrt(|difference|^2 + c^2) - c over whole images, [B]."""
    return (squared_norm(difference) + c**2).clamp_min(TINY).sqrt() - c


def squared_norm(difference: "torch.Tensor") -> "torch.Tensor":
    """Sum of squares of each image, [B]."""
    return difference.flatten(1).square().sum(1)
