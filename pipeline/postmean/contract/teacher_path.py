"""The path to a far teacher point: Heun sub-steps of the probability-flow ODE, and the one mean that stands for them.

dz/dsigma = (z - E[x | z, sigma]) / sigma is, in y = z / sigma and u = 1 / sigma, the ODE dy/du = E[x | z, sigma]. So
the end of any path from (z, sigma) to sigma_next is

    z_next = x_path + sigma_next / sigma (z - x_path),

where x_path averages the means on the way. It is the target of progressive distillation (Salimans & Ho 2022, App. G),
and in the place of the mean it makes an Euler step reach z_next, as consistency distillation needs (Song et al. 2023).
Heun's method in u gives both means of a sub-step the same weight, so x_path stays among the images however far the
step is. (In sigma, the paper's choice for near teacher points, the first weight is negative where sigma halves.)
"""

from collections.abc import Callable

import numpy as np

from postmean.contract.tuples import SIGMA_MIN

MeanAt = Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]
"""(rows of the tuples, z float64 [n, D], sigma float64 [n], number of the evaluation) -> posterior means [n, D]"""
_RHO = 7.0


def path_mean(
    z: np.ndarray, sigma: np.ndarray, sigma_next: np.ndarray, substeps: int, mean_at: MeanAt
) -> tuple[np.ndarray, np.ndarray]:
    """x_path, float64 [B, D], and the weight in it of each of the 2 substeps evaluations, float64 [2 substeps, B].

    Evaluation 2 k is at the beginning of sub-step k, 2 k + 1 at its Euler point. The last is left out, with weight 0,
    of tuples whose sigma_next is 0.

    Args:
        z: [B, D].
        sigma, sigma_next: [B], 0 <= sigma_next <= sigma.
    """
    levels = substep_levels(sigma, sigma_next, substeps)
    weights = path_weights(levels)
    every, point = np.arange(len(z)), z.astype(np.float64)
    path = np.zeros_like(point)
    for step in range(substeps):
        upper, lower = levels[step], levels[step + 1]
        ratio = (lower / upper)[:, None]
        first = mean_at(every, point, upper, 2 * step)
        later, moves = first.copy(), np.flatnonzero(lower > 0)
        if len(moves):
            euler = first[moves] + ratio[moves] * (point[moves] - first[moves])
            later[moves] = mean_at(moves, euler, lower[moves], 2 * step + 1)
        path += weights[2 * step][:, None] * first + weights[2 * step + 1][:, None] * later
        both = (first + later) / 2
        point = both + ratio * (point - both)
    return path, weights


def substep_levels(sigma: np.ndarray, sigma_next: np.ndarray, substeps: int) -> np.ndarray:
    """Falling levels from sigma to sigma_next, float64 [substeps + 1, B], spaced as by Karras et al. 2022, Eq. 5."""
    high, low = (np.asarray(level, np.float64) ** (1 / _RHO) for level in (sigma, sigma_next))
    levels = (high + np.linspace(0, 1, substeps + 1)[:, None] * (low - high)) ** _RHO
    levels[0], levels[-1] = sigma, sigma_next
    levels = np.where(levels > 0, np.maximum(levels, SIGMA_MIN), 0.0)
    return np.minimum.accumulate(np.maximum(levels, levels[-1]))  # whatever the rounding of near levels


def path_weights(levels: np.ndarray) -> np.ndarray:
    """Weights of the means in x_path, float64 [2 substeps, B]; each >= 0, and those of a tuple sum to 1."""
    # sub-step k moves z to m + ratio (z - m): its m keeps a share 1 - ratio, times the ratios of later sub-steps
    ratio = levels[1:] / levels[:-1]
    later = np.ones_like(ratio)
    later[:-1] = np.cumprod(ratio[:0:-1], axis=0)[::-1]
    share = (1 - ratio) * later
    total = share.sum(0)
    at_once = np.zeros_like(share)
    at_once[0] = 1  # sigma_next = sigma: the limit is the mean at z
    share = np.divide(share, total, out=at_once, where=total > 0)
    first = np.where(ratio > 0, share / 2, share)
    return np.stack([first, share - first], axis=1).reshape(-1, levels.shape[1])
