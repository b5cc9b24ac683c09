"""Input and output of every estimator: queries in, posterior means and their quality out. No I/O, no Ray."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch

from postmean.base.errors import EstimatorError
from postmean.contract.tuples import SIGMA_MAX, SIGMA_MIN
from postmean.engine.population import Population, from_integer_units
from postmean.engine.ragged import moments
from postmean.engine.transfer import to_host

HeldBy = list[np.ndarray | None] | None
"""For each of B posteriors what holds it (see `held`), None where that is unknown; None: unknown of all."""


def held_at(held_by: HeldBy, rows: np.ndarray) -> HeldBy:
    """What holds the posteriors at these positions."""
    return None if held_by is None else [held_by[row] for row in rows]


@dataclass(frozen=True)
class Queries:
    """B points whose posterior means are to be estimated.

    Means do not depend on the order of the points, but adjacent points of similar sigma share work. `Replica` passes
    them in rising sigma; no estimator sorts them again.
    """

    z: torch.Tensor
    """canonical z, float32 [B, D] on the population's device"""
    sigma: np.ndarray
    """float64 [B], in SIGMA_MIN .. SIGMA_MAX; on the host: the engine copies it to the device when needed"""
    source: np.ndarray
    """int64 [B], member of the population that each z was made from (for auto, stf and single-sample)"""
    generator: Callable[[int], np.random.Generator]
    """row -> the generator of its random draws: the same for a tuple in every batch"""
    from_source: np.ndarray | None = None
    """bool [B], whether z is x[source] + sigma eps, eps standard normal (an Euler point need not be); None: unknown"""
    held_by: HeldBy = None
    """For each query the members, int64, that hold its posterior (see `held`); None where that is unknown"""
    sigma_next: np.ndarray | None = None
    """float64 [B], noise levels of the Euler points whose means are wanted too where they come cheap; 0: none wanted"""

    def __post_init__(self) -> None:
        # NaN is the least and the largest; isfinite takes ten times longer
        if len(self.z) and not bool(torch.isfinite(torch.stack(torch.aminmax(self.z))).all()):
            raise EstimatorError("queries: z must be finite")
        if not ((self.sigma >= SIGMA_MIN) & (self.sigma <= SIGMA_MAX)).all():
            bad = self.sigma[~((self.sigma >= SIGMA_MIN) & (self.sigma <= SIGMA_MAX))][0]
            raise EstimatorError(f"queries: expected sigma within {SIGMA_MIN:g} to {SIGMA_MAX:g}, got {bad:g}")

    def __len__(self) -> int:
        return len(self.z)

    def select(self, rows: np.ndarray) -> "Queries":
        """The queries at these positions."""
        index = torch.as_tensor(rows).to(self.z.device)
        return Queries(
            self.z[index],
            self.sigma[rows],
            self.source[rows],
            lambda row: self.generator(int(rows[row])),
            None if self.from_source is None else self.from_source[rows],
            held_at(self.held_by, rows),
            None if self.sigma_next is None else self.sigma_next[rows],
        )

    def groups(self, most: int) -> Iterator["Queries"]:
        """The queries in groups of at most `most`, in order."""
        for start in range(0, len(self), most):
            yield self.select(np.arange(start, min(start + most, len(self))))


@dataclass(frozen=True)
class Estimate:
    """Posterior means of B queries and how good they are, as numpy columns."""

    mean: np.ndarray
    """float32 [B, D] in [-1, 1]"""
    support: list[tuple[np.ndarray, np.ndarray] | None]
    """For each query the members (int64) and weights (summing to 1) of its mean, None if they are too many"""
    ess: np.ndarray
    """float64 [B], 1 / sum of squared normalised weights, >= 1"""
    top_weight: np.ndarray
    """float64 [B], largest normalised weight"""
    variance: np.ndarray
    """float64 [B], (estimated) posterior variance per dimension"""
    tail_mass: np.ndarray
    """float64 [B], estimated posterior mass that was not enumerated"""
    support_size: np.ndarray
    """int64 [B], number of neighbours or members that were used"""
    log_normaliser: np.ndarray | None = None
    """float64 [B], ln of the sum of exp(-|z - x_j|^2 / 2 sigma^2) over the population; None where it is not computed"""
    mean_next: dict[int, np.ndarray] = field(default_factory=dict[int, np.ndarray])
    """Means at Euler points, float32 [D] in [-1, 1], by query, where they came cheap with the first means"""

    def select(self, rows: np.ndarray) -> "Estimate":
        """The estimates at these positions."""
        columns = {name: getattr(self, name)[rows] for name in _COLUMNS}
        log_normaliser = None if self.log_normaliser is None else self.log_normaliser[rows]
        return Estimate(
            support=[self.support[row] for row in rows],
            log_normaliser=log_normaliser,
            mean_next={place: self.mean_next[row] for place, row in enumerate(rows) if row in self.mean_next},
            **columns,
        )


