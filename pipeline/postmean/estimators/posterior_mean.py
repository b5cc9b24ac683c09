"""The exact posterior mean as a denoiser: a function of any z and sigma, which samplers of other projects can call.

k-diffusion calls a denoiser as `denoiser(x, sigma, **extra_args)`, with x [B, C, H, W] and sigma [B]; EDM's samplers
call `net(x, sigma, labels)` and use `round_sigma`, `sigma_min` and `sigma_max`. Both can call a `PosteriorMean`.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from postmean.base.device import usable_device
from postmean.base.errors import ConfigError
from postmean.contract.image_store import ImageStore
from postmean.contract.score import score, velocity
from postmean.contract.tuples import SIGMA_MAX, SIGMA_MIN
from postmean.engine.gpu_errors import gpu_errors
from postmean.engine.population import Population
from postmean.estimators.estimate import Estimate, Queries, assemble
from postmean.estimators.exact import CANCELLING, Exact

Array = TypeVar("Array", np.ndarray[Any, Any], torch.Tensor)
"""A numpy array, or a torch tensor on any device."""


@dataclass(frozen=True, kw_only=True)
class Posterior(Generic[Array]):
    """The posterior p(x | z, sigma) of B points z. Arrays are of z's kind, on its device."""

    mean: Array
    """E[x | z, sigma], of z's shape and dtype, in [-1, 1]"""
    score: Array
    """The gradient of ln p(z; sigma), (mean - z) / sigma^2, like `mean`"""
    velocity: Array
    """The target of flow matching, E[eps - x | z], like `mean`"""
    ess: Array
    """Effective sample size 1 / sum p_j^2, float32 [B], 1 to the number of images"""
    top_weight: Array
    """Probability of the likeliest image, float32 [B], in (0, 1]"""
    variance: Array
    """Posterior variance per dimension, float32 [B]: no denoiser's mean squared error at z can be lower"""
    divergence: Array
    """Divergence of the mean as a function of z, D variance / sigma^2, float32 [B]"""
    log_density: Array
    """ln p(z; sigma) of the mixture of Gaussians around the images, within 3e-3 nats, float64 [B]"""


