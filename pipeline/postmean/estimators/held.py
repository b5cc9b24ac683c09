"""Which members hold the posterior at the Euler point: those that held it at z, so Heun's second point needs no search.

With m the posterior mean at z and rho = sigma' / sigma, the Euler point is z' = m + rho (z - m). For every image x,

    |z' - x|^2 / 2 sigma'^2 = |z - x|^2 / (2 rho sigma^2) + kappa |m - x|^2 + constant,

with kappa = (1 - rho) / (2 rho^2 sigma^2). So p'_j is proportional to p_j^(1/rho) exp(-kappa |m - x_j|^2), which is at
most p_j. Members outside of a set with weights w_i have at most 1/Z of the mass at z' that they have at z, where

    Z = sum_i w_i^(1/rho) exp(-kappa |m - x_i|^2) >= exp(-(1/rho - 1) H - kappa V)

by Jensen's inequality, with H the entropy of the w_i and V = sum_i w_i |m - x_i|^2. See docs/certificate.md.
"""

import math

import numpy as np

from postmean.estimators.estimate import Estimate

_LEAST_LOG_Z = math.log(0.5)
"""Members outside may have twice their mass at z: what leaving them out may cost at z is half of the tolerance."""


def held_by_support(estimate: Estimate, sigma: np.ndarray, sigma_next: np.ndarray) -> list[np.ndarray | None]:
    """For each query the members, int64, that hold the posterior at its Euler point; None where that is not known.

    Args:
        estimate: means at z, whose supports leave out what may cost half of the tolerance.
        sigma, sigma_next: [B] each, 0 < sigma_next < sigma.
    """
    square = estimate.variance * estimate.mean.shape[1]
    held: list[np.ndarray | None] = []
    for row, pair in enumerate(estimate.support):
        log_z = -math.inf if pair is None else least_log_z(pair[1], square[row], sigma[row], sigma_next[row])
        held.append(pair[0] if pair is not None and log_z >= _LEAST_LOG_Z else None)
    return held


def least_log_z(weight: np.ndarray, square: float, sigma: float, sigma_next: float) -> float:
    """Lower bound of ln Z.

    Args:
        weight: of the members of the set, sums to 1. square: V.
    """
    rho = float(sigma_next) / float(sigma)
    kappa = (1 - rho) / (2 * rho**2 * float(sigma) ** 2)
    w = weight[weight > 0].astype(np.float64)
    entropy = -float(w @ np.log(w))
    return -(1 / rho - 1) * entropy - kappa * float(square)
