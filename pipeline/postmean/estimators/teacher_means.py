"""Means after z: at the Euler point of a tuple, and on the way to a far teacher point."""

from collections.abc import Callable

import numpy as np

from postmean.contract.teacher_path import path_mean
from postmean.contract.tuples import TupleBlock
from postmean.estimators.estimate import Estimate, HeldBy
from postmean.estimators.held import held_by_support

Support = tuple[np.ndarray, np.ndarray] | None
"""Entries and weights of a mean; None if they are too many."""
Means = Callable[[TupleBlock, np.ndarray, np.ndarray, HeldBy, int], Estimate]
"""(tuples, z float32 [n, D], sigma [n], entries that hold each posterior (see `held`), number of the point) ->
estimates."""


def euler_point_means(
    block: TupleBlock, z: np.ndarray, estimate: Estimate, means: Means
) -> tuple[np.ndarray, list[Support]]:
    """Means at the Euler points z + (sigma_next - sigma) (z - mean) / sigma, float32 [n, D], and their supports.

    At sigma_next = 0 the Euler point is the mean itself and Heun's step becomes Euler's: the mean is kept.

    Args:
        estimate: the means at z, and some at the Euler points.
    """
    assert block.sigma_next is not None
    mean_next = estimate.mean.copy()
    for row, known in estimate.mean_next.items():
        mean_next[row] = known
    rows = np.setdiff1d(np.flatnonzero(block.sigma_next > 0), list(estimate.mean_next))
    support: list[Support] = [None] * len(block)
    if len(rows):
        part = block.select(rows)
        assert part.sigma_next is not None
        first = estimate.select(rows)
        z_euler = first.mean + (part.sigma_next / part.sigma)[:, None] * (z[rows] - first.mean)
        held_by = held_by_support(first, part.sigma, part.sigma_next)
        later = means(part, z_euler, part.sigma_next, held_by, 1)
        mean_next[rows] = later.mean
        for row, pair in zip(rows, later.support, strict=True):
            support[row] = pair
    return mean_next, support


def path_means(
    block: TupleBlock, z: np.ndarray, estimate: Estimate, substeps: int, means: Means
) -> tuple[np.ndarray, list[Support]]:
    """Averages of the means on the way to the teacher points, float32 [n, D], and their supports.

    Args:
        estimate: the means at z.
    """
    assert block.sigma_next is not None
    found: list[list[tuple[int, Support]]] = [[] for _ in range(len(block))]
    begun, level = estimate, block.sigma.astype(np.float64)  # at the beginning of the sub-step
    alone = np.full(len(block), -1)  # the one image that all means so far are; -1: none

    def mean_at(rows: np.ndarray, point: np.ndarray, sigma: np.ndarray, number: int) -> np.ndarray:
        nonlocal begun, level
        if number == 0:
            there = estimate
        elif number % 2:
            held_by = held_by_support(begun.select(rows), level[rows], sigma)
            there = means(block.select(rows), point.astype(np.float32), sigma, held_by, number)
        else:
            # where one image holds both means before it, no other gains mass: see `held`, with Z = 1
            held_by = [np.array([one]) if one >= 0 else None for one in alone]
            there = begun = means(block, point.astype(np.float32), sigma, held_by, number)
            level = sigma
        for row, support in zip(rows.tolist(), there.support, strict=True):
            found[row].append((number, support))
            one = int(support[0][0]) if support is not None and len(support[0]) == 1 else -1
            alone[row] = one if number == 0 or one == alone[row] else -1
        return there.mean

    mean, weights = path_mean(z, block.sigma, block.sigma_next, substeps, mean_at)
    support = [_average([(weights[k, row], each) for k, each in of_row]) for row, of_row in enumerate(found)]
    return mean.astype(np.float32), support


def _average(parts: list[tuple[float, Support]]) -> Support:
    """The support of a weighted average of means; None if one of them has none."""
    entries, weights = [], []
    for weight, support in parts:
        if weight == 0:
            continue
        if support is None:
            return None
        entries.append(support[0])
        weights.append(weight * support[1])
    entry, place = np.unique(np.concatenate(entries), return_inverse=True)
    return entry, np.bincount(place, np.concatenate(weights))
