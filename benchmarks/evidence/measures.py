"""Measures of a trained network: error to the exact mean, quality of its samples, how much it memorises."""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from data import DataSet

from postmean.contract.process import karras_grid
from postmean.estimators.posterior_mean import PosteriorMean
from postmean.report.frechet import RandomFeatures, frechet
from postmean.report.nearest import nearest_differences
from postmean.training.model.preconditioning import Denoiser
from postmean.training.model.sampling import ConsistencySampler, HeunSampler, sample_batches

SIGMAS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 12.0, 40.0)
POINTS = 192
SAMPLES = 1000
SIGMA_MAX = 20.0
"""Largest level of the samplers: EDM's noise hardly goes beyond."""


@dataclass(frozen=True)
class Measures:
    """The fixed points, references and extractors of a data set."""

    data: DataSet

    @cached_property
    def exact(self) -> PosteriorMean:
        return PosteriorMean(self.data.store, device="cpu")

    @cached_property
    def points(self) -> dict[float, torch.Tensor]:
        """z at each sigma, made from the same training images and eps."""
        rng = np.random.default_rng(1)
        rows = rng.choice(len(self.data.train), POINTS, replace=False)
        eps = rng.standard_normal((POINTS, self.data.store.dim), dtype=np.float32)
        return {s: self._images(self.data.train[rows] + np.float32(s) * eps) for s in SIGMAS}

    @cached_property
    def means(self) -> dict[float, torch.Tensor]:
        """The exact mean at each point."""
        return {sigma: self.exact(z, sigma) for sigma, z in self.points.items()}

    @cached_property
    def ends(self) -> dict[float, torch.Tensor]:
        """The end of the exact probability-flow ODE from each point: what a consistency function should give."""
        return {sigma: self._end(z.double(), sigma) for sigma, z in self.points.items()}

    def errors(self, denoiser: Denoiser, is_consistency: bool) -> list[float]:
        """Mean squared error per dimension at each sigma, to the exact mean or to the end of the exact ODE."""
        references = self.ends if is_consistency else self.means
        with torch.no_grad():
            found = [denoiser(z, torch.full((len(z),), s)) for s, z in self.points.items()]
        return [float((f - r).square().mean()) for f, r in zip(found, references.values(), strict=True)]

    def held_out_errors(self, denoiser: Denoiser) -> list[float]:
        """Mean squared error per dimension of denoising held-out images at each sigma."""
        rng = np.random.default_rng(2)
        x = self._images(self.data.held_out[:POINTS])
        eps = self._images(rng.standard_normal(x.flatten(1).shape, dtype=np.float32))
        with torch.no_grad():
            return [float((denoiser(x + s * eps, torch.full((len(x),), s)) - x).square().mean()) for s in SIGMAS]

    def samples(self, denoiser: Denoiser, is_consistency: bool) -> np.ndarray:
        """Images in [-1, 1], [n, D], from the same noise for every network."""
        sampler = (
            ConsistencySampler(sigmas=(SIGMA_MAX,)) if is_consistency else HeunSampler(steps=12, sigma_max=SIGMA_MAX)
        )
        batches = sample_batches(denoiser, sampler, SAMPLES, self.data.shape, batch_size=SAMPLES)
        return np.concatenate(list(batches)).reshape(SAMPLES, -1).astype(np.float32) / 127.5 - 1

    def quality(self, samples: np.ndarray) -> dict[str, float]:
        """Fréchet distances by both extractors, and the distance to the nearest training image."""
        nearest = nearest_differences(samples, [self.data.train])
        return {
            "frechet_random": frechet(self._random(samples), self._random(self.data.every)),
            "frechet_classifier": frechet(self._classifier(samples), self._classifier(self.data.every)),
            "nearest": float(nearest[0].mean()),
            "copies": float((nearest[0] < nearest[1] / 3).mean()),
        }

    def of_real_images(self) -> dict[str, float]:
        """The same of the held-out images: what samples of the data's own distribution would get."""
        return self.quality(self.data.held_out)

    def _images(self, flat: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.asarray(flat, np.float32)).reshape(-1, *self.data.shape)

    def _end(self, z: torch.Tensor, sigma: float) -> torch.Tensor:
        grid = karras_grid(24, 0.002, sigma, 7.0)[::-1].tolist()
        for level, lower in pairwise(grid):
            slope = (z - self.exact(z, level)) / level
            later = z + (lower - level) * slope
            z = z + (lower - level) * (slope + (later - self.exact(later, lower)) / lower) / 2
        return self.exact(z, grid[-1]).float()

    @cached_property
    def _random(self) -> RandomFeatures:
        return RandomFeatures(self.data.store.dim)

    @cached_property
    def _trained(self) -> list[tuple[np.ndarray, np.ndarray]]:
        from sklearn.neural_network import MLPClassifier

        classifier = MLPClassifier((128, 48), random_state=0, max_iter=60, alpha=1e-3)
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that 60 passes are few
            classifier.fit(self.data.every, self.data.labels)
        return list(zip(classifier.coefs_, classifier.intercepts_, strict=True))

    def _classifier(self, x: np.ndarray) -> np.ndarray:
        """Features of a classifier trained on the data set: its last hidden layer, [n, 48]."""
        for weight, bias in self._trained[:-1]:
            x = np.maximum(x @ weight + bias, 0)
        return x
