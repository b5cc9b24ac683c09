"""The loss floor of a data set: E Var(x | z, sigma), the mean squared error that no denoiser can go below."""

from dataclasses import dataclass

import numpy as np
import torch

from postmean.base.checks import check_at_least
from postmean.base.errors import ConfigError, DataError
from postmean.base.progress import NoProgress, ShowProgress
from postmean.contract.image_store import ImageStore
from postmean.engine.gpu_errors import gpu_errors
from postmean.engine.population import Population
from postmean.estimators.estimate import Queries
from postmean.estimators.exact import CANCELLING, Exact
from postmean.neighbours.certificate import bounds
from postmean.neighbours.self_join import SelfJoin

SIGMAS = tuple(round(0.01 * 2 ** (half / 2), 5) for half in range(31))
"""Noise levels of a curve: from 0.01 to 328 in half octaves."""
_CERTIFIED = 1e-8  # an image whose bound a dimension is below this is taken as its own mean, within that bound


@dataclass(frozen=True, kw_only=True)
class FloorSettings:
    """How a floor is measured."""

    sigmas: tuple[float, ...] = SIGMAS
    samples: int = 256
    """Noisy images z at each sigma, from distinct images while there are as many."""
    seed: int = 0
    flips: bool = False
    conditional: bool = False
    device: str = "cpu"

    def __post_init__(self) -> None:
        check_at_least(self, "samples", 2)
        if not self.sigmas or min(self.sigmas) <= 0:
            raise ConfigError(f"--sigmas: expected noise levels above 0, got {self.sigmas}")


@dataclass(frozen=True, kw_only=True)
class FloorPoint:
    """The floor at one sigma. All but sigma and the share are mean squared errors per dimension, x in [-1, 1]."""

    sigma: float
    floor: float
    """E Var(x | z, sigma) over images and eps, with 0 for images that are certified to be their own mean"""
    standard_error: float
    """Of `floor`, over the samples"""
    bound: float
    """What the images with 0 may add at most, by the certificate"""
    certified: float
    """Share of these images"""


def floor_curve(store: ImageStore, settings: FloorSettings, progress: ShowProgress = NoProgress) -> list[FloorPoint]:
    """The floor at each sigma, rising, by Monte Carlo over (x, eps) of the exact posterior variance.

    If the store has the self-join that `postmean index` makes, images whose certificate bounds their part of the floor
    by 1e-8 are not sampled: it is taken as 0.
    """
    rng = np.random.default_rng(settings.seed)
    order = rng.permutation(len(store))
    try:
        join = SelfJoin.load(store, settings.flips, settings.conditional)
    except DataError:  # not indexed: every image is sampled
        join = None
    sampler = _Sampler(store, settings, rng)
    points: list[FloorPoint] = []
    with progress("floor", len(set(settings.sigmas)), "noise levels") as line:
        for sigma in sorted(set(settings.sigmas)):
            bound = np.full(len(store), np.inf) if join is None else bounds(join, sigma) / store.dim
            certified = bound <= _CERTIFIED
            variance = sampler.variance(order[~certified[order]], sigma)
            share = 1 - certified.mean()
            points.append(
                FloorPoint(
                    sigma=sigma,
                    floor=float(share * variance.mean()) if len(variance) else 0.0,
                    standard_error=float(share * variance.std(ddof=1) / len(variance) ** 0.5) if len(variance) else 0.0,
                    bound=float(bound[certified].sum() / len(store)),
                    certified=float(certified.mean()),
                )
            )
            line.update(len(points))
    return points


def information(points: list[FloorPoint], dim: int) -> float:
    """Integral of D floor / sigma^2 over ln sigma: ln N for N distinct images if the curve spans all of it, in nats."""
    rate = [dim * point.floor / point.sigma**2 for point in points]
    return float(np.trapezoid(rate, np.log([point.sigma for point in points])))


class _Sampler:
    """Posterior variances at z = x + sigma eps, with the same eps for a sample at every sigma."""

    def __init__(self, store: ImageStore, settings: FloorSettings, rng: np.random.Generator) -> None:
        self._store, self._samples = store, settings.samples
        self._eps = rng.standard_normal((settings.samples, store.dim), dtype=np.float32)
        self._mirrored = rng.integers(0, 2 if settings.flips else 1, settings.samples)
        self._label_of = store.label if settings.conditional else None
        labels = range(store.classes) if settings.conditional else [None]
        if settings.conditional and not store.classes:
            raise ConfigError(f"{store.path}: --conditional needs labels, the store has none")
        self._exact = {
            label: Exact(Population(store, settings.flips, label, settings.device), CANCELLING) for label in labels
        }

    def variance(self, images: np.ndarray, sigma: float) -> np.ndarray:
        """Posterior variances per dimension at one z of each of the first images, float64 [n]."""
        if len(images) == 0:
            return np.empty(0)
        images = np.resize(images, self._samples)  # few images come again, with other eps
        entry = images + len(self._store) * self._mirrored
        label = None if self._label_of is None else self._label_of(entry)
        out = np.empty(self._samples)
        for of, exact in self._exact.items():
            rows = np.arange(self._samples) if label is None else np.flatnonzero(label == of)
            if len(rows):
                out[rows] = self._at(exact, rows, entry[rows], sigma)
        return out

    def _at(self, exact: Exact, rows: np.ndarray, entry: np.ndarray, sigma: float) -> np.ndarray:
        population = exact.population
        member = population.member(entry)
        with gpu_errors():
            z = population.x(member) + sigma * torch.from_numpy(self._eps[rows]).to(population.device)
            level = np.full(len(rows), sigma, np.float64)
            return exact.estimate(Queries(z, level, member, _no_draws)).variance


def _no_draws(row: int) -> np.random.Generator:
    raise AssertionError("the exact mean draws no random numbers")
