"""Log-weights of the posterior over a whole population, by one pass over its pixels.

In integer units, log w_j = -|z - x_j|^2 / 2 sigma^2 is (z.s_j - |s_j|^2 / 2) / sigma^2, up to a constant per query.
The products omit a small part r of z (`products`). This shifts log w_j - log w_i by r.(s_j - s_i) / sigma^2.
"""

from dataclasses import dataclass

import numpy as np
import torch

from postmean.engine.population import SCALE, Population, to_integer_units
from postmean.engine.products import Float16Queries, Int8Queries
from postmean.engine.refine import NEEDED_ERROR


@dataclass(frozen=True)
class LogWeights:
    """Log-weights of B queries over the M members of a population."""

    value: torch.Tensor
    """float32 [B, M], up to a constant per row"""
    error: torch.Tensor
    """float64 [B], about the standard deviation of the error of value_j - value_i: the omitted r, and float32"""


def log_weights(population: Population, z_BD: torch.Tensor, sigma_B: np.ndarray) -> LogWeights:
    """Log-weights of every member.

    Takes one pass over the pixels, and 4 B M bytes of memory besides one tile and its product.

    Args:
        z_BD: canonical z, float32 [B, D] in units of x, on the population's device.
        sigma_B: noise levels, float64 [B], on the host.
    """
    pixels, count = population.pixels, len(z_BD)
    z = to_integer_units(z_BD)
    if population.flips:
        z = torch.cat([z, population.flip(z)])
    sigma2_B = torch.from_numpy((sigma_B * SCALE) ** 2).to(z.device)
    value = torch.empty((count, len(population)), dtype=torch.float32, device=z.device)
    write = _by_float16 if pixels.dtype == torch.float16 else _by_int8
    error_B = write(value, population, z, sigma2_B.repeat(population.halves))[:count]
    # at most |z| |s| + |s|^2 / 2; to look for the largest value would take two more passes over them
    norm = population.norm2.max().sqrt()
    largest_B = (torch.linalg.vector_norm(z[:count], dim=1) * norm + norm.square() / 2) / sigma2_B
    return LogWeights(value, error_B * population.spread + 3 * torch.finfo(torch.float32).eps * largest_B)


def _by_int8(value: torch.Tensor, population: Population, z: torch.Tensor, sigma2: torch.Tensor) -> torch.Tensor:
    """Write log-weights of z, in integer units, and with flips of mirrored z below; their `error`."""
    # both bytes of z count in the distances of neighbours, whatever the weights
    queries = Int8Queries(z, sigma2, population.pixels.columns, torch.zeros((), dtype=torch.float64, device=z.device))
    minus_half = (-0.5 / sigma2).to(torch.float32)[:, None]
    norm2 = population.norm2.to(torch.float32)
    for start, stop, tile in population.pixels.tiles():
        product = queries.times(tile, stop - start)
        for half, members in enumerate(population.members_of(start, stop)):
            rows = slice(half * len(value), (half + 1) * len(value))
            torch.addcmul(product[rows], norm2[members], minus_half[rows], out=value[:, members])
    return queries.error


def _by_float16(value: torch.Tensor, population: Population, z: torch.Tensor, sigma2: torch.Tensor) -> torch.Tensor:
    """As `_by_int8`."""
    needed = NEEDED_ERROR / 2 / population.spread  # the other half of the error is left to float32
    queries = Float16Queries(z, sigma2, population.pixels.columns, needed)
    for start, stop, tile in population.pixels.tiles():
        product = queries.times(tile)
        for half, members in enumerate(population.members_of(start, stop)):
            rows = slice(half * len(value), (half + 1) * len(value))
            torch.mul(product[rows, : stop - start], queries.scale[rows], out=value[:, members])
    return queries.error
