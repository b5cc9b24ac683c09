"""Input and output of every estimator: queries in, posterior means and their quality out. No I/O, no Ray."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from postmean.base.errors import EstimatorError
from postmean.engine.population import Population


@dataclass(frozen=True)
class Queries:
    """B points whose posterior means are to be estimated.

    Means do not depend on the order of the points, but adjacent points of similar sigma share work. `Replica` passes
    them in rising sigma; no estimator sorts them again.
    """

    z: torch.Tensor
    """canonical z, float32 [B, D] on the population's device"""
    sigma: np.ndarray
    """float64 [B], > 0; on the host: the engine copies it to the device when needed"""
    source: np.ndarray
    """int64 [B], member of the population that each z was made from (for auto, stf and single-sample)"""
    generator: Callable[[int], np.random.Generator]
    """row -> the generator of its random draws: the same for a tuple in every batch"""
    from_source: np.ndarray | None = None
    """bool [B], whether z is x[source] + sigma eps, eps standard normal (an Euler point need not be); None: unknown"""

    def __post_init__(self) -> None:
        if not bool(torch.isfinite(self.z).all()) or not (self.sigma > 0).all():
            raise EstimatorError("queries: z must be finite and sigma above 0")

    def __len__(self) -> int:
        return len(self.z)

    def select(self, rows: np.ndarray) -> "Queries":
        """The queries at these positions."""
        index = torch.from_numpy(rows).to(self.z.device)
        return Queries(
            self.z[index],
            self.sigma[rows],
            self.source[rows],
            lambda row: self.generator(int(rows[row])),
            None if self.from_source is None else self.from_source[rows],
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

    def select(self, rows: np.ndarray) -> "Estimate":
        """The estimates at these positions."""
        columns = {name: getattr(self, name)[rows] for name in _COLUMNS}
        return Estimate(support=[self.support[row] for row in rows], **columns)


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
    joined = {name: np.concatenate([getattr(p, name) for p in parts]) for name in _COLUMNS}
    return Estimate(support=[s for p in parts for s in p.support], **joined)


def check_finite(estimate: Estimate, queries: Queries) -> Estimate:
    """Return the estimate; EstimatorError if a mean is not finite or leaves the range of the images."""
    bad = ~np.isfinite(estimate.mean).all(1) | (np.abs(estimate.mean).max(1, initial=0.0) > 1.001)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise EstimatorError(
            f"posterior mean at sigma {float(queries.sigma[row]):g} is not finite or outside [-1, 1]: "
            "z must be finite and made from the images of this store"
        )
    return estimate


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
    size = len(queries)
    mean = np.empty((size, population.dim), np.float32)
    columns = {name: np.empty(size) for name in ("ess", "top_weight", "variance")}
    for row, (member, weight) in enumerate(support):
        x = population.x(member)
        w = torch.from_numpy(weight.astype(np.float32)).to(x.device)
        m = w @ x
        mean[row] = m.cpu().numpy()
        columns["ess"][row] = 1 / np.sum(weight**2)
        columns["top_weight"][row] = weight.max()
        columns["variance"][row] = float(w @ (x - m).square_().sum(1)) / population.dim
    estimate = Estimate(mean, list(support), tail_mass=tail_mass, support_size=support_size, **columns)
    return check_finite(estimate, queries)
