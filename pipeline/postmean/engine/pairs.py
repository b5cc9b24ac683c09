"""Posterior means over short lists of candidates, one list per query."""

from dataclasses import dataclass

import numpy as np
import torch

from postmean.engine.population import SCALE, Population, from_integer_units, to_integer_units
from postmean.engine.softmax import softmax


@dataclass(frozen=True)
class PairMeans:
    """Posterior over the candidates of each query."""

    weight: np.ndarray
    """float64 [P], normalised within each row"""
    mean: torch.Tensor
    """float32 [B, D] in [-1, 1]"""
    variance: np.ndarray
    """float64 [B], per dimension"""


def pair_means(
    population: Population, z: torch.Tensor, sigma: np.ndarray, row: np.ndarray, member: np.ndarray
) -> PairMeans:
    """Posterior weights and means over given candidates.

    log w_j = (2 u.d_j - |d_j|^2) / 2 sigma^2 in integer units, relative to the first candidate o of the row, where
    d_j = s_j - s_o is an exact integer difference and u = z - s_o. Both terms are of the size of the result, so
    nothing cancels.

    Args:
        z: float32 [B, D], in units of x, on the population's device.
        sigma: float64 [B].
        row, member: int64 [P], candidates ordered by row; each row has at least one.
    """
    bounds = np.searchsorted(row, np.arange(len(z) + 1))
    origin = population.rows(member[bounds[:-1]]).to(torch.float32)
    u = to_integer_units(z) - origin
    weight = np.ones(len(row))
    variance = np.zeros(len(z))
    # most queries at small sigma have a single candidate, which is the mean
    for r in np.flatnonzero(np.diff(bounds) > 1):
        others = slice(bounds[r] + 1, bounds[r + 1])
        d = population.rows(member[others]).to(torch.float32).sub_(origin[r])
        norm2 = torch.linalg.vecdot(d, d).to(torch.float64)
        exponent = (2 * (d @ u[r]).to(torch.float64) - norm2).cpu().numpy()
        log_w = exponent / (2 * (sigma[r] * SCALE) ** 2)
        w = softmax(np.append(0.0, log_w))
        weight[bounds[r] : bounds[r + 1]] = w
        shift = torch.from_numpy(w[1:].astype(np.float32)).to(z.device) @ d
        second = float(w[1:] @ norm2.cpu().numpy())
        variance[r] = max(0.0, second - float(shift.square().sum())) / population.dim / SCALE**2
        origin[r] += shift
    return PairMeans(weight, from_integer_units(origin), variance)
