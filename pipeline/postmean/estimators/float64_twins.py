"""Float64 twins of `knn-snis` and `knn-stratified`: the same estimators, written again in plain numpy.

A twin shares no code with the engine, the searches or the estimators. It draws as often as one likes, so that the
distribution of an estimate is known, whatever it is, and one stored mean can be compared with it (see `twin_test`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from postmean.contract.image_store import ImageStore
from postmean.contract.settings import EstimatorSettings
from postmean.estimators.float64 import x_of

_BATCH_BYTES = 200_000_000  # of drawn images, float64
_NO_TAIL = 1e-10  # mass beyond the neighbours that changes no mean


@dataclass(frozen=True, kw_only=True)
class TwinPoint:
    """A point (z, sigma), its neighbours, and the population they belong to."""

    store: ImageStore
    entries: np.ndarray
    """int64 [M], the population"""
    population_mean: np.ndarray
    """float64 [D], plain mean of the population"""
    z: np.ndarray
    """float64 [D]"""
    sigma: float
    neighbours: np.ndarray
    """int64 [k], positions in `entries` of the k nearest members"""

    @property
    def near(self) -> np.ndarray:
        """x of the neighbours, float64 [k, D]"""
        return x_of(self.store, self.entries[self.neighbours])

    @property
    def outside(self) -> np.ndarray:
        """Entries of the other members, int64 [M - k]"""
        is_outside = np.ones(len(self.entries), bool)
        is_outside[self.neighbours] = False
        return self.entries[is_outside]

    def log_weight(self, x: np.ndarray) -> np.ndarray:
        """-|z - x|^2 / 2 sigma^2 of images float64 [..., D], from the differences themselves."""
        difference = x - self.z
        return -np.einsum("...d,...d->...", difference, difference) / (2 * self.sigma**2)


Twin = Callable[[TwinPoint, EstimatorSettings, int, np.random.Generator], Iterator[np.ndarray]]
"""(point, settings, number of estimates, generator) -> independent estimates, float64 [b, D] at a time."""


def snis(
    point: TwinPoint, settings: EstimatorSettings, count: int, generator: np.random.Generator
) -> Iterator[np.ndarray]:
    """Niedoba et al. 2024, Algorithm 1: n draws from the proposal of Eq. 13, self-normalised weights of Eq. 11."""
    near, outside = point.near, point.outside
    log_near = point.log_weight(near)
    farthest = log_near.min()
    proposal = np.exp(log_near - log_near.max())
    mass = np.append(proposal, len(outside) * proposal.min())
    batch = _batch(settings.n * point.z.size)
    for size in (min(batch, count - start) for start in range(0, count, batch)):
        times = generator.multinomial(settings.n, mass / mass.sum(), size=size)
        times_near, in_tail = times[:, :-1].astype(np.float64), times[:, -1]
        row = np.repeat(np.arange(size), in_tail)
        drawn, which = np.unique(generator.integers(0, max(1, len(outside)), len(row)), return_inverse=True)
        x = x_of(point.store, outside[drawn])
        # p / q is Z_q for a neighbour, and p(z | x) / p(z | x_k) of that for any other member
        log_w = (point.log_weight(x) - farthest)[which]
        # relative to the largest weight of the row: 1 where it has a neighbour
        top = np.where(in_tail < settings.n, 0.0, -np.inf)
        np.maximum.at(top, row, log_w)
        far = csr_array((np.exp(log_w - top[row]), (row, which)), shape=(size, len(drawn)))
        yield (times_near @ near + far @ x) / (times_near.sum(1) + far.sum(1))[:, None]


def stratified(
    point: TwinPoint, settings: EstimatorSettings, count: int, generator: np.random.Generator
) -> Iterator[np.ndarray]:
    """All k neighbours, and m uniform draws of the rest with the rest's mean as control variate.

    The formula is that of `knn_stratified`.
    """
    near, outside = point.near, point.outside
    log_near, m = point.log_weight(near), settings.m
    if len(outside) * np.exp(log_near.min() - log_near.max()) < _NO_TAIL:
        weight = np.exp(log_near - log_near.max())
        yield np.repeat((weight @ near / weight.sum())[None], count, 0)
        return
    rest_mean = (point.population_mean * len(point.entries) - near.sum(0)) / len(outside)
    batch = _batch(m * point.z.size)
    for size in (min(batch, count - start) for start in range(0, count, batch)):
        drawn = outside[generator.integers(0, len(outside), (size, m))]
        x = x_of(point.store, drawn.ravel()).reshape(size, m, -1)
        norm2 = np.einsum("bmd,bmd->bm", x, x)
        log_far = (2 * (x @ point.z) - norm2 - point.z @ point.z) / (2 * point.sigma**2) + np.log(len(outside) / m)
        top = np.maximum(log_near.max(), log_far.max(1))[:, None]
        w_near, w_far = np.exp(log_near - top), np.exp(log_far - top)
        total = (w_near.sum(1) + w_far.sum(1))[:, None]
        w_near, w_far = w_near / total, w_far / total
        # [b, 2, D]: sum of w x over the draws, and their plain mean
        sums = np.stack([w_far, np.full((size, m), 1 / m)], axis=1) @ x
        plain, drawn_mean = w_near @ near + sums[:, 0], sums[:, 1]
        # (x - plain).(x - drawn_mean) and |x - drawn_mean|^2, multiplied out
        products = x @ np.stack([plain, drawn_mean], axis=2)
        along = norm2 - products.sum(2) + np.einsum("bd,bd->b", plain, drawn_mean)[:, None]
        spread = np.maximum(norm2.sum(1) - m * np.square(drawn_mean).sum(1), 0)
        is_spread = spread > 1e-9 * norm2.sum(1)
        beta = np.where(is_spread, m * (w_far * along).sum(1) / np.where(is_spread, spread, 1), w_far.sum(1))
        yield np.clip(plain - beta[:, None] * (drawn_mean - rest_mean), -1, 1)


TWINS: dict[str, Twin] = {"knn-snis": snis, "knn-stratified": stratified}
"""The twin of each estimator that has one."""


def _batch(values: int) -> int:
    """Estimates at a time, where one needs this many float64 values."""
    return max(1, _BATCH_BYTES // (8 * values))
