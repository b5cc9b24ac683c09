"""Means at Euler points from the weights at z: on a CPU, the second mean of a Heun pair takes half the time of the first.

With m the mean at z, rho = sigma' / sigma and a = 1/rho - 1, the weights p'_j at the Euler point m + rho (z - m) are
proportional to p_j exp(u_j) (see `held`), in integer units

    u_j = a / sigma^2 ((s_j - m).w - (1 + 1/rho) / 2 (|s_j|^2 - E|s|^2)),    w = z + m / rho,

so E u = 0 under p. With the differences d_j = p_j (exp(u_j) - 1) the mean there is m + sum_j d_j (s_j - m) / (1 + sum d).
Near rho = 1 all u_j are small. Then w needs one byte where z needs two, and hardly a difference is so large that one
byte is too coarse for it: two products instead of three, and fewer passes over the weights. See docs/certificate.md.
"""

import math

import numpy as np
import torch

from postmean.engine.dense_means import join_halves
from postmean.engine.masks import positions
from postmean.engine.population import SCALE, Population, from_integer_units, to_integer_units
from postmean.engine.products import Queries, int8_product, split
from postmean.engine.ragged import weighted_sums

_MOST_GAINED = 1.0
"""Largest u_j: above, most differences are as large as the weights, and a new softmax costs no more."""

_MOST_HEAVY = 512  # differences of a mean that are summed in float32: more cost as much as a new softmax
_SHARE = 1 / 8
"""Of `rounding`: what each of the two roundings here may cost in addition to the first mean's."""

_STEPS = 127  # of a rounded difference: a byte
_DITHER_KEY = 0x6575  # another one than that of the first mean, so that the two errors are independent


def euler_means(
    population: Population,
    weight_BM: torch.Tensor,
    z_BD: torch.Tensor,
    mean_BD: torch.Tensor,
    variance_B: np.ndarray,
    sigma_B: np.ndarray,
    sigma_next_B: np.ndarray,
    rounding: float,
) -> tuple[np.ndarray, torch.Tensor]:
    """Means at the Euler points z + (sigma_next - sigma) (z - mean) / sigma, for the rows where this is worth it.

    Args:
        population: on a CPU.
        weight_BM: the posterior at z, float32 [B, M].
        z_BD, mean_BD: z and its posterior means, float32 [B, D] in units of x.
        variance_B: of these posteriors, per dimension.
        sigma_B, sigma_next_B: float64 [B]; a row with sigma_next = 0 is left out.
        rounding: mean squared error per dimension allowed for rounding the first means; these get as much and a quarter.
    Returns:
        rows, int64 [n]; their means, float32 [n, D].
    """
    rows = _worthwhile(population, variance_B, sigma_B, sigma_next_B)
    if len(rows) == 0:
        return rows, mean_BD[:0]
    of_rows = torch.from_numpy(rows)
    z, mean = (to_integer_units(part[of_rows]) for part in (z_BD, mean_BD))
    inverse_rho = torch.from_numpy(sigma_B[rows] / sigma_next_B[rows])
    scale = (inverse_rho - 1) / torch.from_numpy((sigma_B[rows] * SCALE) ** 2)  # a / sigma^2
    w = z + mean * inverse_rho.to(torch.float32)[:, None]
    norm2 = mean.square().sum(1, dtype=torch.float64) + torch.from_numpy(variance_B[rows]) * population.dim * SCALE**2
    half = scale * (1 + inverse_rho) / 2
    offset = scale * torch.linalg.vecdot(mean.to(torch.float64), w.to(torch.float64)) - half * norm2
    # an error e per unit of distance moves the mean by Cov e, so its square is at most e^2 (tr Cov)^2
    allowed = math.sqrt(_SHARE * rounding / population.dim) / SCALE / np.maximum(variance_B[rows], 1e-30)
    if population.flips:
        w = torch.cat([w, population.flip(w)])
        scale, allowed = scale.repeat(2), np.tile(allowed, 2)
    pixels = population.pixels
    left = split(w, 1 / scale, pixels.columns, pixels.dtype, torch.from_numpy(allowed))
    step = math.sqrt(16 * _SHARE * rounding / len(population))  # as for the first means, see `dense_means`
    total, counted, mass, is_done = _sums(population, weight_BM, of_rows, left, half, offset, step)
    centre = population.mean_s.to(torch.float32)
    change = total.addr_(counted, centre, alpha=-1).add_((centre - mean) * mass[:, None]).div_(1 + mass[:, None])
    return rows[is_done], from_integer_units(mean + change)[torch.from_numpy(is_done)]


