"""Whether a run's sampled means come from their estimator: a Monte Carlo test against its float64 twin.

The twin makes every sampled record again, thousands of times: each time is a virtual run. In a right run the stored
means are one more such run, and no statistic can tell them from the others: that it is beyond all M virtual runs has
probability 1 / (M + 1), whatever the distributions (Barnard 1963). Nothing is assumed normal or large.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from postmean.base.checks import LEAST_TOLERANCE
from postmean.contract.settings import EstimatorSettings
from postmean.engine.softmax import softmax
from postmean.estimators.float64_twins import TWINS, TwinPoint

FIRST_LOOK, VIRTUAL_RUNS = 199, 4999
"""Virtual runs of every check, and of one whose first look found the run beyond all of them."""

FALSE_ALARM = 5 / (VIRTUAL_RUNS + 1)
"""Probability at most that a right run fails: two statistics on two sides, one on one side."""

_FLOAT32_SHARE = 1e-5  # of the posterior variance: what the engine's accepted error of log-weights, 3e-3, costs
_Z_MARGIN = 100.0  # errors this much larger than the one by z hardly change with it
_LEAST_VARIANCE = 0.03  # of a log error, as if it had 70 degrees of freedom: no record decides alone


@dataclass(frozen=True, kw_only=True)
class StoredMean:
    """A stored mean, where it was estimated, and what it estimates."""

    point: TwinPoint
    mean: np.ndarray
    """float [D], as stored"""
    is_dense: bool
    """Whether it was rounded to float16."""
    exact: np.ndarray
    """float64 [D], E[x | z, sigma]"""
    slope: np.ndarray
    """float64 [D], how `exact` changes with log(1 / sigma^2)"""
    z_error: float = 0.0
    """How far each value of the point's z may be from that of the run: an Euler point is made from a rounded mean."""


@dataclass(frozen=True, kw_only=True)
class TwinComparison:
    """Two-sided (worst: one-sided) p-values of the stored means among the virtual runs."""

    virtual_runs: int
    size: float
    """Of the errors' sizes: a wrong number of draws or neighbours, wrong weights"""
    shift: float
    """Of the errors along the slope of the mean over log sigma: a wrong sigma, biased weights"""
    worst: float
    """Of the largest error of one record: a record of another tuple"""

    @property
    def is_beyond_all(self) -> bool:
        """Whether the stored run is beyond all virtual runs in one statistic."""
        return min(self.size / 2, self.shift / 2, self.worst) < 1.5 / (self.virtual_runs + 1)

    @property
    def is_other(self) -> bool:
        """Whether the means come from another distribution; of a right run it says so with probability FALSE_ALARM."""
        return self.virtual_runs >= VIRTUAL_RUNS and self.is_beyond_all


class TwinTest:
    """Compares stored means with the twin of their estimator; the same seed gives the same answer."""

    def __init__(self, settings: EstimatorSettings, seed: int) -> None:
        self._settings, self._seed = settings, seed
        self._stored: list[StoredMean] = []
        self._first = _Look(settings, seed, FIRST_LOOK)

    def __len__(self) -> int:
        """Stored means so far."""
        return len(self._stored)

    def add(self, one: StoredMean) -> None:
        """Another stored mean."""
        self._stored.append(one)
        self._first.add(one)

    def result(self, progress: Callable[[int], None] = lambda done: None) -> TwinComparison:
        """The comparison: a second look at all of them, with new draws, where the first found them beyond all runs.

        Args:
            progress: called with the number of means compared so far in the second look.
        """
        first = self._first.comparison()
        if not first.is_beyond_all:
            return first
        second = _Look(self._settings, self._seed, VIRTUAL_RUNS)
        for number, one in enumerate(self._stored):
            second.add(one)
            progress(number + 1)
        return second.comparison()


class _Look:
    """The statistics of each run, summed over the records: column 0 is the stored run, the others virtual ones."""

    def __init__(self, settings: EstimatorSettings, seed: int, runs: int) -> None:
        self._settings, self._runs = settings, runs
        self._generator = np.random.default_rng([seed, runs])
        self._size, self._shift, self._worst = np.zeros((3, runs + 1))

    def add(self, one: StoredMean) -> None:
        error, along = _errors(one, self._settings, self._generator, self._runs)
        floor = _floor(one)
        along = np.where(error > floor, along, 0.0)
        error = np.maximum(error, floor)
        # each record counts as much as it can tell: of a common factor, and of a common change of sigma
        size = np.log(error)
        self._size += (size - size.mean()) / (size.var() + _LEAST_VARIANCE)
        spread = along.var() + floor * one.exact.size
        self._shift += float(np.linalg.norm(one.slope)) * (along - along.mean()) / spread
        # between the error itself, which only large ones decide, and its share of the usual one, which rare ones do
        np.maximum(self._worst, error / np.sqrt(error.mean()), out=self._worst)

    def comparison(self) -> TwinComparison:
        return TwinComparison(
            virtual_runs=self._runs,
            size=_two_sided(self._size),
            shift=_two_sided(self._shift),
            worst=_above(self._worst),
        )


def _errors(
    one: StoredMean, settings: EstimatorSettings, generator: np.random.Generator, runs: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean squared error, and error along the slope, of the stored mean and of each twin's."""
    line = one.slope / max(float(np.linalg.norm(one.slope)), 1e-30)
    parts = [one.mean[None] - one.exact]
    for estimates in TWINS[settings.name](one.point, settings, runs, generator):
        parts.append((estimates.astype(np.float16) if one.is_dense else estimates) - one.exact)
    return (
        np.concatenate([np.square(part).mean(1) for part in parts]),
        np.concatenate([part @ line for part in parts]),
    )


def _floor(one: StoredMean) -> float:
    """Mean squared error below which a right mean may differ from the twin's: by storage, by float32, by z."""
    near = one.point.near
    weight = softmax(one.point.log_weight(near))
    mean = weight @ near
    floor = max(LEAST_TOLERANCE, _FLOAT32_SHARE * float(weight @ np.square(near - mean).mean(1)))
    if one.z_error > 0:
        moved = np.random.default_rng(0).uniform(-one.z_error, one.z_error, (8, len(mean)))
        # |z + d - x|^2 = |z - x|^2 - 2 d.x + a constant
        weight = softmax(one.point.log_weight(near) + moved @ near.T / one.point.sigma**2)
        floor = max(floor, _Z_MARGIN * float(np.square(weight @ near - mean).mean(1).max()))
    return floor


def _above(statistic: np.ndarray) -> float:
    """Share of the runs whose statistic is at least the stored run's, itself included."""
    return float((statistic >= statistic[0]).mean())


def _two_sided(statistic: np.ndarray) -> float:
    return min(1.0, 2 * min(_above(statistic), _above(-statistic)))
