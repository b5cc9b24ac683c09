"""Images of the hybrid sampler (Niedoba et al. 2024, Figure 5), of its baseline and of the network alone."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from postmean.base.checks import check_finite_positive
from postmean.base.errors import ConfigError
from postmean.contract.image_store import ImageStore, to_pixels, to_unit
from postmean.training.model.hybrid import from_level, hybrid, through
from postmean.training.model.sampling import DenoiserFunction, HeunSampler, Noise

HYBRID, FORWARD, NETWORK = "hybrid", "forward", "network"
"""The estimator above sigma_switch and the network below; an image noised to sigma_switch, then the network; the
network alone."""


@dataclass(frozen=True, kw_only=True)
class HybridSettings:
    """What is drawn. Image n of a seed has the same noise in every method."""

    sigma_switch: tuple[float, ...]
    count: int = 1000
    """Images of each method at each sigma_switch."""
    steps: int = 18
    """Steps of Heun's method from 80 to 0.002; a hybrid has one more, at sigma_switch."""
    seed: int = 0
    batch_size: int = 256

    def __post_init__(self) -> None:
        for sigma in self.sigma_switch:
            check_finite_positive("report hybrid", sigma_switch=sigma)
        if not self.sigma_switch or self.count < 2 or self.batch_size < 1:
            raise ConfigError(
                f"report hybrid: expected a --sigma-switch, --count of at least 2 and --batch-size of at least 1, got "
                f"{self.sigma_switch}, {self.count}, {self.batch_size}"
            )

    @property
    def sampler(self) -> HeunSampler:
        """Heun's method from prior noise to an image."""
        return HeunSampler(steps=self.steps)


@dataclass(frozen=True)
class HybridImages:
    """Draws images of a store: all are a function of (settings, estimator, network).

    Args:
        estimator: posterior mean of the store's images at any z, such as `PosteriorMean`.
        network: a trained unconditional denoiser.
        flips: whether mirror images are data too, for the baseline's images.
    """

    store: ImageStore
    estimator: DenoiserFunction
    network: DenoiserFunction
    settings: HybridSettings
    flips: bool = False
    device: str = "cpu"

    def draw(self, method: str, sigma_switch: float, progress: Callable[[int], None]) -> np.ndarray:
        """Images of a method, uint8 [count, C, H, W].

        Args:
            progress: called with the number of images drawn.
        """
        batches = []
        for images in self._batches():
            noise = Noise(self.settings.seed, images, self.store.image_shape, self.device)
            with torch.no_grad():
                batches.append(to_pixels(self._batch(method, sigma_switch, images, noise).cpu().numpy()))
            progress(images.stop)
        return np.concatenate(batches)

    def sources(self) -> np.ndarray:
        """The image of the data that the baseline noises for each image, int64 [count], uniform."""
        entries = len(self.store) * (2 if self.flips else 1)
        return np.random.default_rng([self.settings.seed, 0x51]).integers(entries, size=self.settings.count)

    def _batches(self) -> Iterator[range]:
        for first in range(0, self.settings.count, self.settings.batch_size):
            yield range(first, min(first + self.settings.batch_size, self.settings.count))

    def _batch(self, method: str, sigma_switch: float, images: range, noise: Noise) -> torch.Tensor:
        sampler = self.settings.sampler
        if method == NETWORK:
            return sampler.sample(self.network, noise, None)
        if method == HYBRID:
            both = hybrid(self.estimator, self.network, sigma_switch)
            return through(sampler, sigma_switch).sample(both, noise, None)
        x = to_unit(self.store.pixels(self.sources()[list(images)])).reshape(-1, *self.store.image_shape)
        z = torch.from_numpy(x).to(self.device, torch.float64) + sigma_switch * noise.draw()
        return from_level(sampler, sigma_switch).integrate(self.network, z, noise, None)
