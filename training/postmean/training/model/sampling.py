"""Drawing images: Heun's method on the probability-flow ODE, the steps of a distilled denoiser, consistency sampling.

Both work on the canonical z = x + sigma eps, so they serve every process. Image n of a seed is a function of (seed, n):
its noise does not depend on the batch size, the number of images or the device.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np
import torch

from postmean.base.checks import is_finite_positive
from postmean.base.errors import ConfigError
from postmean.contract.image_store import to_pixels
from postmean.contract.process import karras_grid
from postmean.training.model.sampler_config import SamplerConfig

SamplerName = Literal["heun", "euler", "consistency"]
DenoiserFunction = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]
"""D(z [B, C, H, W], sigma [B], label [B] or None)."""


@dataclass(frozen=True, kw_only=True)
class HeunSampler:
    """Karras et al. 2022, Algorithm 1, or Algorithm 2 where churn > 0."""

    name: ClassVar[SamplerName] = "heun"
    steps: int = 18
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0
    sigmas: tuple[float, ...] | None = None
    """Falling levels of the steps, in place of those of Karras et al. 2022, Eq. 5, from sigma_max to sigma_min."""
    churn: float = 0.0
    """S_churn; the paper uses 40 for ImageNet-64, with s_min 0.05, s_max 50, s_noise 1.003."""
    s_min: float = 0.05
    s_max: float = 50.0
    s_noise: float = 1.003

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0 < self.sigma_min < self.sigma_max or self.churn < 0:
            raise ConfigError(
                f"sampler: expected steps >= 1, 0 < sigma_min < sigma_max and churn >= 0, got {self.steps}, "
                f"{self.sigma_min}, {self.sigma_max}, {self.churn}"
            )
        if not (0 <= self.s_min <= self.s_max and self.s_noise > 0):
            raise ConfigError(
                f"sampler: expected 0 <= s_min <= s_max and s_noise > 0, got {self.s_min}, {self.s_max}, {self.s_noise}"
            )
        if self.sigmas is not None:
            _check_falling(self.sigmas)
            if len(self.sigmas) != self.steps:
                raise ConfigError(f"sampler: {self.steps} steps, {len(self.sigmas)} sigmas: one for each step")

    @property
    def evaluations(self) -> int:
        """Evaluations of the denoiser for an image."""
        return 2 * self.steps - 1

    def sample(self, denoiser: DenoiserFunction, noise: "Noise", label: torch.Tensor | None) -> torch.Tensor:
        """Images, float64 [B, C, H, W], about in [-1, 1]."""
        return self.integrate(denoiser, self.levels[0] * noise.draw(), noise, label)

    @property
    def levels(self) -> tuple[float, ...]:
        """Falling noise levels of the steps, without the 0 at the end."""
        if self.sigmas is not None:
            return self.sigmas
        grid = karras_grid(max(self.steps, 2), self.sigma_min, self.sigma_max, self.rho)[::-1]
        return tuple(grid[: self.steps].tolist())

    def integrate(
        self, denoiser: DenoiserFunction, z: torch.Tensor, noise: "Noise", label: torch.Tensor | None
    ) -> torch.Tensor:
        """Images from z at the first of the levels, both float64 [B, C, H, W]; `noise` is drawn from by churn alone."""
        for sigma, sigma_next in pairwise([*self.levels, 0.0]):
            if self.churn and self.s_min <= sigma <= self.s_max:
                gamma = min(self.churn / self.steps, 2**0.5 - 1)
                z = z + sigma * ((1 + gamma) ** 2 - 1) ** 0.5 * self.s_noise * noise.draw()
                sigma = sigma * (1 + gamma)
            slope = (z - _evaluate(denoiser, z, sigma, label)) / sigma
            z_next = z + (sigma_next - sigma) * slope
            if sigma_next > 0:
                slope_next = (z_next - _evaluate(denoiser, z_next, sigma_next, label)) / sigma_next
                z_next = z + (sigma_next - sigma) * (slope + slope_next) / 2
            z = z_next
        return z


@dataclass(frozen=True, kw_only=True)
class _OneEvaluationEach:
    """A sampler with one evaluation at each of its levels."""

    sigmas: tuple[float, ...]
    """Falling noise levels of the evaluations."""

    def __post_init__(self) -> None:
        _check_falling(self.sigmas)

    @property
    def steps(self) -> int:
        """Number of evaluations."""
        return len(self.sigmas)

    @property
    def evaluations(self) -> int:
        """Evaluations of the network for an image."""
        return len(self.sigmas)


@dataclass(frozen=True, kw_only=True)
class EulerSampler(_OneEvaluationEach):
    """One evaluation a step, for denoisers distilled to these steps (Salimans & Ho 2022, Eq. 8): from z at sigma to
    D + sigma_next / sigma (z - D). The last step ends at 0."""

    name: ClassVar[SamplerName] = "euler"

    def sample(self, denoiser: DenoiserFunction, noise: "Noise", label: torch.Tensor | None) -> torch.Tensor:
        """Images, float64 [B, C, H, W], about in [-1, 1]."""
        z = self.sigmas[0] * noise.draw()
        for sigma, sigma_next in pairwise([*self.sigmas, 0.0]):
            mean = _evaluate(denoiser, z, sigma, label)
            z = mean + sigma_next / sigma * (z - mean)
        return z


@dataclass(frozen=True, kw_only=True)
class ConsistencySampler(_OneEvaluationEach):
    """Song et al. 2023, Algorithm 1: f at the first level, then at each further level: add noise, apply f."""

    name: ClassVar[SamplerName] = "consistency"
    sigmas: tuple[float, ...] = (80.0,)
    sigma_min: float = 0.002

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sigmas[-1] < self.sigma_min:
            raise ConfigError(f"sampler: the last of sigmas {self.sigmas} is below sigma_min {self.sigma_min}")

    def sample(self, denoiser: DenoiserFunction, noise: "Noise", label: torch.Tensor | None) -> torch.Tensor:
        """Images, float64 [B, C, H, W], about in [-1, 1]."""
        x = _evaluate(denoiser, self.sigmas[0] * noise.draw(), self.sigmas[0], label)
        for sigma in self.sigmas[1:]:
            z = x.clamp(-1, 1) + (sigma**2 - self.sigma_min**2) ** 0.5 * noise.draw()
            x = _evaluate(denoiser, z, sigma, label)
        return x


Sampler = HeunSampler | EulerSampler | ConsistencySampler

SECOND_LEVEL = {32: 0.821, 64: 1.526}
"""Second level of two-step consistency sampling by image side: CIFAR-10 (Song & Dhariwal 2024) and ImageNet-64."""


def make_sampler(config: SamplerConfig, consistency: bool, side: int = 0) -> Sampler:
    """The sampler of these settings for a consistency function, or for a denoiser.

    Args:
        side: of the images; it decides the second of two levels where the literature has one.
    Raises:
        ConfigError: a setting is out of range or not one of this sampler.
    """
    if config.sigmas is not None and config.steps not in (None, len(config.sigmas)):
        raise ConfigError(f"--sigmas: {len(config.sigmas)} levels, --steps {config.steps}: leave --steps out")
    if not consistency and config.sampler != "euler":
        return HeunSampler(
            steps=len(config.sigmas) if config.sigmas is not None else config.steps or 18,
            sigmas=config.sigmas,
            sigma_min=config.sigma_min,
            sigma_max=config.sigma_max,
            churn=config.churn,
            s_min=config.s_min,
            s_max=config.s_max,
            s_noise=config.s_noise,
        )
    steps, low, high = config.steps or 1, config.sigma_min, config.sigma_max
    if config.sigmas is not None:
        levels = config.sigmas
    elif steps == 1:
        levels = (high,)
    elif steps == 2 and consistency and side in SECOND_LEVEL:
        levels = (high, SECOND_LEVEL[side])
    else:
        levels = tuple(karras_grid(steps + 1, low, high, 7.0)[:0:-1].tolist())
    if config.sampler == "euler":
        return EulerSampler(sigmas=levels)
    return ConsistencySampler(sigmas=levels, sigma_min=low)


def _check_falling(sigmas: tuple[float, ...]) -> None:
    falling = all(a > b for a, b in pairwise(sigmas))
    if not sigmas or not falling or not all(is_finite_positive(s) for s in sigmas):
        raise ConfigError(f"sampler: sigmas must be positive and fall, got {sigmas}")


class Noise:
    """Unit noise for the images of a batch, each from its own Philox stream (seed, image)."""

    def __init__(self, seed: int, images: range, shape: tuple[int, int, int], device: torch.device | str) -> None:
        self._generators = [_generator(seed, image, 0) for image in images]
        self._shape, self._device = shape, device

    def draw(self) -> torch.Tensor:
        """The next noise of each image, float64 [B, C, H, W]."""
        drawn = np.stack([g.standard_normal(self._shape, np.float32) for g in self._generators])
        return torch.from_numpy(drawn).to(self._device, torch.float64)


def random_labels(seed: int, images: range, classes: int) -> np.ndarray:
    """A uniformly random class for each image, int64."""
    return np.array([_generator(seed, image, 1).integers(classes) for image in images], np.int64)


@torch.no_grad()
def sample_batches(
    denoiser: DenoiserFunction,
    sampler: Sampler,
    count: int | range,
    shape: tuple[int, int, int],
    seed: int = 0,
    batch_size: int = 64,
    labels: np.ndarray | None = None,
    device: torch.device | str = "cpu",
) -> Iterator[np.ndarray]:
    """Images 0 .. count - 1 of a seed, or a range of them, in batches of uint8 [B, C, H, W].

    Args:
        labels: int64, the class of each image from image 0 on, for a class-conditional denoiser.
    """
    wanted = range(count) if isinstance(count, int) else count
    for first in range(0, len(wanted), batch_size):
        images = wanted[first : first + batch_size]
        label = None if labels is None else torch.from_numpy(labels[list(images)]).to(device)
        x = sampler.sample(denoiser, Noise(seed, images, shape, device), label)
        yield to_pixels(x.cpu().numpy())


def _evaluate(denoiser: DenoiserFunction, z: torch.Tensor, sigma: float, label: torch.Tensor | None) -> torch.Tensor:
    levels = torch.full((len(z),), sigma, dtype=torch.float32, device=z.device)
    # the path is integrated in float64, the network runs in float32
    return denoiser(z.to(torch.float32), levels, label).to(torch.float64)


def _generator(seed: int, image: int, stream: int) -> np.random.Generator:
    key = np.array([seed, 0x5A3B1E00 + stream], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=np.array([0, 0, 0, image], np.uint64)))