def _worthwhile(
    population: Population, variance_B: np.ndarray, sigma_B: np.ndarray, sigma_next_B: np.ndarray
) -> np.ndarray:
    """The rows whose u_j are all below _MOST_GAINED: by Jensen's inequality, u_j is at most a ln M + kappa E|x - m|^2."""
    with np.errstate(divide="ignore"):
        gain = sigma_B / sigma_next_B - 1
    kappa = gain * (1 + gain) / (2 * sigma_B**2)
    most = gain * math.log(len(population)) + kappa * variance_B * population.dim
    return np.flatnonzero(most <= _MOST_GAINED)


def _sums(
    population: Population,
    weight_BM: torch.Tensor,
    rows: torch.Tensor,
    left: Queries,
    half: torch.Tensor,
    offset: torch.Tensor,
    step: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, np.ndarray]:
    """Sums over all members for each of n rows of the weights.

    Args:
        left: a / sigma^2 w, with halves for flips. half, offset: u_j = left.s_j - half |s_j|^2 - offset, [n] each.
        step: differences are rounded to multiples of it, with dither; those of _STEPS of them or more are exact.
    Returns:
        sum_j d_j s_j of the rounded differences, float32 [n, D]; their sum, float32 [n]; sum_j d_j, float32 [n];
        bool [n], whether the row is done: it is not if too many differences are large.
    """
    pixels, count = population.pixels, len(rows)
    norm2 = population.norm2.to(torch.float32)
    minus_half, offset = -half.to(torch.float32)[:, None], (offset + math.log(step)).to(torch.float32)[:, None]
    dither = torch.from_numpy(
        np.random.Generator(np.random.Philox(key=_DITHER_KEY)).random(len(population), dtype=np.float32)
    )
    total = torch.zeros((population.halves * count, pixels.columns))
    counted, mass = torch.zeros(count, dtype=torch.float64), torch.zeros(count, dtype=torch.float64)
    heavy: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for start, stop, tile in pixels.tiles():
        product = left.times(tile, stop - start)
        for part, members in enumerate(population.members_of(start, stop)):
            block = slice(part * count, (part + 1) * count)
            # in steps: exp(u + ln(1 / step)) - 1 / step, times the weight
            d = product[block].addcmul_(norm2[members], minus_half).sub_(offset).exp_().sub_(1 / step)
            weight = weight_BM[:, members]
            d.mul_(weight if count == len(weight) else weight.index_select(0, rows))
            mass += d.sum(1)
            rounded = torch.clamp(d, -_STEPS, _STEPS).add_(dither[members]).floor_()
            counted += rounded.sum(1)
            rounded = rounded.to(torch.int8)
            total[block].add_(int8_product(rounded, tile.t()))
            row, column = positions(torch.from_numpy(np.abs(rounded.numpy()) == _STEPS))
            of_heavy = torch.from_numpy(row), torch.from_numpy(column)
            heavy.append((row, column + members.start, (d[of_heavy] - rounded[of_heavy]).numpy()))
    total = join_halves(population, total)
    row, member, excess = (np.concatenate(column) for column in zip(*heavy, strict=True))
    is_done = np.bincount(row, minlength=count) <= _MOST_HEAVY
    order = np.flatnonzero(is_done[row])
    order = order[np.argsort(row[order], kind="stable")]
    bounds = np.searchsorted(row[order], np.arange(count + 1))
    total += weighted_sums(population, bounds, member[order], excess[order])
    counted += torch.from_numpy(np.bincount(row[order], excess[order], minlength=count))
    return total * step, (counted * step).to(torch.float32), (mass * step).to(torch.float32), is_done
