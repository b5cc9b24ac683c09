"""Log-weights of the posterior over a whole population, by one pass over its pixels.

In integer units, log w_j = -|z - x_j|^2 / 2 sigma^2 is (z.s_j - |s_j|^2 / 2) / sigma^2, up to a constant per query.
The products omit a small part r of z (`products`). This shifts log w_j - log w_i by r.(s_j - s_i) / sigma^2.
"""

from dataclasses import dataclass

import numpy as np
import torch

from postmean.engine.population import SCALE, Population, to_integer_units
from postmean.engine.products import split
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
    # half of the error is left to float32; both bytes of z count in the distances of neighbours, whatever the weights
    needed = NEEDED_ERROR / 2 / population.spread * (pixels.dtype != torch.int8)
    queries = split(z, sigma2_B.repeat(population.halves), pixels.columns, pixels.dtype, needed)
    half_B1 = (-0.5 / sigma2_B).to(torch.float32)[:, None]
    norm2 = population.norm2.to(torch.float32)
    value = torch.empty((count, len(population)), dtype=torch.float32, device=z.device)
    for start, stop, tile in pixels.tiles():
        product = queries.times(tile, stop - start)
        for half, members in enumerate(population.members_of(start, stop)):
            rows = slice(half * count, (half + 1) * count)
            torch.addcmul(product[rows], norm2[members], half_B1, out=value[:, members])
    # at most |z| |s| + |s|^2 / 2; to look for the largest value would take two more passes over them
    norm = population.norm2.max().sqrt()
    largest_B = (torch.linalg.vector_norm(z[:count], dim=1) * norm + norm.square() / 2) / sigma2_B
    return LogWeights(value, queries.error[:count] * population.spread + 3 * torch.finfo(torch.float32).eps * largest_B)