class PosteriorMean:
    """E[x | z, sigma] over the images of a store, at any z: the ideal denoiser of this data set.

    Niedoba et al. 2024, arXiv:2402.08018, Eq. 8, in full: no neighbours, no random numbers. The mean squared error
    against float64 is 1e-8. z is read as float32. No gradient flows through.

    >>> import torch
    >>> denoiser = PosteriorMean(digits)
    >>> z = 80 * torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> denoiser(z, sigma=80.0).shape
    torch.Size([2, 1, 8, 8])
    >>> posterior = denoiser.at(z, sigma=torch.tensor([80.0, 0.5]))
    >>> bool(posterior.ess[0] > 250), bool(posterior.ess[1] < 2)
    (True, True)

    Args:
        store: the image store, or its folder or URL.
        flips: whether mirror images are data too.
        device: where it computes, whatever z's device is: auto (a GPU if there is one), cpu, or such as cuda. A GPU
            gets a copy of the images at the first call.
    Raises:
        DataError: no store there, or it is damaged.
        ConfigError: no such device here.
    """

    sigma_min = 0.0
    """Least sigma of EDM's samplers."""
    sigma_max = float("inf")
    """Largest sigma of EDM's samplers."""

    def __init__(self, store: ImageStore | Path | str, *, flips: bool = False, device: str = "auto") -> None:
        self.store = store if isinstance(store, ImageStore) else ImageStore.open(store)
        self.flips = flips
        self.device = str(usable_device(device))
        self._exact = cache(self._make_exact)

    def __call__(self, z: Array, sigma: Any, label: Any = None) -> Array:
        """The posterior means, in [-1, 1], of z's shape, dtype, kind and device.

        Args:
            z: canonical x + sigma eps, floating point [B, C, H, W]: any finite values.
            sigma: noise level, 1e-12 to 1e12: [B], or one number for all.
            label: classes to condition on, integers [B] or one for all; None: the mean over the whole store.
        Raises:
            ConfigError: shapes or types that do not fit the store, a sigma out of range, no such class.
            EstimatorError: z is not finite.
            DataError: an image of the store is damaged.
        """
        return self.at(z, sigma, label).mean

    def at(self, z: Array, sigma: Any, label: Any = None) -> Posterior[Array]:
        """Mean, score, velocity and quality at z. Takes and raises what a call does."""
        self._check_points(z)
        sigma_B = _column(sigma, len(z), "sigma").astype(np.float64)
        if not ((sigma_B >= SIGMA_MIN) & (sigma_B <= SIGMA_MAX)).all():
            raise ConfigError(f"sigma: expected noise levels within {SIGMA_MIN:g} to {SIGMA_MAX:g}")
        like = z.detach() if isinstance(z, torch.Tensor) else torch.as_tensor(np.array(z))
        points = like.to(self.device, torch.float32).reshape(len(z), -1)
        estimate = self._estimate(points, sigma_B, self._labels(label, len(z)))
        precise = torch.promote_types(like.dtype, torch.float32)  # sigma^2 may leave the range of half precision
        mean = torch.as_tensor(estimate.mean).to(like.device, precise).reshape(like.shape)
        level = torch.as_tensor(sigma_B).to(like.device, precise)
        images = {
            "mean": mean,
            "score": score(mean, like.to(precise), level),
            "velocity": velocity(mean, like.to(precise), level),
        }
        columns = {
            name: torch.as_tensor(getattr(estimate, name)).to(like.device, torch.float32)
            for name in ("ess", "top_weight", "variance")
        }
        dim = points.shape[1]
        columns["divergence"] = (columns["variance"] * dim / level.to(torch.float64) ** 2).to(torch.float32)
        columns["log_density"] = torch.as_tensor(
            self._log_mass(estimate, label) - dim * np.log(np.sqrt(2 * np.pi) * sigma_B)
        ).to(like.device)
        found = {name: image.to(like.dtype) for name, image in images.items()} | columns
        if isinstance(z, torch.Tensor):
            return Posterior(**found)
        return Posterior(**{name: column.numpy() for name, column in found.items()})

    def round_sigma(self, sigma: Any) -> torch.Tensor:
        """The nearest sigma that the denoiser takes, as EDM's samplers ask: sigma itself, as a tensor."""
        return torch.as_tensor(sigma)

    def _check_points(self, z: Any) -> None:
        if not (hasattr(z, "dtype") and hasattr(z, "shape")):
            raise ConfigError(f"z: expected an array of torch or numpy, got {type(z).__name__}")
        is_floating = z.is_floating_point() if isinstance(z, torch.Tensor) else np.issubdtype(z.dtype, np.floating)
        shape = self.store.image_shape
        if not is_floating or z.ndim != 4 or tuple(z.shape[1:]) != shape or len(z) == 0:
            expected = f"floating point [B, {', '.join(map(str, shape))}] with B >= 1"
            raise ConfigError(f"z: expected {expected} for {self.store.where}, got {z.dtype} {list(z.shape)}")

    def _labels(self, label: Any, count: int) -> np.ndarray[Any, Any] | None:
        if label is None:
            return None
        classes = self.store.classes
        if classes == 0:
            raise ConfigError(f"{self.store.where}: label {label} was passed, the store has no labels: pass None")
        labels = _column(label, count, "label")
        if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() >= classes:
            raise ConfigError(f"label: expected integers 0..{classes - 1} for {self.store.where}, got {label}")
        return labels

    def _estimate(self, z: torch.Tensor, sigma: np.ndarray[Any, Any], label: np.ndarray[Any, Any] | None) -> Estimate:
        """Estimates at z, [B, D], one class after the other."""
        classes = [None] if label is None else np.unique(label).tolist()
        places = [np.arange(len(z)) if c is None else np.flatnonzero(label == c) for c in classes]
        everywhere = Queries(z, sigma, np.zeros(len(z), np.int64), _no_draws)
        with gpu_errors():
            parts = [self._exact(c).estimate(everywhere.select(p)) for c, p in zip(classes, places, strict=True)]
        return assemble(parts, places)

    def _log_mass(self, estimate: Estimate, label: Any) -> np.ndarray[Any, Any]:
        """The log-normalisers divided by the number of images in the mean, float64 [B]."""
        assert estimate.log_normaliser is not None
        size = len(estimate.log_normaliser)
        labels = [None] * size if label is None else _column(label, size, "label").tolist()
        return estimate.log_normaliser - np.log([len(self._exact(c).population) for c in labels])

    def _make_exact(self, label: int | None) -> Exact:
        population = Population(self.store, self.flips, label, self.device)
        if len(population) == 0:
            raise ConfigError(f"label {label}: no image of {self.store.where} is of this class")
        return Exact(
            population, max_support=CANCELLING, normalises=True
        )  # supports of so few members make their variance exact


def _column(value: Any, count: int, what: str) -> np.ndarray[Any, Any]:
    """The value of each of `count` points, on the host, from one number or from an array [count]."""
    array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    if array.shape not in ((), (count,)):
        raise ConfigError(f"{what}: expected one number or [{count}], as z has {count} points, got {list(array.shape)}")
    return np.broadcast_to(array, count)


def _no_draws(row: int) -> np.random.Generator:
    raise AssertionError("the exact mean draws no random numbers")
