"""Means at Euler points from the weights at z: on a CPU, Heun's second mean then takes about half of the first's time.

With m the mean at z, rho = sigma' / sigma and a = 1/rho - 1, the weights p'_j at the Euler point m + rho (z - m) are
proportional to p_j exp(u_j), in integer units

    u_j = a / sigma^2 ((s_j - m).w - (1 + 1/rho) / 2 (|s_j|^2 - E|s|^2)),    w = z + m / rho,

so E u = 0 under p. With the differences d_j = p_j (exp(u_j) - 1), the mean there is m + sum_j d_j (s_j - m) / (1 + S),
S = sum_j d_j. Near rho = 1 all u_j are small. So w mostly needs one byte where z needs two, and few differences are too
large for one byte. Where very many members share the weight, a sample of them gives the sum. See docs/certificate.md.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from postmean.engine.dense_means import largest_step
from postmean.engine.euler_sample import sums_over_sample
from postmean.engine.euler_sums import LogRatios, sums_of
from postmean.engine.population import SCALE, Population, from_integer_units, to_integer_units

_MOST_GAINED = 1.0
"""Largest bound of u_j: above, most differences are as large as the weights, and a new softmax costs no more."""

_ROUNDING_SHARE = 1 / 8
"""Of `rounding`: what rounding the differences may cost, and likewise rounding w."""

_SAMPLING_SHARE = 3 / 8
"""Of `rounding`: what a sample may cost."""


@dataclass(frozen=True)
class EulerSteps:
    """Posteriors at B points z, and where their Euler steps end."""

    weight: torch.Tensor
    """float32 [B, M]"""
    z: torch.Tensor
    """float32 [B, D] in units of x"""
    mean: torch.Tensor
    """float32 [B, D] in units of x"""
    ess: np.ndarray
    """float64 [B], 1 / sum of squared weights"""
    variance: np.ndarray
    """float64 [B], per dimension"""
    sigma: np.ndarray
    """float64 [B]"""
    sigma_next: np.ndarray
    """float64 [B], 0 where no mean is wanted"""


def euler_means(population: Population, steps: EulerSteps, rounding: float) -> tuple[np.ndarray, torch.Tensor]:
    """Means at the Euler points z + (sigma_next - sigma) (z - mean) / sigma, for the rows where this is worth it.

    Args:
        population: on a CPU.
        rounding: mean squared error per dimension allowed for rounding the first means. These means may have five
            eighths of it more.
    Returns:
        rows, int64 [n], rising; their means, float32 [n, D].
    """
    rows = _worthwhile(population, steps)
    ratios = _log_ratios(population, steps, rows, rounding)
    step = largest_step(_ROUNDING_SHARE * rounding, len(population))
    sums = sums_over_sample(population, steps.weight, ratios, steps.ess[rows], step, _SAMPLING_SHARE * rounding)
    others = np.flatnonzero(~sums.is_done)
    if len(others):
        sums.put(others, sums_of(population, steps.weight, ratios.select(others), step))
    done = np.flatnonzero(sums.is_done)
    of_done = torch.from_numpy(done)
    return rows[done], from_integer_units(ratios.mean[of_done] + sums.change[of_done])


def _worthwhile(population: Population, steps: EulerSteps) -> np.ndarray:
    """The rows whose u_j are all below _MOST_GAINED: by Jensen's inequality at most a ln M + kappa E|x - m|^2."""
    rows = np.flatnonzero(steps.sigma_next > 0)
    sigma = steps.sigma[rows]
    gain = sigma / steps.sigma_next[rows] - 1
    kappa = gain * (1 + gain) / (2 * sigma**2)
    most = gain * math.log(population.represented) + kappa * steps.variance[rows] * population.dim
    return rows[most <= _MOST_GAINED]


def _log_ratios(population: Population, steps: EulerSteps, rows: np.ndarray, rounding: float) -> LogRatios:
    """The u_j of these rows."""
    of_rows, sigma, variance = torch.from_numpy(rows), steps.sigma[rows], steps.variance[rows]
    z, mean = (to_integer_units(part[of_rows]) for part in (steps.z, steps.mean))
    inverse_rho = torch.from_numpy(sigma / steps.sigma_next[rows])
    scale = (inverse_rho - 1) / torch.from_numpy((sigma * SCALE) ** 2)
    w = z.addcmul_(mean, inverse_rho.to(torch.float32)[:, None])
    half = scale * (1 + inverse_rho) / 2
    norm2 = mean.square().sum(1) + torch.from_numpy(variance * (population.dim * SCALE**2))
    # float32 is enough: where the offset is off, sum d makes up for it
    offset = scale * (mean * w).sum(1) - half * norm2
    # an error e per unit of distance moves the mean by Cov e, so its square is at most e^2 (tr Cov)^2
    needed = math.sqrt(_ROUNDING_SHARE * rounding / population.dim) / SCALE / np.maximum(variance, 1e-30)
    return LogRatios(rows, mean, w, scale, half, offset, torch.from_numpy(needed))