_COLUMNS = ("mean", "ess", "top_weight", "variance", "tail_mass", "support_size")


class Estimator(Protocol):
    """An estimator of E[x | z, sigma] over its population."""

    @property
    def population(self) -> Population:
        """The population of the posterior."""
        ...

    def estimate(self, queries: Queries) -> Estimate:
        """Posterior means of the queries; EstimatorError if one is not finite or outside [-1, 1]."""
        ...


def concatenate(parts: list[Estimate]) -> Estimate:
    """The estimates of all parts, in order; at least one part."""
    bounds = np.cumsum([0, *(len(part.support) for part in parts)])
    return assemble(parts, [np.arange(start, stop) for start, stop in pairwise(bounds)])


def assemble(parts: list[Estimate], positions: list[np.ndarray]) -> Estimate:
    """One estimate of all parts, whose queries were at these positions, int64, of 0 .. n - 1; at least one part."""
    if len(parts) == 1 and np.array_equal(positions[0], np.arange(len(positions[0]))):
        return parts[0]
    size = sum(len(position) for position in positions)
    columns = {
        name: np.empty((size, *getattr(parts[0], name).shape[1:]), getattr(parts[0], name).dtype) for name in _COLUMNS
    }
    support: list[tuple[np.ndarray, np.ndarray] | None] = [None] * size
    for part, position in zip(parts, positions, strict=True):
        for name, column in columns.items():
            column[position] = getattr(part, name)
        for place, pair in zip(position.tolist(), part.support, strict=True):
            support[place] = pair
    known = [part.log_normaliser for part in parts]
    log_normaliser = None if any(column is None for column in known) else np.empty(size)
    if log_normaliser is not None:
        log_normaliser[np.concatenate(positions)] = np.concatenate(known)  # type: ignore[arg-type]
    mean_next = {
        int(position[row]): mean
        for part, position in zip(parts, positions, strict=True)
        for row, mean in part.mean_next.items()
    }
    return Estimate(support=support, log_normaliser=log_normaliser, mean_next=mean_next, **columns)


def checked_means(mean: torch.Tensor, sigma: np.ndarray) -> np.ndarray:
    """The means as an array; EstimatorError if one is not finite or leaves the range of the images.

    Args:
        mean: float32 [B, D]. sigma: of the queries, float64 [B].
    """
    within = (mean.amax(1) <= 1.001) & (mean.amin(1) >= -1.001)  # NaN is not within
    bad = np.flatnonzero(~within.cpu().numpy())
    if len(bad):
        raise EstimatorError(
            f"posterior mean at sigma {float(sigma[bad[0]]):g} is not finite or outside [-1, 1]: "
            "z must be finite and made from the images of this store"
        )
    return to_host(mean)


def summarise(
    population: Population,
    queries: Queries,
    support: list[tuple[np.ndarray, np.ndarray]],
    tail_mass: np.ndarray,
    support_size: np.ndarray,
) -> Estimate:
    """The estimate whose means are weighted sums over the given supports.

    Args:
        support: for each query its distinct members and their weights, which sum to 1.
        tail_mass, support_size: columns of the estimate.
    """
    bounds = np.cumsum([0, *(len(member) for member, _ in support)])
    member, weight = (np.concatenate(column) for column in zip(*support, strict=True))
    mean_s, variance = moments(population, bounds, member, weight)
    return Estimate(
        mean=checked_means(from_integer_units(mean_s), queries.sigma),
        support=list(support),
        ess=1 / np.add.reduceat(weight**2, bounds[:-1]),
        top_weight=np.maximum.reduceat(weight, bounds[:-1]),
        variance=variance,
        tail_mass=tail_mass,
        support_size=support_size,
    )
